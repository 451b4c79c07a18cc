"""Label maps that people have corrected, kept with their scans as a data set that can be trained on.

    DIR/images/<case>.nii.gz    one channel; of several <case>_0000.nii.gz and so on
    DIR/labels/<case>.nii.gz    corrected
    DIR/labels.json             names of the label values, one set a folder
    DIR/corrections.csv         a line each time that one was saved: the scan, the job, and the model that made the label map

A case is called as the scan was, and by its job: `<scan>_<job>`. Scans are written anew: nothing but voxels and their place leaves their
headers.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
import threading
import unicodedata
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from segpipe.errors import ConfigError, SegpipeError
from segpipe.geometry.grid import CORNER_TOLERANCE_MM, Volume
from segpipe.io.atomic import flush_folder, write_text
from segpipe.io.find import split_name
from segpipe.io.read import apart_mm, count_channels, read_grid, read_label
from segpipe.io.write import write_label_map, write_volume
from segpipe.server.faults import not_now, refused
from segpipe.server.models import Served
from segpipe.server.store import Job

LABELS, TABLE = "labels.json", "corrections.csv"
_COLUMNS = ("saved", "case", "scan", "job", "model", "version", "model_sha256")
_SUFFIX, _ARCHIVE = ".nii.gz", ".zip"
_LONGEST = 40
"""Letters of a scan's name: of four bytes each, beside a job's id, they are no longer than the name of a file may be."""
_FORMULA = ("=", "+", "-", "@")
_ONE = threading.Lock()
"""One at a time: each takes the memory of a scan."""


def case_of(folder: Path, job: Job) -> str:
    """What the corrected case of a job is called: its scan's name in letters, digits, - and _ (any script's), and its id.

    One that was saved before scans gave their names keeps the id alone, so that it is replaced and not there twice.
    """
    if label_path(folder, job.id).is_file():
        return job.id
    stem = split_name(Path(job.name.removesuffix(_ARCHIVE)))[0]
    name = re.sub(r"[^\w-]+", "_", unicodedata.normalize("NFC", stem)).strip("_-")[:_LONGEST]
    return f"{name or 'scan'}_{job.id}"


def label_path(folder: Path, case: str) -> Path:
    """Where the corrected label map of a case lies, if there is one."""
    return folder / "labels" / f"{case}{_SUFFIX}"


def keep(folder: Path, job: Job, model: Served, scan: Volume, predicted: Path, corrected: Path) -> str:
    """Put a corrected label map, and the scan that it was drawn on, into the data set, in the place of an earlier one of the same job.

    Args:
        scan: (C, I, J, K).
        predicted: label map of the job.
        corrected: what somebody has made of it.

    Returns:
        The name of the case.

    Raises:
        RequestError: it does not lie on the scan, or holds other values than labels of the model (400); the data set has other labels,
            or cannot be written, or the scan lies otherwise than its label map (409).
    """
    with _ONE:
        case = case_of(folder, job)
        grid = read_grid(predicted)
        array = _checked(corrected, predicted, model)
        if not scan.grid.same_as(grid):
            raise not_now("the slices of this series lean, and it was made upright for the network: its label map lies on no volume")
        try:
            _name_labels(folder, model)
            for number in range(scan.channels):
                channel = f"_{number:04d}" if scan.channels > 1 else ""
                write_volume(folder / "images" / f"{case}{channel}{_SUFFIX}", Volume(scan.array[number : number + 1], grid))
            _tell(folder, case, job)
            write_label_map(label_path(folder, case), array, grid)  # last: an image without a label map is no case
        except ConfigError as error:
            raise not_now(str(error).replace(str(folder), "the folder of corrections")) from error
    return case


def _tell(folder: Path, case: str, job: Job) -> None:
    """Add a line to the table, on the disk before this returns; what people do to the lines before stays.

    Raises:
        ConfigError: it cannot be written.
    """
    path = folder / TABLE
    scan = f"'{job.name}" if job.name.startswith(_FORMULA) else job.name  # a spreadsheet would compute it
    row = (datetime.now(UTC).isoformat(timespec="seconds"), case, scan, job.id, *job.identity)
    try:
        if not path.exists():
            write_text(path, _line(_COLUMNS))
        with path.open("rb+") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 1))
            torn = file.read(1) not in (b"", b"\n")  # by a power cut, or by an editor
            file.write(b"\n" * torn + _line(row).encode())
            file.flush()
            os.fsync(file.fileno())
        flush_folder(folder)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written ({error.strerror}): whoever has it open must close it, or make room") from error


def _line(values: tuple[str, ...]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(values)
    return text.getvalue()


def check_size(corrected: Path, predicted: Path) -> None:
    """Refuse, by its header, a label map that has not one number for each voxel of its scan: what is too large is not unpacked.

    Raises:
        RequestError: it has not.
        SegpipeError: a header cannot be read.
    """
    there, here = read_grid(corrected), read_grid(predicted)
    if there.shape != here.shape:
        raise refused(f"the label map has {there.shape} voxels; must have those of its scan, {here.shape}")
    components = count_channels(corrected)
    if components != 1:
        raise refused(f"the label map has {components} components; must be one number a voxel")


def _checked(corrected: Path, predicted: Path, model: Served) -> np.ndarray[tuple[int, ...], np.dtype[np.integer]]:
    try:
        check_size(corrected, predicted)
        apart = apart_mm(corrected, predicted)
        if apart > CORNER_TOLERANCE_MM:
            raise refused(
                f"the label map lies {apart:.3g} mm from its scan at a corner; must lie on it: save it with the place of the scan"
            )
        array = read_label(corrected).array
    except SegpipeError as error:
        raise refused(str(error).replace(str(corrected), "the label map")) from error
    values = np.unique(array)
    known = [label["value"] for label in model.labels]
    foreign = [value for value in values.tolist() if value not in known]
    if foreign:
        raise refused(f"the label map holds the value {foreign[0]:g}; must hold those of {model.id} alone: {', '.join(map(str, known))}")
    whole: np.ndarray[tuple[int, ...], np.dtype[np.integer]] = array[0].astype(np.int64)
    return whole


def _name_labels(folder: Path, model: Served) -> None:
    """Raises:
    RequestError: the data set has other labels, or belongs to somebody else (409).
    """
    text = json.dumps({str(label["value"]): label["name"] for label in model.labels}, indent=2)
    path = folder / LABELS
    if not path.exists():
        write_text(path, text)
    elif path.read_text(encoding="utf-8") != text:
        raise not_now(
            f"the folder of corrections has other labels than {model.id} ({LABELS} there): the server needs another --corrections"
        )
