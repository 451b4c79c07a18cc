"""The five names that other programs use."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import segpipe
from segpipe.errors import ConfigError, DataError
from segpipe.geometry.grid import Grid
from segpipe.io.read import read_volume
from segpipe.io.write import write_label_map, write_volume

from .conftest import MakeModel, blocks_volume, expected_labels


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    path = tmp_path / "in" / "scan.nii.gz"
    path.parent.mkdir()
    write_volume(path, blocks_volume())
    return path


def test_a_volume_a_file_and_a_folder_give_the_same_label_map(make_model: MakeModel, scan: Path, tmp_path: Path) -> None:
    model = segpipe.load_model(make_model().path, "cpu", precision="fp32")
    expected = expected_labels(blocks_volume().array)
    assert np.array_equal(segpipe.predict_volume(model, read_volume(scan)).labels, expected)
    assert np.array_equal(segpipe.predict_file(model, scan, tmp_path / "labels.nrrd").labels, expected)
    assert np.array_equal(read_volume(tmp_path / "labels.nrrd").array[0], expected)
    (row,) = segpipe.predict_folder(model, scan.parent, tmp_path / "out")
    assert row.status == "done"
    assert np.array_equal(read_volume(tmp_path / "out/scan.nii.gz").array[0], expected)


def test_several_files_are_an_ensemble(make_model: MakeModel, scan: Path) -> None:
    paths = [str(make_model("a.ts").path), make_model("b.ts").path]
    model = segpipe.load_model(paths, "cpu", tta=True)
    assert model.passes == 2 * 2 ** sum(model.plan.flips)
    assert isinstance(segpipe.predict_volume(model, read_volume(scan)).labels, np.ndarray)


def test_a_scan_is_never_overwritten_by_its_label_map(make_model: MakeModel, scan: Path) -> None:
    before = scan.read_bytes()
    with pytest.raises(ConfigError, match="is the scan, and would be overwritten"):
        segpipe.predict_file(segpipe.load_model(make_model().path, "cpu"), scan, scan.parent / ".." / "in" / scan.name)
    assert scan.read_bytes() == before


def test_importing_segpipe_loads_no_torch_and_knows_no_other_names() -> None:
    code = "import segpipe, sys; print('torch' in sys.modules, segpipe.__all__, hasattr(segpipe, 'train'))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert run.stdout == "False ['Volume', 'load_model', 'predict_file', 'predict_folder', 'predict_volume'] False\n"


def test_a_picture_is_no_scan_for_a_model_of_volumes(make_model: MakeModel, tmp_path: Path) -> None:
    picture = tmp_path / "scan.png"
    write_label_map(picture, np.zeros((8, 8, 1), dtype=np.uint8), Grid((8, 8, 1), np.eye(4)))
    with pytest.raises(DataError, match=r"scan.png: is a picture, without millimetres"):
        segpipe.predict_file(segpipe.load_model(make_model().path, "cpu"), picture, tmp_path / "labels.nii.gz")
    assert not (tmp_path / "labels.nii.gz").exists()
