"""V_rand equals a count of all pairs of pixels, and is what it should be where cells are merged, split or right."""

import itertools
import math

import numpy as np
import pytest
from scipy import ndimage

from segpipe.evaluation.rand import v_rand


def by_pairs(predicted, true):
    """Every ordered pair of pixels of the true cells, a pixel with itself included."""
    ours, theirs = ndimage.label(predicted)[0], ndimage.label(true)[0]
    places = list(zip(*np.nonzero(true), strict=True))
    same_ours = same_theirs = both = 0
    for a, b in itertools.product(places, places):
        one = a == b or (ours[a] == ours[b] and ours[a] > 0)
        other = theirs[a] == theirs[b]
        same_ours, same_theirs, both = same_ours + one, same_theirs + other, both + (one and other)
    return 2 * both / (same_ours + same_theirs)


@pytest.mark.parametrize("seed", range(5))
def test_it_equals_a_count_of_all_pairs(seed):
    random = np.random.default_rng(seed)
    predicted, true = (random.random((9, 11)) > 0.4 for _ in range(2))
    assert v_rand(predicted, true) == pytest.approx(by_pairs(predicted, true), abs=1e-12)


def test_a_gap_in_a_membrane_costs_more_than_a_thick_one():
    true = np.ones((20, 41), dtype=bool)
    true[:, 20] = False  # two cells of 400 pixels
    gap, thick = true.copy(), true.copy()
    gap[10, 20] = True
    thick[:, 21] = False
    assert v_rand(true, true) == 1.0
    assert v_rand(gap, true) == pytest.approx(2 / 3)  # half of the pairs that are together should not be
    assert v_rand(thick, true) > 0.95


def test_without_a_true_cell_it_is_undefined():
    assert math.isnan(v_rand(np.ones((3, 3), dtype=bool), np.zeros((3, 3), dtype=bool)))
