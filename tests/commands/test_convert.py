"""segpipe convert and segpipe inspect of DICOM, through the installed command."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from segpipe.commands.convert import convert
from segpipe.errors import ConfigError, DataError
from segpipe.io.read import read_volume
from tests.conftest import REPOSITORY, Run
from tests.dicom.series import Made, Series, enhanced, furthest_mm, turned


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Seven series: regular, oblique, tilted, with a gap, a localizer, a copied slice, one that does not say where it lies."""
    Series(seed=1, number=1).write(tmp_path / "in" / "Secret_Name" / "1")
    Series(seed=2, number=2, axes=turned(20, 30, 40)).write(tmp_path / "in" / "2")
    Series(seed=3, number=3, tilt=15).write(tmp_path / "in" / "3")
    Series(seed=4, number=4, heights=[0, 2, 4, 8, 10], origin=(0, 0, 0)).write(tmp_path / "in" / "4")
    Series(seed=5, number=5, more={"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}).write(tmp_path / "in" / "5")
    copied = Series(seed=6, number=6).write(tmp_path / "in" / "6")
    (tmp_path / "in" / "6" / "again").write_bytes(copied.paths[0].read_bytes())
    Series(seed=7, number=7, without=["PixelSpacing"]).write(tmp_path / "in" / "7")
    (tmp_path / "in" / "viewer.exe").write_bytes(b"MZ" * 400)
    return tmp_path / "in"


def test_each_accepted_series_becomes_a_file_in_its_place(folder: Path, tmp_path: Path, segpipe: Run) -> None:
    run = segpipe("convert", str(folder), "out")
    assert run.returncode == 3, run.stderr
    files = {path.name.split("_")[1].removesuffix(".nii.gz"): path for path in (tmp_path / "out").iterdir()}
    assert set(files) == {"1", "2", "3", "6"}
    assert "1 slice(s) are missing: 1 between 4.00 and 8.00 mm" in run.stdout.replace("│", "").replace("\n", "") or "4.00 and" in run.stdout
    assert "left out" in run.stdout
    assert "Secret" not in run.stdout + run.stderr
    for number, series in ((1, Series(seed=1)), (2, Series(seed=2, axes=turned(20, 30, 40))), (6, Series(seed=6))):
        image = nib.load(files[str(number)])
        made = Made([], series.world(), series.values())
        volume = read_volume(files[str(number)])
        assert np.allclose(image.affine, volume.grid.affine, atol=1e-6)
        assert furthest_mm(volume.array, volume.grid, made) < 0.001


def test_a_policy_decides_what_is_converted(folder: Path, tmp_path: Path, forked: Run) -> None:
    run = forked("convert", str(folder), "out", "--policy", "gap=resample,tilted=accept", "--policy", "duplicate=refuse")
    assert run.returncode == 3, run.stderr
    files = {path.name.split("_")[1].removesuffix(".nii.gz"): path for path in (tmp_path / "out").iterdir()}
    assert set(files) == {"1", "2", "3", "4"}
    assert nib.load(files["4"]).shape[2] == 6
    sheared = Series(seed=3, tilt=15)
    volume = read_volume(files["3"])
    assert furthest_mm(volume.array, volume.grid, Made([], sheared.world(), sheared.values())) < 0.001
    wrong = forked("convert", str(folder), "out2", "--policy", "gap=accept")
    assert wrong.returncode == 2
    assert "must be one of refuse, resample" in wrong.stderr


def test_files_that_are_there_are_not_replaced_unasked(folder: Path, tmp_path: Path) -> None:
    convert(folder / "2", tmp_path / "out", (), False)
    with pytest.raises(ConfigError, match="is there already"):
        convert(folder / "2", tmp_path / "out", (), False)
    assert convert(folder / "2", tmp_path / "out", (), True).exit_code == 0


def test_a_place_without_dicom_is_told(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(DataError, match="holds no DICOM"):
        convert(tmp_path, tmp_path / "out", (), False)


def test_inspect_lists_series_and_what_predict_would_do(folder: Path, tmp_path: Path, forked: Run) -> None:
    run = forked("inspect", str(folder), "--json", "found.json")
    assert run.returncode == 3, run.stderr
    for word in ("regular", "tilted", "gap", "duplicate", "unusable", "a localizer", "repair", "refuse"):
        assert word in run.stdout, word
    assert "Secret" not in run.stdout
    assert "1.2.3" not in run.stdout
    found = json.loads((tmp_path / "found.json").read_text())
    assert {one["series_number"]: one["predict"] for one in found["stacks"]} == {
        1: "accept",
        2: "accept",
        3: "resample",
        4: "refuse",
        6: "accept",
        7: "refuse",
    }
    assert found["left_out"][0]["why"] == "a localizer"
    assert "patient" not in found["stacks"][0]
    assert "Secret" not in json.dumps([{**one, "files": []} for one in found["stacks"]])


def test_inspect_shows_names_only_when_asked_and_reads_archives(folder: Path, tmp_path: Path, forked: Run) -> None:
    with zipfile.ZipFile(tmp_path / "cd.zip", "w") as packed:
        for path in (folder / "2").iterdir():
            packed.write(path, f"DICOM/{path.name}")
    run = forked("inspect", str(tmp_path / "cd.zip"), "--ids", "--json", "found.json")
    assert run.returncode == 0, run.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["stacks"][0]["patient"] == "Secret^Name"
    assert found["stacks"][0]["series_uid"] == "1.2.3.2"
    converted = forked("convert", str(tmp_path / "cd.zip"), "out")
    assert converted.returncode == 0, converted.stderr
    assert len(list((tmp_path / "out").iterdir())) == 1


def test_damaged_files_are_listed_and_make_exit_code_3(tmp_path: Path, forked: Run) -> None:
    made = Series().write(tmp_path / "in")
    made.paths[7].write_bytes(made.paths[7].read_bytes()[:200])
    run = forked("inspect", "in")
    assert run.returncode == 3
    assert "IM0007" in run.stdout
    assert "Traceback" not in run.stdout + run.stderr


def test_a_data_set_with_a_fault_is_still_told_as_one(tmp_path: Path, forked: Run) -> None:
    made = Series().write(tmp_path / "set" / "dicom")
    (tmp_path / "set" / "images").mkdir()
    image = nib.Nifti1Image(np.zeros((3, 3, 3), np.uint8), np.eye(4))
    nib.save(image, tmp_path / "set" / "images" / "a.nii.gz")
    assert made.paths
    run = forked("inspect", "set")
    assert run.returncode == 3
    assert "error:" in run.stderr
    assert "DICOM series" not in run.stdout


def test_without_pydicom_one_line_says_what_to_install(tmp_path: Path, segpipe: Run) -> None:
    Series().write(tmp_path / "in")
    blocked = tmp_path / "blocked" / "sitecustomize.py"
    blocked.parent.mkdir()
    blocked.write_text("import sys\nsys.modules['pydicom'] = None\n")
    for command in (["convert", "in", "out"], ["inspect", "in"]):
        run = segpipe(*command, PYTHONPATH=os.pathsep.join([str(blocked.parent), str(REPOSITORY)]))
        assert run.returncode == 3
        assert run.stderr.count("\n") == 1
        assert "pip install 'segpipe[dicom]'" in run.stderr


def test_a_multi_frame_file_alone_is_converted(tmp_path: Path, forked: Run) -> None:
    enhanced(Series(axes=turned(5, 6, 7)), tmp_path / "one.dcm")
    run = forked("convert", "one.dcm", "out")
    assert run.returncode == 0, run.stderr
    assert len(list((tmp_path / "out").iterdir())) == 1
