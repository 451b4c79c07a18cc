"""The scan of a job in memory, once a worker has read it and so shown that it can be read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from segpipe.dicom.channels import Wanted
from segpipe.geometry.grid import Volume
from segpipe.inference.source import open_scan
from segpipe.io.read import read_channels, read_volume
from segpipe.server.archive import series_in
from segpipe.server.models import Served
from segpipe.server.upload import ARCHIVE


def volume_of(files: Sequence[Path], model: Served) -> Volume:
    """All channels of a scan, on the first one's grid.

    Args:
        files: of the job, see `Job`.

    Raises:
        DataError, GeometryError: it cannot be read.
    """
    if files[0].suffix == ARCHIVE:
        return open_scan(series_in(files[0], model.channels, [Wanted(name, which) for name, which in model.series]))[0]
    return read_volume(files[0]) if len(files) == 1 else read_channels(files)
