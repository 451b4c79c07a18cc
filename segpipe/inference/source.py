"""A scan's files -> what the networks see, and the way of the label map back onto the scan: they differ for tilted DICOM series alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from segpipe.dicom.request import read_slices
from segpipe.dicom.straighten import Lean, lie_back
from segpipe.geometry.grid import Grid, Volume
from segpipe.inference.examination import Examination
from segpipe.io.read import read_channels, read_volume

if TYPE_CHECKING:
    from segpipe.inference.restoration import Prediction


@dataclass(frozen=True, eq=False)
class WayBack:
    """How a label map of the volume that was read comes onto the scan.

    Attributes:
        lean: of a tilted stack that was made upright; None where the volume lies on the scan's own grid.
        notes: what was repaired, one phrase each.
        modalities: of each channel, such as `CT`; empty where the scan does not tell.
    """

    lean: Lean | None = None
    notes: tuple[str, ...] = ()
    modalities: tuple[str, ...] = ()

    def grid(self, grid: Grid) -> Grid:
        """Of the label map, where the volume's is `grid`."""
        return grid if self.lean is None else self.lean.slices

    def onto(self, prediction: Prediction, labels: Sequence[tuple[int, str]]) -> Prediction:
        """The prediction on the scan's grid, its voxels counted there.

        Args:
            labels: value and name of each, the background first.
        """
        if self.lean is None:
            return prediction
        shares = prediction.probabilities
        if shares is not None:
            laid = np.empty((len(shares), *self.lean.slices.shape), dtype=shares.dtype)
            for one, there in zip(shares, laid, strict=True):
                there[...] = lie_back(one, self.lean)
            shares = laid
        array = lie_back(prediction.labels, self.lean)
        voxels = dict.fromkeys(prediction.voxels, 0)
        for value, name in labels[1:]:
            voxels[name] = voxels.get(name, 0) + int((array == value).sum())
        return replace(prediction, labels=array, probabilities=shares, voxels=voxels)


AS_READ = WayBack()
"""The volume lies on the scan's own grid."""


def open_scan(scan: Examination) -> tuple[Volume, WayBack]:
    """The volume that the networks see, and the way back from it.

    Raises:
        DataError, GeometryError: it cannot be read.
    """
    if scan.slices is not None:
        read = read_slices(scan.slices)
        return read.volume, WayBack(read.lean, read.notes, read.modalities)
    return (read_volume(scan.images[0]) if len(scan.images) == 1 else read_channels(scan.images)), AS_READ
