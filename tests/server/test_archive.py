"""A series in an archive is measured before it is read, whatever the archive's table says of it."""

from __future__ import annotations

import struct
import tracemalloc
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

pytest.importorskip("fastapi")
pytest.importorskip("pydicom")

import pydicom
from pydicom.uid import DeflatedExplicitVRLittleEndian

from segpipe.errors import DataError
from segpipe.server import worker
from segpipe.server.archive import check_deflated, check_pixels, series_in
from segpipe.server.faults import RequestError
from segpipe.server.look import check_archive
from segpipe.server.models import Served
from segpipe.server.scan import volume_of
from segpipe.server.settings import Limits
from tests.dicom.series import Series, save

SIDE, SLICES = 256, 4
PIXELS = SIDE * SIDE * SLICES


def series(folder: Path, deflated: bool, stored: int = SIDE) -> Path:
    """A zip of a series of air. The bytes of its slices are in the archive as they are.

    Args:
        stored: side of the pictures that are written; their headers say `SIDE`.
    """
    pixels = np.zeros((SLICES, stored, stored), np.uint16)
    made = Series(stored=pixels, size=(SIDE, SIDE), heights=[2.5 * k for k in range(SLICES)]).write(folder / "series")
    if deflated:
        for path in made.paths:
            save(pydicom.dcmread(path), path, syntax=DeflatedExplicitVRLittleEndian)
    with zipfile.ZipFile(folder / "series.zip", "w") as archive:
        for path in made.paths:
            archive.write(path, path.name)
    return folder / "series.zip"


def test_slices_that_are_deflated_inside_are_measured_by_what_they_inflate_to(tmp_path: Path) -> None:
    path = series(tmp_path, deflated=True)
    assert path.stat().st_size < PIXELS // 50
    with pytest.raises(DataError, match="inflates to more than 0 MB"):
        check_deflated(path, 2 * PIXELS - 1)
    check_deflated(path, 2 * PIXELS + 4 * 2000)
    assert len(series_in(path, ["CT"], []).images) == 1


def test_slices_without_a_preamble_and_plain_ones_are_not_inflated(tmp_path: Path) -> None:
    check_deflated(series(tmp_path, deflated=False), 0)
    bare = Series(preamble=False).write(tmp_path / "bare")
    with zipfile.ZipFile(tmp_path / "bare.zip", "w") as archive:
        for path in bare.paths:
            archive.write(path, path.name)
        archive.writestr("text", b"I am no DICOM" * 100)
    check_deflated(tmp_path / "bare.zip", 0)


def test_headers_that_promise_too_many_pixels_are_refused(tmp_path: Path) -> None:
    path = series(tmp_path, deflated=False, stored=8)
    scan = series_in(path, ["CT"], [])
    with pytest.raises(DataError, match="unpacks to 1 MB; at most 1"):
        check_pixels(scan, path, 4 * PIXELS - 1)
    check_pixels(scan, path, 4 * PIXELS)


@pytest.mark.parametrize("deflated", [True, False])
def test_a_job_with_too_much_in_its_archive_fails_before_it_is_read(deflated: bool, tmp_path: Path) -> None:
    path = series(tmp_path, deflated, SIDE if deflated else 8)
    facts = SimpleNamespace(channels=["CT"], kinds=lambda policy: SimpleNamespace(series=[]))
    segmenter = cast(Any, SimpleNamespace(task=SimpleNamespace(facts=facts)))
    for most, word in ((PIXELS, "MB"), (5 * PIXELS, "")):
        job = {"id": "a", "most_bytes": most}
        if not word:
            assert worker._scan_of(job, [path], segmenter).case == "a/result/labels"
            continue
        with pytest.raises(DataError, match=word):
            worker._scan_of(job, [path], segmenter)


def test_an_archive_with_a_very_long_table_is_refused_before_the_table_is_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "long.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a", b"x")
    data = path.read_bytes()
    place, end = data.find(b"PK\x01\x02"), data.find(b"PK\x05\x06")
    table = data[place:end] * (24 << 20 >> 6)
    tail = bytearray(data[end:])
    struct.pack_into("<HHII", tail, 8, 0xFFFF, 0xFFFF, len(table), place)
    path.write_bytes(data[:place] + table + bytes(tail))
    tracemalloc.start()
    try:
        with pytest.raises(RequestError, match="more than 20000 files") as caught:
            check_archive(path, "long.zip", Limits())
        assert caught.value.status == 413
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_the_components_of_a_vector_are_measured_too(tmp_path: Path) -> None:
    path = tmp_path / "0000.nrrd"
    path.write_bytes(
        b"NRRD0004\ntype: short\ndimension: 4\nspace: left-posterior-superior\nsizes: 300 8 8 8\n"
        b"space directions: none (1,0,0) (0,1,0) (0,0,1)\nkinds: vector domain domain domain\nencoding: raw\nendian: little\n"
        b"space origin: (0,0,0)\n\n" + bytes(2 * 300 * 8**3)
    )
    with pytest.raises(DataError, match="unpacks to"):
        worker._check_size([path], 4 * 300 * 8**3 - 1)
    worker._check_size([path], 4 * 300 * 8**3)


def test_a_series_that_is_damaged_after_its_job_is_told_by_its_own_name_and_fault(tmp_path: Path) -> None:
    path = series(tmp_path, deflated=False)
    model = cast(Served, SimpleNamespace(channels=("CT",), series=()))
    assert volume_of([path], model, "head.zip").array.shape == (1, SIDE, SIDE, SLICES)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("1.dcm", b"\0" * 128 + b"DICM" + b"damaged")
    with pytest.raises(DataError, match=r"^head\.zip/1\.dcm: is DICOM, and does not say of what kind") as caught:
        volume_of([path], model, "head.zip")
    assert str(tmp_path) not in str(caught.value)
