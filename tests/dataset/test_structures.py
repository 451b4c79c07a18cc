"""Centres and parts of structures on any orientation, and pairs that are each other's mirror image."""

import numpy as np
import pytest

from segpipe.dataset.facts import LabelFacts
from segpipe.dataset.structures import mirrored_pairs, structures
from segpipe.geometry.grid import Grid


def kidneys(shift: int = 0) -> np.ndarray:
    """RAS: value 7 on the patient's left (small x), 300 on the right, 9 in the middle."""
    array = np.zeros((40, 30, 20), np.int16)
    array[4:10, 12 + shift : 18 + shift, 5:12] = 7
    array[30:36, 13:19, 6:13] = 300
    array[18:22, 20:24, 3:5] = 9
    array[0, 0, 0] = 9
    return array


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
@pytest.mark.parametrize("flips", [(), (0,), (1, 2), (0, 1, 2)])
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_centres_are_those_of_the_patient_whatever_the_orientation_of_the_file(
    order: tuple[int, int, int], flips: tuple[int, ...], dtype: type
) -> None:
    array, affine = kidneys().astype(dtype), np.diag([1.0, 2.0, 3.0, 1.0])
    expected, _ = structures(array, (0, 7, 9, 300), Grid(array.shape, affine))
    assert expected[7] == pytest.approx((7 / 40, 15 / 30, 8.5 / 20))
    for axis in flips:
        array = np.flip(array, axis)
        affine[:3, 3] += affine[:3, axis] * (array.shape[axis] - 1)
        affine[:3, axis] *= -1
    turned = affine.copy()
    turned[:, :3] = affine[:, list(order)]
    moved = array.transpose(order)
    centres, components = structures(moved, (0, 7, 9, 300), Grid(moved.shape, turned))
    assert {value: pytest.approx(place) for value, place in expected.items()} == centres
    assert components == {7: 1, 9: 2, 300: 1}


def test_values_far_apart_and_an_empty_map() -> None:
    array = np.zeros((4, 4, 4), np.int32)
    array[0, 0, 0], array[3, 3, 3] = -5, 2_000_000
    grid = Grid((4, 4, 4), np.eye(4))
    centres, components = structures(array, (-5, 0, 2_000_000), grid)
    assert centres == {-5: (0.125,) * 3, 2_000_000: (0.875,) * 3} and components == {-5: 1, 2_000_000: 1}
    assert structures(np.zeros((4, 4, 4), np.uint8), (0,), grid) == ({}, {})


def facts(array: np.ndarray) -> LabelFacts:
    values, counts = np.unique(array, return_counts=True)
    voxels = {int(value): int(count) for value, count in zip(values, counts, strict=True)}
    centres, components = structures(array, voxels, Grid(array.shape, np.eye(4)))
    return LabelFacts("x", voxels=voxels, centres=centres, components=components)


def test_two_that_lie_left_and_right_in_every_case_are_a_pair() -> None:
    values = [7, 9, 300]
    assert mirrored_pairs([facts(kidneys()), facts(kidneys(2))], values) == [(7, 300)]
    swapped = np.flip(kidneys(), 0)
    assert mirrored_pairs([facts(kidneys()), facts(swapped)], values) == []  # a lesion may lie on either side
    above = kidneys(8)
    assert mirrored_pairs([facts(above), facts(above)], values) == []  # not level with each other
    small = np.where(kidneys() == 7, 0, kidneys())
    small[6:8, 14:16, 8:10] = 7
    assert mirrored_pairs([facts(small)], values) == []  # not of like size
    alone = np.where(kidneys() == 300, 0, kidneys())
    assert mirrored_pairs([facts(kidneys()), facts(alone)], values) == []  # mostly without its partner
    assert mirrored_pairs([], values) == []
