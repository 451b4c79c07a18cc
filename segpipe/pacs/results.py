"""The DICOM files that a prediction has written of a scan, and whether they still are its results."""

from __future__ import annotations

from pathlib import Path

from segpipe.errors import DataError
from segpipe.inference.ledger import Ledger
from segpipe.inference.outputs import known_files, state
from segpipe.inference.table import Row
from segpipe.pacs.faults import LaterError

ENDING = ".dcm"


def objects_of(out: Path, row: Row) -> list[Path]:
    """Those files of a scan that is done that end in `.dcm`, of those that the row says were written of it; sorted.

    No other file is one of them, whatever its name: `H_7_te90_seg.dcm` is of another scan than `H_7`.

    Raises:
        DataError: the label map was corrected since, and the objects beside it are still those of the prediction.
    """
    if row.status not in ("done", "skipped"):
        return []
    known = known_files(out, row)
    found = sorted(path for path in known if path.suffix == ENDING and path.is_file())
    if found:
        _check_label_map(out, row, f"the {len(found)} DICOM object(s) beside it are those of the prediction and are not sent")
    return found


def check_current(out: Path, case: str, path: Path) -> None:
    """Whether an object that has waited to be sent is what the ledger has of its scan now, which may be another than then.

    Args:
        path: of the object, in `out`.

    Raises:
        LaterError: the scan is just being written again.
        DataError: it was segmented again and has no such object now, or its label map or the object was changed since.
        ConfigError: the ledger cannot be read.
    """
    with Ledger(out) as ledger:
        row = ledger.get(case)
    if row is not None and row.status == "started":
        raise LaterError(f"{path}: its scan is being written again, or was when a call was stopped: give that command again", alone=True)
    known = known_files(out, row)
    if row is None or path not in known:
        raise DataError(f"{path}: is no result of {case} any more, as the ledger has it; must be one: segment the scan again")
    if state(path, known) == "changed":
        raise DataError(f"{path}: was changed since it was written; must be as it was: segment the scan again with --overwrite")
    _check_label_map(out, row, "this object is that of the prediction and is not sent")


def _check_label_map(out: Path, row: Row, so: str) -> None:
    if state(out / row.output, known_files(out, row)) == "changed":
        cure = "make objects of the corrected one, or give --overwrite to have the prediction again"
        raise DataError(f"{row.case}: its label map was corrected: {so}; {cure}")
