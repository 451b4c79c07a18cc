"""Outlines that give their mask again."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from matplotlib.path import Path as Outline
from numpy.typing import NDArray

from segpipe.dicom.writing.contours import Ring, outlines


def within(ring: Ring, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """For each centre, whether a line to its right crosses the ring an odd number of times; edge by edge."""
    found = np.zeros(shape, dtype=bool)
    y, x = np.indices(shape)
    for (x0, y0), (x1, y1) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
        if y0 == y1:
            continue
        crosses = (y0 > y) != (y1 > y)
        found ^= crosses & (x < (x1 - x0) * (y - y0) / (y1 - y0) + x0)
    return found


def filled(rings: list[Ring], shape: tuple[int, int]) -> NDArray[np.bool_]:
    result = np.zeros(shape, dtype=bool)
    for ring in rings:
        result |= within(ring, shape)
    return result


@settings(max_examples=300)
@given(arrays(np.bool_, st.tuples(st.integers(1, 12), st.integers(1, 12))))
def test_who_asks_of_each_centre_whether_it_lies_within_gets_the_mask(mask: NDArray[np.bool_]) -> None:
    assert np.array_equal(filled(outlines(mask), mask.shape), mask)


@pytest.mark.parametrize("seed", range(5))
def test_a_program_that_counts_windings_gets_the_mask_too(seed: int) -> None:
    mask = np.random.default_rng(seed).random((30, 40)) < 0.7
    y, x = np.indices(mask.shape)
    centres = np.stack([x.ravel(), y.ravel()], axis=1)
    found = np.zeros(mask.size, dtype=bool)
    for ring in outlines(mask):
        found |= Outline(np.concatenate([ring, ring[:1]]), closed=True).contains_points(centres)
    assert np.array_equal(found.reshape(mask.shape), mask)


def test_holes_are_in_the_outline_and_parts_are_apart() -> None:
    mask = np.zeros((20, 30), dtype=bool)
    mask[2:18, 2:20] = True
    mask[4:8, 4:8] = mask[4:8, 12:16] = mask[10:16, 6:14] = False
    mask[12:14, 8:10] = True  # an island in a hole
    mask[5:9, 24:28] = True
    rings = outlines(mask)
    assert len(rings) == 3
    assert np.array_equal(filled(rings, mask.shape), mask)


def test_no_point_is_at_a_centre_and_straight_lines_have_two_points() -> None:
    mask = np.zeros((9, 9), dtype=bool)
    mask[2:7, 3:8] = True
    (ring,) = outlines(mask)
    assert len(ring) == 8  # four sides, four cut corners
    assert np.abs(ring - np.round(ring)).max(axis=1).min() > 0.2


def test_the_area_is_that_of_the_pixels() -> None:
    y, x = np.indices((101, 101))
    (ring,) = outlines((x - 50) ** 2 + (y - 50) ** 2 < 40**2)
    before = np.roll(ring, 1, axis=0)
    area = abs((before[:, 0] * ring[:, 1] - ring[:, 0] * before[:, 1]).sum()) / 2
    assert area == pytest.approx(int(((x - 50) ** 2 + (y - 50) ** 2 < 40**2).sum()), rel=1e-3)


@settings(max_examples=100)
@given(arrays(np.bool_, st.tuples(st.integers(1, 12), st.integers(1, 12))))
def test_points_that_are_rounded_to_pixels_are_pixels_of_the_mask(mask: NDArray[np.bool_]) -> None:
    for ring in outlines(mask):
        x, y = np.round(ring).astype(int).T
        assert mask[y, x].all()


def test_nothing_has_no_outline() -> None:
    assert outlines(np.zeros((4, 5), dtype=bool)) == []
