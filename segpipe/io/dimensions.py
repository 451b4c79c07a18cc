"""A file's dimensions, as three in space and one of channels."""

from __future__ import annotations

from collections.abc import Sequence

from segpipe.errors import DataError
from segpipe.geometry.grid import Shape

CHANNELS_AT_MOST = 8
"""A fourth dimension up to this length is read as channels (the Medical Segmentation Decathlon stores T2 + ADC or four MR contrasts
so); a longer one is a time series."""

_DIMENSIONS = 5


def space_and_channels(sizes: Sequence[int]) -> tuple[Shape, int]:
    """Split sizes in the order (i, j, k, time or channel, vector component); missing ones count as 1.

    Returns:
        The spatial shape and the number of channels.

    Raises:
        DataError: an empty dimension, more than five, or a time series.
    """
    if not sizes or min(sizes) < 1:
        raise DataError(f"its dimensions are {tuple(sizes)}; each must be at least 1: the header is damaged, export the scan again")
    i, j, k, series, vector, *more = [*sizes, *[1] * (_DIMENSIONS - len(sizes))]
    if max(more, default=1) > 1:
        raise DataError(f"it has the dimensions {tuple(sizes)}; must be one 3D scan: split it into one file a scan")
    if series > CHANNELS_AT_MOST or (series > 1 and vector > 1):
        raise DataError(f"it is a time series of {series} volumes; must be one 3D scan: split it into one file a volume")
    return (i, j, k), series * vector
