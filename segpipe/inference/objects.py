"""The DICOM objects of a scan beside its label map: `out/CASE_seg.dcm` and so on."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from segpipe.dicom.writing.record import Maker, Record
from segpipe.dicom.writing.results import record_of, redated, write_results
from segpipe.dicom.writing.source import check_source, read_source
from segpipe.dicom.writing.wanted import result_files
from segpipe.errors import DataError
from segpipe.inference.examination import Examination
from segpipe.inference.task import NO_SERIES, Task
from segpipe.io.atomic import write_bytes


def check_series(scan: Examination) -> None:
    """Refuse, before the networks are asked, a scan of which no object can be made.

    Raises:
        DataError: it is no DICOM, or lacks what objects must refer to.
    """
    if scan.slices is None:
        raise DataError(f"{scan.images[0]}: {NO_SERIES}")
    check_source(scan.slices)


def write_objects(task: Task, scan: Examination, labels: NDArray[Any], warnings: Sequence[str]) -> None:
    """Write what is asked for, each file whole or not at all; nothing where nothing is.

    An object that lies there already and is the same keeps its date, so that its bytes are the same too.

    Args:
        labels: (I, J, K) of label values on the scan's grid.
        warnings: what the table says of the scan, one phrase each; every object says it too.

    Raises:
        DataError, GeometryError: an object cannot be made.
        ConfigError: a file cannot be written.
    """
    wanted = task.options.wanted
    if not wanted.kinds or scan.slices is None:
        return
    maker = Maker(task.facts.task, task.facts.sha256, task.facts.options, tuple(warnings))
    files = result_files(task.out / scan.case, wanted.kinds)
    record = record_of(read_source(scan.slices), labels, task.facts.table, wanted, maker, datetime.now().replace(microsecond=0))
    record = _dated(record, files)
    for path, (_, data) in zip(files, write_results(record, labels), strict=True):
        write_bytes(path, data)


def _dated(record: Record, files: list[Path]) -> Record:
    there = [redated(record, kind, path) for kind, path in zip(record.wanted.kinds, files, strict=True) if path.exists()]
    return next((one for one in there if one is not None), record)
