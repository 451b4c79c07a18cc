"""The one scan in a zip archive of DICOM, which is never unpacked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from segpipe.dicom.channels import Wanted
from segpipe.dicom.policy import Policy
from segpipe.errors import DataError
from segpipe.inference.examination import Examination
from segpipe.inference.series import gather_series


def series_in(path: Path, channels: Sequence[str], series: Sequence[Wanted]) -> Examination:
    """The scan, refused ones with the reason as their problem.

    Args:
        channels: of the model.
        series: which series is which channel; none: the model takes one.

    Raises:
        DataError: the archive holds none, or several.
    """
    found = gather_series([path], path.parent, channels, (Policy(), series), tell=False)
    whole = [scan for scan in found if not scan.problem]
    if not found:
        raise DataError(f"{path}: holds no DICOM that is a scan; must hold the slices of one series: zip the folder of the series")
    if len(whole) > 1:
        raise DataError(f"{path}: holds {len(whole)} series that could be the scan; must hold one: zip the folder of that series alone")
    return (whole or found)[0]
