from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from segpipe.errors import DataError
from segpipe.evaluation.folder import evaluate_pairs
from segpipe.evaluation.names import LabelNames
from segpipe.evaluation.pairs import find_pairs
from segpipe.io.read import read_volume

AFFINE = np.diag([1.0, 1.0, 3.0, 1.0])


def box(value: int, size: int, shape=(12, 10, 6)) -> np.ndarray:
    array = np.zeros(shape, np.uint8)
    array[2 : 2 + size, 2 : 2 + size, 1 : 1 + size // 2] = value
    return array


def save(path: Path, array: np.ndarray, affine=AFFINE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, affine), path)


@pytest.fixture
def folders(tmp_path):
    return tmp_path / "p", tmp_path / "t"


def run(folders, names=None, **options):
    return evaluate_pairs(find_pairs(*folders), names or LabelNames(), **options)


def test_a_broken_a_moved_and_a_mismatched_case_do_not_stop_the_others(folders):
    prediction, truth = folders
    for case in "abcd":
        save(truth / f"{case}.nii.gz", box(1, 6))
        save(prediction / f"{case}.nii.gz", box(1, 6))
    (prediction / "b.nii.gz").write_bytes(b"no scan at all")
    save(prediction / "c.nii.gz", box(1, 6), AFFINE + np.eye(4, k=3) * 2)
    save(prediction / "d.nii.gz", box(1, 6, (12, 10, 7)))
    result = run(folders)
    assert [case.case for case in result.cases] == ["a"]
    assert sorted(result.errors) == ["b", "c", "d"]
    assert "2 mm" in result.errors["c"]
    assert "(12, 10, 7)" in result.errors["d"]
    for case, what in result.errors.items():
        assert str(prediction / f"{case}.nii.gz") in what
    assert all("\n" not in what for what in result.errors.values())


def test_without_any_usable_case_the_first_reason_is_raised(folders):
    save(folders[1] / "a.nii.gz", box(1, 6))
    save(folders[0] / "a.nii.gz", box(1, 6, (12, 10, 7)))
    with pytest.raises(DataError, match=r"none of 1 cases.*a: .*\(12, 10, 7\)"):
        run(folders)


def test_a_case_too_large_for_the_memory_does_not_stop_the_others(folders, monkeypatch):
    for case in "ab":
        for folder in folders:
            save(folder / f"{case}.nii.gz", box(1, 6))

    def read(path):
        if path.name == "a.nii.gz":
            raise MemoryError
        return read_volume(path)

    monkeypatch.setattr("segpipe.evaluation.folder.read_label", read)
    result = run(folders)
    assert "not enough memory" in result.errors["a"]
    assert [case.case for case in result.cases] == ["b"]


def test_labels_of_any_truth_are_judged_in_every_case(folders):
    for case, value in (("a", 3), ("b", 9)):
        for folder in folders:
            save(folder / f"{case}.nii.gz", box(value, 6))
    result = run(folders, LabelNames(0, {3: "liver"}))
    assert result.labels == {3: "liver", 9: "label 9"}
    assert result.cases[0].score(9).note == "empty in truth and prediction"


def test_labels_that_only_predictions_hold_are_told_and_not_scored(folders):
    save(folders[1] / "a.nii.gz", box(1, 6))
    both = box(1, 6)
    both[10:, 8:] = 5
    save(folders[0] / "a.nii.gz", both)
    result = run(folders)
    assert result.labels == {1: "label 1"}
    assert result.warnings == ("predicted in 1 of 1 cases but in no truth, and therefore not scored: label 5",)


def test_predictions_in_other_values_are_told(folders):
    save(folders[1] / "a.nii.gz", box(255, 6))
    save(folders[0] / "a.nii.gz", box(1, 6))
    assert "no label in common" in run(folders).warnings[0]


def test_where_all_truths_are_empty_the_predicted_labels_are_judged(folders):
    save(folders[1] / "a.nii.gz", box(0, 6))
    save(folders[0] / "a.nii.gz", box(2, 6))
    result = run(folders)
    assert result.cases[0].score(2).dice == 0.0
    assert result.labels == {2: "label 2"}


def test_pictures_count_in_pixels(folders):
    for folder, size in zip(folders, (6, 7), strict=True):
        folder.mkdir()
        Image.fromarray(box(255, size)[..., 2]).save(folder / "a.png")
    result = run(folders)
    assert result.picture
    assert list(result.labels) == [255]
    assert result.cases[0].pixel_error == pytest.approx((49 - 36) / 120)


def test_the_number_of_threads_changes_nothing(folders):
    for case in range(6):
        save(folders[1] / f"{case}.nii.gz", box(1, 6))
        save(folders[0] / f"{case}.nii.gz", box(1, 2 + case))
    assert run(folders, threads=1).cases == run(folders, threads=3).cases
