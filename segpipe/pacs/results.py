"""The DICOM files that a prediction has written of a scan."""

from __future__ import annotations

import re
from pathlib import Path

from segpipe.inference.outputs import known_files
from segpipe.inference.table import Row

ENDING = ".dcm"
_REST = re.compile(r"(\.[^/]*|_[A-Za-z][^/]*)?", re.DOTALL)
"""What follows the case in the name of a file of it: not `_2`, which makes another case."""


def objects_of(out: Path, row: Row) -> list[Path]:
    """Those files of a scan that is done that end in `.dcm`, whether the table lists them or they lie beside its label map as
    `CASE.dcm`, `CASE.seg.dcm` or `CASE_seg.dcm`; sorted."""
    if row.status not in ("done", "skipped"):
        return []
    name = row.case.rpartition("/")[2]
    folder = (out / row.case).parent
    beside = folder.iterdir() if folder.is_dir() else ()
    found = {path for path in known_files(out, row) if path.suffix == ENDING and path.is_file()}
    for path in beside:
        rest = path.name.removeprefix(name).removesuffix(ENDING)
        if path.name.startswith(name) and path.suffix == ENDING and path.is_file() and _REST.fullmatch(rest):
            found.add(path)
    return sorted(found)
