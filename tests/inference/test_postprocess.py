"""Components that are taken away, by their size or because they are not the largest; nothing else is changed."""

import numpy as np
import pytest

from segpipe.errors import ModelError
from segpipe.inference.postprocess import KEY, Rule, apply_rules, rules_of


def label_map() -> np.ndarray:
    """Label 1 with 27 and 2 voxels, label 2 with 8, one of which touches the small part of label 1 by a corner only."""
    array = np.zeros((12, 10, 8), np.uint8)
    array[0:3, 0:3, 0:3] = 1
    array[8, 8, 4:6] = 1
    array[6:8, 6:8, 6:8] = 2
    return array


def test_the_largest_component_of_a_label_stays() -> None:
    before = label_map()
    after = apply_rules(before, [Rule(1, keep_largest=True)], 1.0)
    expected = before.copy()
    expected[8, 8, 4:6] = 0
    assert np.array_equal(after, expected) and after.dtype == before.dtype
    assert before[8, 8, 4] == 1  # the input is left alone


def test_of_all_labels_together_touching_parts_count_as_one() -> None:
    after = apply_rules(label_map(), [Rule(0, keep_largest=True)], 1.0)
    assert np.array_equal(after > 0, np.pad(np.ones((3, 3, 3), bool), ((0, 9), (0, 7), (0, 5))))
    moved = label_map()
    moved[3, 3, 3] = 2  # touches the cube by a corner
    assert apply_rules(moved, [Rule(0, keep_largest=True)], 1.0)[3, 3, 3] == 2


@pytest.mark.parametrize(("voxel_ml", "stays"), [(0.001, True), (0.0005, False)])
def test_a_minimum_size_is_in_millilitres(voxel_ml: float, stays: bool) -> None:
    after = apply_rules(label_map(), [Rule(1, minimum_ml=0.002)], voxel_ml)
    assert (after[8, 8, 4] == 1) == stays
    assert (after[0:3, 0:3, 0:3] == 1).all() and (after[6:8, 6:8, 6:8] == 2).all()


def test_rules_follow_each_other() -> None:
    after = apply_rules(label_map(), [Rule(1, minimum_ml=0.003), Rule(0, minimum_ml=0.009)], 0.001)
    assert set(np.unique(after)) == {0, 1} and (after > 0).sum() == 27


def test_without_anything_to_take_away_the_array_itself_is_given_back() -> None:
    array = label_map()
    assert apply_rules(array, [], 1.0) is array
    assert apply_rules(array, [Rule(2, keep_largest=True), Rule(1, minimum_ml=0.002)], 0.001) is array
    empty = np.zeros((3, 3, 3), np.uint8)
    assert apply_rules(empty, [Rule(0, keep_largest=True), Rule(1, minimum_ml=1.0)], 1.0) is empty


def test_rules_are_read_from_a_document_and_checked() -> None:
    rules = (Rule(0, True), Rule(2, False, 0.5))
    assert rules_of({KEY: [rule.to_dict() for rule in rules]}, 3) == rules
    assert rules_of({}, 3) == ()
    for bad in (
        [{"label": 3, "keep_largest": True, "minimum_ml": 0}],
        [{"label": 1}],
        "x",
        [{"label": 1, "keep_largest": 0, "minimum_ml": -1}],
    ):
        with pytest.raises(ModelError, match="postprocessing cannot be understood"):
            rules_of({KEY: bad}, 3)
