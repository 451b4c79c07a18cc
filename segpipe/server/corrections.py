"""Label maps that people have corrected, kept with their scans as a data set that can be trained on.

    DIR/images/<job>.nii.gz     one channel; of several <job>_0000.nii.gz and so on
    DIR/labels/<job>.nii.gz     corrected
    DIR/labels.json             names of the label values, one set a folder

Scans are written anew: nothing but voxels and their place leaves their headers.
"""

from __future__ import annotations

import json
import threading
from pathlib import Path

import numpy as np

from segpipe.errors import SegpipeError
from segpipe.geometry.grid import CORNER_TOLERANCE_MM, Volume
from segpipe.io.atomic import write_text
from segpipe.io.read import apart_mm, count_channels, read_grid, read_label
from segpipe.io.write import write_label_map, write_volume
from segpipe.server.faults import not_now, refused
from segpipe.server.models import Served

LABELS = "labels.json"
_SUFFIX = ".nii.gz"
_ONE = threading.Lock()
"""One at a time: each takes the memory of a scan."""


def label_path(folder: Path, job: str) -> Path:
    """Where the corrected label map of a job lies, if there is one."""
    return folder / "labels" / f"{job}{_SUFFIX}"


def keep(folder: Path, job: str, model: Served, scan: Volume, predicted: Path, corrected: Path) -> None:
    """Put a corrected label map, and the scan that it was drawn on, into the data set.

    Args:
        job: its id, which names the case.
        scan: (C, I, J, K).
        predicted: label map of the job.
        corrected: what somebody has made of it.

    Raises:
        RequestError: it does not lie on the scan, or holds other values than labels of the model (400); the data set has other labels, or
            the scan lies otherwise than its label map (409).
        ConfigError: the data set cannot be written.
    """
    with _ONE:
        grid = read_grid(predicted)
        array = _checked(corrected, predicted, model)
        if not scan.grid.same_as(grid):
            raise not_now("the slices of this series lean, and it was made upright for the network: its label map lies on no volume")
        _name_labels(folder, model)
        for number in range(scan.channels):
            channel = f"_{number:04d}" if scan.channels > 1 else ""
            write_volume(folder / "images" / f"{job}{channel}{_SUFFIX}", Volume(scan.array[number : number + 1], grid))
        write_label_map(label_path(folder, job), array, grid)  # last: an image without a label map is no case


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
