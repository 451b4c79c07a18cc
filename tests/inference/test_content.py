"""Whether a scan is still the same, by its content."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from segpipe.errors import DataError
from segpipe.geometry.grid import Grid, Volume
from segpipe.inference.content import file_hash, scan_hash
from segpipe.io.write import write_volume

SHAPE = (4, 3, 2)


def write(path: Path, value: int) -> None:
    write_volume(path, Volume(np.full((1, *SHAPE), value, np.int16), Grid(SHAPE, np.eye(4))))


def test_other_content_of_the_same_size_and_time_has_another_hash(tmp_path: Path) -> None:
    path, found = tmp_path / "a.nii", set()
    for value in (1, 2):
        write(path, value)
        os.utime(path, (0, 0))
        found.add(scan_hash([path, path]))
    assert len(found) == 2
    os.utime(path, (9, 9))
    assert scan_hash([path, path]) in found
    path.unlink()
    with pytest.raises(DataError, match="cannot be read"):
        file_hash(path)


def test_a_header_with_its_voxels_elsewhere_counts_with_them(tmp_path: Path) -> None:
    path = tmp_path / "a.mhd"
    write(path, 1)
    header, before = path.read_bytes(), scan_hash([path])
    write(path, 2)
    assert path.read_bytes() == header and scan_hash([path]) != before
    nrrd = tmp_path / "a.nrrd"
    nrrd.write_text("NRRD0004\ntype: short\ndimension: 3\nsizes: 4 3 2\nendian: little\nencoding: raw\ndata file: a.raw\n", "ascii")
    before = scan_hash([nrrd])
    write(path, 3)
    assert scan_hash([nrrd]) != before


@pytest.mark.parametrize("name", ["a.mha", "a.nrrd", "a.nii.gz"])
def test_a_file_that_holds_its_voxels_is_only_hashed_once(tmp_path: Path, name: str) -> None:
    write(tmp_path / name, 1)
    assert scan_hash([tmp_path / name]) == file_hash(tmp_path / name)
