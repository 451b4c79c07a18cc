"""Polygons filled, against a walk around each pixel's centre."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from segpipe.dicom.polygon import fill, fill_box

EDGE = (1e-6, 1e-6)
Points = NDArray[np.float64]


def inside(polygons: list[Points], i: float, j: float) -> bool:
    """Even-odd, by the number of edges that a ray meets; a point on an edge is inside."""
    crossings = 0
    for points in polygons:
        for (ai, aj), (bi, bj) in zip(points, np.roll(points, -1, axis=0), strict=True):
            length = np.hypot(bi - ai, bj - aj)
            share = 0.0 if length == 0 else np.clip(((i - ai) * (bi - ai) + (j - aj) * (bj - aj)) / length**2, 0, 1)
            if np.hypot(ai + share * (bi - ai) - i, aj + share * (bj - aj) - j) < 1e-7:
                return True
            if (aj > j) != (bj > j) and i < (bi - ai) * (j - aj) / (bj - aj) + ai:
                crossings += 1
    return crossings % 2 == 1


def reference(polygons: list[Points], size: tuple[int, int]) -> NDArray[np.bool_]:
    return np.array([[inside(polygons, i, j) for j in range(size[1])] for i in range(size[0])])


@given(st.integers(0, 2**31), st.integers(1, 4), st.integers(3, 12))
@settings(max_examples=60)
def test_random_polygons_are_what_a_walk_around_each_pixel_finds(seed: int, count: int, corners: int) -> None:
    random = np.random.default_rng(seed)
    polygons = [random.uniform(-3, 14, (corners, 2)) for _ in range(count)]
    assert np.array_equal(fill(polygons, (11, 9), EDGE), reference(polygons, (11, 9)))
    box, part = fill_box(polygons, (11, 9), EDGE)
    whole = np.zeros((11, 9), dtype=bool)
    whole[box] = part
    assert np.array_equal(whole, reference(polygons, (11, 9)))


@given(st.integers(0, 2**31), st.integers(3, 9))
@settings(max_examples=60)
def test_corners_at_whole_pixels_too(seed: int, corners: int) -> None:
    polygons = [np.random.default_rng(seed).integers(-1, 11, (corners, 2)).astype(float)]
    mine, other = fill(polygons, (10, 8), EDGE), reference(polygons, (10, 8))
    assert np.array_equal(mine, other)


@pytest.mark.parametrize("shift", [-4e-3, -1e-9, 0.0, 1e-9, 4e-3])
def test_a_contour_through_pixel_centres_has_them_whichever_way_it_is_rounded(shift: float) -> None:
    square = np.array([[2.0, 2], [6, 2], [6, 5], [2, 5]]) + shift
    found = fill([square], (9, 9), (0.01, 0.01))
    assert np.array_equal(np.argwhere(found), [[i, j] for i in range(2, 7) for j in range(2, 6)])


def test_an_inner_contour_and_a_keyhole_are_the_same_hole() -> None:
    outer = np.array([[0.5, 0.5], [9.5, 0.5], [9.5, 9.5], [0.5, 9.5]])
    inner = np.array([[3.5, 3.5], [3.5, 6.5], [6.5, 6.5], [6.5, 3.5]])
    keyhole = np.concatenate([outer, outer[:1], inner, inner[:1]])
    two, one = fill([outer, inner], (11, 11), EDGE), fill([keyhole], (11, 11), EDGE)
    assert np.array_equal(two, one)
    assert two.sum() == 81 - 9
    assert not two[4:7, 4:7].any()


def test_a_region_inside_a_hole_counts_again() -> None:
    squares = [np.array([[a, a], [b, a], [b, b], [a, b]]) for a, b in ((0.5, 9.5), (2.5, 7.5), (4.5, 5.5))]
    assert fill(squares, (11, 11), EDGE).sum() == 81 - 25 + 1


def test_nothing_and_what_lies_beyond_the_picture_is_empty() -> None:
    assert not fill([], (4, 5), EDGE).any()
    assert not fill([np.array([[20.0, 20], [30, 20], [30, 30]])], (4, 5), EDGE).any()
    box, part = fill_box([np.array([[20.0, 20], [30, 20], [30, 30]])], (4, 5), EDGE)
    assert np.zeros((4, 5))[box].shape == part.shape
    assert fill([np.array([[-20.0, -20], [30, -20], [30, 30], [-20, 30]])], (4, 5), EDGE).all()
