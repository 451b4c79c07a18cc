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


def test_what_is_given_the_wrong_way_says_what_is_right(make_model: MakeModel, tmp_path: Path) -> None:
    path = make_model().path
    model = segpipe.load_model(path, "cpu", precision="fp32")
    with pytest.raises(ConfigError, match=r"given a ndarray; must be a Volume: segpipe.Volume.of\(array, affine\)"):
        segpipe.predict_volume(model, blocks_volume().array)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"model.ts, a file; must be auto, .* several model files are given as one list"):
        segpipe.load_model(path, path)  # type: ignore[arg-type]
    volume = blocks_volume()
    given = segpipe.Volume.of(volume.array[0], volume.grid.affine)
    assert np.array_equal(segpipe.predict_volume(model, given).labels, expected_labels(volume.array))


def test_mirrorings_that_the_plan_forbids_are_told_and_change_nothing(
    make_model: MakeModel, scan: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = make_model("sided.ts", flips=(False, False, False)).path
    plain, mirrored = segpipe.load_model(path, "cpu"), segpipe.load_model(path, "cpu", tta=True)
    assert "nothing is mirrored: the plan of the model allows it along no axis" in caplog.text
    assert (mirrored.flips, mirrored.passes) == (plain.flips, plain.passes) == (False, 1)
    segpipe.predict_folder(plain, scan.parent, scan.parent.parent / "out")
    (row,) = segpipe.predict_folder(mirrored, scan.parent, scan.parent.parent / "out")
    assert row.status == "skipped"
