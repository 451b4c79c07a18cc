import math

import numpy as np
import pytest
import torch

from segpipe.errors import DataError, GeometryError
from segpipe.evaluation import overlap as module
from segpipe.evaluation.overlap import confusion, dice_per_class, overlap, pixel_error


def random_labels(seed: int, classes: int = 4, shape: tuple[int, ...] = (7, 6, 5)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, classes, shape).astype(np.uint8)


def test_counts_equal_a_loop_over_voxels():
    prediction, truth = random_labels(0), random_labels(1)
    expected = np.zeros((4, 4), dtype=int)
    for index in np.ndindex(truth.shape):
        expected[truth[index], prediction[index]] += 1
    np.testing.assert_array_equal(confusion(prediction, truth, 4), expected)


def test_counts_do_not_depend_on_pieces_or_memory_order(monkeypatch):
    prediction, truth = random_labels(2), random_labels(3)
    whole = confusion(prediction, truth, 4)
    monkeypatch.setattr(module, "_CHUNK", 11)
    np.testing.assert_array_equal(confusion(np.asfortranarray(prediction), truth, 4), whole)


def test_dice_and_iou_equal_the_set_definition():
    prediction, truth = random_labels(4), random_labels(5)
    counts = overlap(confusion(prediction, truth, 4), 2)
    first, second = (set(np.flatnonzero(array == 2)) for array in (prediction, truth))
    assert counts.dice == pytest.approx(2 * len(first & second) / (len(first) + len(second)), abs=1e-15)
    assert counts.iou == pytest.approx(len(first & second) / len(first | second), abs=1e-15)


def test_dice_per_class_equals_monai():
    from monai.metrics import DiceMetric
    from monai.networks.utils import one_hot

    prediction, truth = (torch.from_numpy(random_labels(seed)) for seed in (6, 7))
    metric = DiceMetric(include_background=False, reduction="none")
    expected = metric(*(one_hot(t[None, None].long(), 4) for t in (prediction, truth)))
    assert dice_per_class(prediction, truth, 4) == pytest.approx(expected[0].tolist(), abs=1e-6)


def test_a_class_empty_on_both_sides_is_nan_and_on_one_side_zero():
    prediction, truth = np.array([0, 1, 1]), np.array([0, 0, 2])
    one, two, three = dice_per_class(prediction, truth, 4)
    assert (one, two) == (0.0, 0.0)
    assert math.isnan(three)


def test_pixel_error_counts_background_voxels_too():
    assert pixel_error(confusion(np.array([0, 1, 2, 0]), np.array([0, 1, 1, 2]), 3)) == pytest.approx(0.5)


def test_other_shapes_are_refused_with_both_shapes():
    with pytest.raises(GeometryError, match=r"\(2, 3\).*\(3, 2\)"):
        confusion(np.zeros((2, 3), int), np.zeros((3, 2), int), 2)


@pytest.mark.parametrize("bad", [np.array([0, 2]), np.array([-1, 0])])
def test_indices_outside_the_classes_are_refused(bad):
    with pytest.raises(DataError, match="outside 0 to 1"):
        dice_per_class(bad, np.array([0, 1]), 2)


def test_floats_are_refused():
    with pytest.raises(DataError, match="must hold integers"):
        dice_per_class(np.zeros(3), np.zeros(3, int), 2)
