"""The scan of a job in memory, once a worker has read it and so shown that it can be read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from segpipe.dicom.channels import Wanted
from segpipe.errors import DataError, GeometryError
from segpipe.geometry.grid import Volume
from segpipe.inference.source import open_scan
from segpipe.io.read import read_channels, read_volume
from segpipe.server.archive import series_in
from segpipe.server.models import Served
from segpipe.server.upload import ARCHIVE


def volume_of(files: Sequence[Path], model: Served, name: str) -> Volume:
    """All channels of a scan, on the first one's grid.

    Args:
        files: of the job, see `Job`.
        name: what its sender calls it; stands in errors, where the paths of this machine must not.

    Raises:
        DataError, GeometryError: it cannot be read any more.
    """
    try:
        if files[0].suffix == ARCHIVE:
            return _of_series(files[0], model)
        return read_volume(files[0]) if len(files) == 1 else read_channels(files)
    except (DataError, GeometryError) as error:
        text = str(error)
        for path in files:
            text = text.replace(str(path), name)
        raise type(error)(text) from error


def _of_series(path: Path, model: Served) -> Volume:
    scan = series_in(path, model.channels, [Wanted(name, which) for name, which in model.series])
    if scan.problem:
        raise DataError(scan.problem)
    return open_scan(scan)[0]
