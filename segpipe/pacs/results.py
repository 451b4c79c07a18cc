"""The DICOM files that a prediction has written of a scan."""

from __future__ import annotations

from pathlib import Path

from segpipe.errors import DataError
from segpipe.inference.outputs import known_files, state
from segpipe.inference.table import Row

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
    if found and state(out / row.output, known) == "changed":
        raise DataError(
            f"{row.case}: its label map was corrected: the {len(found)} DICOM object(s) beside it are those of the prediction and "
            "are not sent; make objects of the corrected one, or give --overwrite to have the prediction again"
        )
    return found
