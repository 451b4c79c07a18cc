import json

import pytest

from segpipe.errors import ConfigError
from segpipe.evaluation.names import find_label_names


@pytest.fixture
def folders(tmp_path):
    prediction, truth = tmp_path / "out", tmp_path / "data" / "labelsTr"
    prediction.mkdir()
    truth.mkdir(parents=True)
    return prediction, truth


def write(path, document):
    path.write_text(json.dumps(document), encoding="utf-8")


def test_without_any_file_labels_keep_their_numbers(folders):
    names = find_label_names(*folders, {})
    assert (names.background, names.name(3)) == (0, "label 3")


def test_names_come_from_the_predictions_folder(folders):
    write(folders[0] / "labels.json", {"background": 255, "labels": {"255": "cell", "0": "membrane"}})
    names = find_label_names(*folders, {})
    assert (names.background, names.names) == (255, {0: "membrane"})


@pytest.mark.parametrize("labels", [{"0": "background", "1": "PZ"}, {"background": 0, "PZ": 1, "whole gland": [1, 2]}])
def test_names_come_from_the_data_set_in_both_spellings(folders, labels):
    write(folders[1].parent / "dataset.json", {"labels": labels})
    assert find_label_names(*folders, {}).names == {1: "PZ"}


def test_the_user_is_heard_before_the_predictions_and_these_before_the_data_set(folders):
    write(folders[1].parent / "dataset.json", {"labels": {"1": "a", "2": "b", "3": "c"}})
    write(folders[0] / "labels.json", {"background": 0, "labels": {"2": "B", "3": "C"}})
    assert find_label_names(*folders, {"3": "mine"}).names == {1: "a", 2: "B", 3: "mine"}


def test_the_users_background_rules(folders):
    write(folders[0] / "labels.json", {"background": 0, "labels": {"1": "one"}})
    assert find_label_names(*folders, {}, background=1).background == 1


def test_names_stand_beside_single_files_too(folders):
    write(folders[0] / "labels.json", {"labels": {"1": "one"}})
    assert find_label_names(folders[0] / "a.nii.gz", folders[1] / "a.nii.gz", {}).names == {1: "one"}


@pytest.mark.parametrize("text", ["{", "[1]", '{"labels": [1]}', '{"labels": {"1": {"x": 2}}, "background": "none"}'])
def test_a_strange_file_is_passed_over(folders, text):
    (folders[0] / "labels.json").write_text(text, encoding="utf-8")
    names = find_label_names(*folders, {})
    assert (names.background, names.names) == (0, {})


def test_a_name_for_no_number_is_refused(folders):
    with pytest.raises(ConfigError, match="PZ=1"):
        find_label_names(*folders, {"PZ": "1"})


def test_the_value_called_ignore_is_ignored_and_the_users_choice_goes_before(tmp_path):
    (tmp_path / "dataset.json").write_text('{"labels": {"background": 0, "organ": 1, "ignore": 2}}', encoding="utf-8")
    found = find_label_names(tmp_path / "out", tmp_path / "labelsTr", {})
    assert (found.names, found.ignore) == ({1: "organ"}, (2,))
    assert find_label_names(tmp_path / "out", tmp_path / "labelsTr", {}, ignore=[7, 8]).ignore == (7, 8)
    with pytest.raises(ConfigError, match="background and to be ignored"):
        find_label_names(tmp_path / "out", tmp_path / "labelsTr", {}, ignore=[0])
