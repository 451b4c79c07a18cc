"""What the tests of DICOM results start from: series whose every pixel is numbered, labels laid onto pixels, and the worlds of both."""

from __future__ import annotations

import shutil
import subprocess
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray

from segpipe.dicom.listing import list_stacks
from segpipe.dicom.policy import parse_policy
from segpipe.dicom.request import read_slices, slices_of
from segpipe.dicom.terms import SegmentLabel, parse_term
from segpipe.dicom.writing.record import Maker, Record
from segpipe.dicom.writing.results import record_of, write_results
from segpipe.dicom.writing.source import Source, read_source
from segpipe.dicom.writing.wanted import Kind, Wanted, result_files
from segpipe.geometry.grid import Grid
from tests.dicom.series import Made

MAKER = Maker("prostate", "ab" * 32, "overlap=0.5")
WHEN = datetime(2026, 3, 4, 5, 6, 7)
TABLE = (
    SegmentLabel(1, "PZ", parse_term(["SCT 279706003 Peripheral zone of the prostate"]), (230, 159, 0)),
    SegmentLabel(7, "TZ", parse_term(["SCT 399384005 Transition zone of the prostate"])),
)


def needs_highdicom() -> Any:
    """Skip a module of tests where the library is missing."""
    return pytest.importorskip("highdicom", reason="highdicom is not installed: pip install 'segpipe[dicom]'")


def given(folder: Path, policy: str = "tilted=accept") -> tuple[Source, NDArray[Any]]:
    """The source of the one series in `folder`, and its pixels' numbers (I, J, K) as read."""
    (stack,) = list_stacks([path for path in folder.rglob("*") if path.is_file()]).stacks
    slices = slices_of(stack, parse_policy([policy]))
    return read_source(slices), read_slices(slices).volume.array[0]


def blobs(shape: tuple[int, ...], seed: int = 0) -> NDArray[np.uint8]:
    """Labels 1 and 7 in boxes with holes, several parts, on both rims; (K, rows, columns)."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(shape, dtype=np.uint8)
    labels[1:-1, 1:6, 1:7] = 1
    labels[1:-1, 2:4, 2:5] = 0
    labels[2, :2, -2:] = 7
    labels[-1, -1, 0] = 7
    labels[rng.random(shape) < 0.05] = 7
    return labels


def laid(pixel_labels: NDArray[Any], numbers: NDArray[Any]) -> NDArray[Any]:
    """Labels of numbered pixels -> the label map (I, J, K) of the volume in which they were found."""
    return pixel_labels.ravel()[numbers.astype(np.int64)]


def record(source: Source, labels: NDArray[Any], kinds: tuple[Kind, ...], table: Any = TABLE, **more: Any) -> Record:
    when = more.pop("when", WHEN)
    maker = more.pop("maker", MAKER)
    return record_of(source, labels, table, Wanted(kinds, **more), maker, when)


def written(source: Source, labels: NDArray[Any], out: Path, *kinds: Kind, table: Any = TABLE, **more: Any) -> list[Path]:
    """The files of the results."""
    made = record(source, labels, kinds, table, **more)
    paths = result_files(out / "case", kinds)
    out.mkdir(parents=True, exist_ok=True)
    for path, (_, data) in zip(paths, write_results(made, labels), strict=True):
        path.write_bytes(data)
    return paths


def faults(path: Path) -> list[str]:
    """What dciodvfy, which shares no line with pydicom, calls an error."""
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy is not installed (Debian package dicom3tools)")
    told = subprocess.run(["dciodvfy", "-new", str(path)], capture_output=True, text=True, timeout=60)
    assert "Error" in told.stderr or told.stderr.strip(), "dciodvfy names at least the kind of object"
    return [line for line in told.stderr.splitlines() if line.startswith("Error")]


def seg_points(ds: Any) -> dict[int, set[tuple[float, ...]]]:
    """World positions, RAS+ in hundredths of a mm, of each segment's voxels."""
    return {number: rounded(places) for number, places in seg_places(ds).items()}


def seg_on(ds: Any, grid: Grid) -> dict[int, NDArray[np.bool_]]:
    """Masks (I, J, K) of each segment; every voxel of it must lie in the middle of one of `grid`."""
    masks = {}
    for number, places in seg_places(ds).items():
        index = np.linalg.solve(grid.affine, np.c_[places, np.ones(len(places))].T)[:3]
        assert not index.size or np.abs(index - np.round(index)).max() < 0.01
        masks[number] = np.zeros(grid.shape, dtype=bool)
        masks[number][tuple(np.round(index).astype(int))] = True
    return masks


def seg_places(ds: Any) -> dict[int, NDArray[np.float64]]:
    """World positions, RAS+ mm, of each segment's voxels, from frames and functional groups alone."""
    frames = np.asarray(ds.pixel_array).reshape(-1, ds.Rows, ds.Columns)
    shared = ds.SharedFunctionalGroupsSequence[0]
    orientation = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, dtype=float)
    spacing = np.array(shared.PixelMeasuresSequence[0].PixelSpacing, dtype=float)
    found: dict[int, list[NDArray[np.float64]]] = {}
    for frame, groups in zip(frames, ds.PerFrameFunctionalGroupsSequence, strict=True):
        position = np.array(groups.PlanePositionSequence[0].ImagePositionPatient, dtype=float)
        rows, columns = np.nonzero(frame)
        places = position + rows[:, None] * spacing[0] * orientation[3:] + columns[:, None] * spacing[1] * orientation[:3]
        group = groups if "SegmentIdentificationSequence" in groups else shared
        number = group.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        found.setdefault(int(number), []).append(places * (-1, -1, 1))
    return {number: np.concatenate(each) for number, each in found.items()}


def true_points(made: Made, pixel_labels: NDArray[Any], values: tuple[int, ...] = (1, 7)) -> dict[int, set[tuple[float, ...]]]:
    """The same, from the definition of the series."""
    return {number: rounded(made.world[pixel_labels == value]) for number, value in enumerate(values, 1)}


def rounded(places: NDArray[np.float64]) -> set[tuple[float, ...]]:
    return {tuple(place) for place in np.round(places, 2) + 0.0}


def read(path: Path) -> Any:
    return pydicom.dcmread(path)
