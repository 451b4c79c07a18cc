"""`segpipe inspect`: tables for people, JSON for programs, and an exit code that says whether a training can start."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from rich.console import Console

from segpipe.commands.inspect import inspect
from segpipe.commands.outcome import Outcome
from segpipe.errors import ConfigError
from segpipe.settings import DatasetSettings


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three cases of 4x5x6 voxels of 2x2x5 mm with 1, 2 and 3 slices of label 7."""
    random = np.random.default_rng(0)
    for number, name in enumerate("abc", 1):
        label = np.zeros((4, 5, 6), np.uint8)
        label[:, :, :number] = 7
        for folder, array in (("images", random.normal(size=label.shape).astype(np.float32)), ("labels", label)):
            (tmp_path / folder).mkdir(exist_ok=True)
            nib.save(nib.Nifti1Image(array, np.diag([2.0, 2.0, 5.0, 1.0])), tmp_path / folder / f"{name}.nii.gz")
    return tmp_path


def text(outcome: Outcome, width: int = 200) -> str:
    console = Console(width=width)
    with console.capture() as capture:
        for item in outcome.shown:
            console.print(item)
    return capture.get()


def test_a_clean_data_set_can_be_trained_and_its_volumes_are_told(root: Path) -> None:
    path = root / "report.json"
    outcome = inspect(DatasetSettings(root=str(root), label_names={"7": "gland"}), path)
    assert outcome.exit_code == 0
    document = json.loads(path.read_text())
    assert document["can_train"] is True
    assert document["counts"] == {"cases": 3, "labelled": 3, "unreadable": 0, "errors": 0, "warnings": 0}
    assert document["labels"]["7"]["name"] == "gland"
    ml = 4 * 5 * 2 * 2 * 5 / 1000
    assert document["labels"]["7"]["ml"] == pytest.approx({"min": ml, "median": 2 * ml, "max": 3 * ml})
    assert document["fingerprint"]["spacings_mm"][0] == [2.0, 2.0, 5.0]
    assert [case["case"] for case in document["cases"]] == ["a", "b", "c"]


def test_tables_show_names_grids_volumes_and_the_verdict(root: Path) -> None:
    shown = text(inspect(DatasetSettings(root=str(root), label_names={"7": "gland"})))
    for word in ("folders", "gland", "spacing mm median", "RAS 3", "0.4", "1.2", "Training can start: 0 error(s), 0 warning(s)."):
        assert word in shown


def test_an_error_gives_exit_code_3_and_is_shown_with_file_and_cure(root: Path) -> None:
    (root / "images" / "b.nii.gz").write_bytes(b"rubbish")
    (root / "labels" / "c.nii.gz").unlink()
    outcome = inspect(DatasetSettings(root=str(root)), root / "report.json")
    assert outcome.exit_code == 3
    document = json.loads((root / "report.json").read_text())
    assert document["can_train"] is False
    assert [(finding["severity"], finding["case"]) for finding in document["findings"]] == [("error", "b"), ("error", "c")]
    assert all(finding["file"] and finding["what"] and finding["cure"] for finding in document["findings"])
    assert "images/b.nii.gz" in text(outcome)
    assert "Training cannot start: 2 error(s)" in text(outcome)


def test_a_data_set_without_one_readable_scan_still_gives_a_report(root: Path) -> None:
    for path in root.glob("*/*.nii.gz"):
        path.write_bytes(b"rubbish")
    outcome = inspect(DatasetSettings(root=str(root)), root / "report.json")
    assert outcome.exit_code == 3
    document = json.loads((root / "report.json").read_text())
    assert (document["fingerprint"], document["counts"]["unreadable"]) == (None, 3)


def test_values_that_json_does_not_know_become_null(root: Path) -> None:
    path = root / "images" / "a.nii.gz"
    nib.save(nib.Nifti1Image(np.full((4, 5, 6), np.nan, np.float32), np.diag([2.0, 2.0, 5.0, 1.0])), path)
    assert inspect(DatasetSettings(root=str(root)), root / "report.json").exit_code == 3
    assert json.loads((root / "report.json").read_text())["cases"][0]["images"][0]["nonfinite"] == 120


def test_a_report_that_cannot_be_written_is_refused(root: Path) -> None:
    with pytest.raises(ConfigError, match="a folder has that name"):
        inspect(DatasetSettings(root=str(root)), root)
    with pytest.raises(ConfigError):
        inspect(DatasetSettings(root=str(root)), root / "images" / "a.nii.gz" / "report.json")


def test_lines_below_tables_and_the_path_have_the_width_of_the_terminal(root: Path) -> None:
    turns = {"a": (-2.0, 2.0, 5.0), "b": (2.0, -2.0, 5.0), "c": (2.0, 2.0, 5.0)}
    for name, diagonal in turns.items():
        for folder in ("images", "labels"):
            path = root / folder / f"{name}.nii.gz"
            nib.save(nib.Nifti1Image(np.asarray(nib.load(path).dataobj), np.diag([*diagonal, 1.0])), path)
    lines = text(inspect(DatasetSettings(root=str(root)))).splitlines()
    assert "orientation of the files: LAS 1, RPS 1, RAS 1" in [line.strip() for line in lines]
    assert any(str(root) in line for line in lines)
