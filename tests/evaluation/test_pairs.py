from pathlib import Path

import pytest

from segpipe.errors import DataError
from segpipe.evaluation.pairs import find_pairs


def fill(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def cases(pairs):
    return {pair.case: (pair.prediction.name, pair.truth.name) for pair in pairs.matched}


def test_paths_below_the_folders_match_whatever_the_format(tmp_path):
    prediction = fill(tmp_path / "p", "a.nii.gz", "sub/b.nrrd", "predictions.csv", "labels.json")
    truth = fill(tmp_path / "t", "a.mha", "sub/b.nii.gz")
    pairs = find_pairs(prediction, truth)
    assert cases(pairs) == {"a": ("a.nii.gz", "a.mha"), "sub/b": ("b.nrrd", "b.nii.gz")}
    assert (pairs.without_prediction, pairs.without_truth) == ((), ())


def test_what_has_no_partner_is_listed_on_its_side(tmp_path):
    prediction = fill(tmp_path / "p", "a.nii.gz", "extra.nii.gz")
    truth = fill(tmp_path / "t", "a.nii.gz", "left.nii.gz", "also/left.nii.gz")
    pairs = find_pairs(prediction, truth)
    assert pairs.without_prediction == ("also/left", "left")
    assert pairs.without_truth == ("extra",)


def test_probability_maps_beside_predictions_are_passed_over(tmp_path):
    prediction = fill(tmp_path / "p", "a.nii.gz", "a_probabilities.nii.gz", "b_probabilities.nii.gz")
    assert find_pairs(prediction, fill(tmp_path / "t", "a.nii.gz")).without_truth == ("b_probabilities",)


def test_nested_predictions_match_flat_truths_by_name(tmp_path):
    prediction = fill(tmp_path / "p", "x/a.nii.gz", "y/b.nii.gz")
    pairs = find_pairs(prediction, fill(tmp_path / "t", "a.nii.gz", "b.nii.gz"))
    assert cases(pairs) == {"a": ("a.nii.gz", "a.nii.gz"), "b": ("b.nii.gz", "b.nii.gz")}


def test_files_of_two_different_subfolders_are_never_a_pair(tmp_path):
    truth = fill(tmp_path / "t", "p1/seg.nii.gz", "p2/seg.nii.gz")
    pairs = find_pairs(fill(tmp_path / "p", "p1/seg.nii.gz", "p3/seg.nii.gz"), truth)
    assert list(cases(pairs)) == ["p1/seg"]
    assert (pairs.without_prediction, pairs.without_truth) == (("p2/seg",), ("p3/seg",))
    with pytest.raises(DataError, match="subfolders too"):
        find_pairs(fill(tmp_path / "other", "p3/seg.nii.gz"), fill(tmp_path / "one", "p1/seg.nii.gz"))


def test_once_paths_match_a_name_in_another_folder_is_no_partner(tmp_path):
    pairs = find_pairs(fill(tmp_path / "p", "a.nii.gz", "b.nii.gz"), fill(tmp_path / "t", "a.nii.gz", "deep/b.nii.gz"))
    assert list(cases(pairs)) == ["a"]
    assert (pairs.without_prediction, pairs.without_truth) == (("deep/b",), ("b",))


def test_a_name_that_could_mean_two_files_is_refused(tmp_path):
    prediction = fill(tmp_path / "p", "x/a.nii.gz", "y/a.nii.gz")
    with pytest.raises(DataError, match="a: 2 predictions"):
        find_pairs(prediction, fill(tmp_path / "t", "a.nii.gz"))


def test_an_exact_path_wins_over_an_equal_name_elsewhere(tmp_path):
    prediction = fill(tmp_path / "p", "a.nii.gz", "old/a.nii.gz")
    pairs = find_pairs(prediction, fill(tmp_path / "t", "a.nii.gz"))
    assert pairs.matched[0].prediction == tmp_path / "p" / "a.nii.gz"
    assert pairs.without_truth == ("old/a",)


def test_one_case_in_two_formats_is_refused(tmp_path):
    prediction = fill(tmp_path / "p", "a.nii.gz", "a.nrrd")
    with pytest.raises(DataError, match="same case"):
        find_pairs(prediction, fill(tmp_path / "t", "a.nii.gz"))


def test_two_files_are_a_pair_whatever_their_names(tmp_path):
    fill(tmp_path, "mine.nrrd", "theirs.nii.gz")
    pairs = find_pairs(tmp_path / "mine.nrrd", tmp_path / "theirs.nii.gz")
    assert cases(pairs) == {"theirs": ("mine.nrrd", "theirs.nii.gz")}


def test_a_file_finds_its_truth_in_a_folder(tmp_path):
    fill(tmp_path / "p", "b.nii.gz")
    pairs = find_pairs(tmp_path / "p" / "b.nii.gz", fill(tmp_path / "t", "deep/b.nii.gz"))
    assert cases(pairs) == {"deep/b": ("b.nii.gz", "b.nii.gz")}


def test_folders_without_a_common_name_are_refused_with_an_example_of_each(tmp_path):
    with pytest.raises(DataError, match=r"first names: a and b.*name predictions like their truths"):
        find_pairs(fill(tmp_path / "p", "a.nii.gz"), fill(tmp_path / "t", "b.nii.gz"))


def test_names_with_dots_are_kept_whole(tmp_path):
    pairs = find_pairs(fill(tmp_path / "p", "1.2.840.nii.gz"), fill(tmp_path / "t", "1.2.840.png"))
    assert [pair.case for pair in pairs.matched] == ["1.2.840"]
