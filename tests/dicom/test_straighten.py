"""Slices moved within their planes, and blended between them, against a loop over pixels."""

from __future__ import annotations

import numpy as np
import pytest

from segpipe.dicom.straighten import evenly, lean_of, lie_back, stand_upright
from segpipe.geometry.grid import Grid


def sheared(tilt: float, lean: float) -> Grid:
    affine = np.diag([0.7, 0.8, 1.0, 1.0])
    affine[:3, 2] = (2.5 * np.tan(np.radians(lean)), 2.5 * np.tan(np.radians(tilt)), 2.5)
    affine[:3, 3] = (-11, 5, 17)
    return Grid((9, 8, 6), affine)


@pytest.mark.parametrize(("tilt", "lean"), [(15, 0), (-22, 0), (0, 9), (12, -17)])
def test_each_pixel_of_the_straight_grid_is_interpolated_within_its_own_slice(tilt: float, lean: float) -> None:
    grid = sheared(tilt, lean)
    array = np.random.default_rng(1).normal(size=(1, *grid.shape)).astype(np.float32)
    volume = stand_upright(array, lean_of(grid))
    axes = volume.grid.affine[:3, :3]
    assert np.allclose(axes.T @ axes, np.diag(np.square(volume.grid.spacing_mm)), atol=1e-9)
    inverse = np.linalg.inv(grid.affine)
    seen = 0
    for i, j, k in np.ndindex(*volume.grid.shape):
        a, b, c, _ = inverse @ np.append(volume.grid.world(np.array([i, j, k])), 1)
        assert abs(c - k) < 1e-6  # in the plane of slice k
        if not (0 <= a <= grid.shape[0] - 1 and 0 <= b <= grid.shape[1] - 1):
            continue
        p, q = min(int(a + 1e-9), grid.shape[0] - 2), min(int(b + 1e-9), grid.shape[1] - 2)
        u, v = a - p, b - q
        corners = array[0, p : p + 2, q : q + 2, k]
        expected = (1 - u) * ((1 - v) * corners[0, 0] + v * corners[0, 1]) + u * ((1 - v) * corners[1, 0] + v * corners[1, 1])
        assert volume.array[0, i, j, k] == pytest.approx(expected, abs=1e-5)
        seen += 1
    assert seen > 0.7 * array.size


@pytest.mark.parametrize(("tilt", "lean"), [(15, 0), (-22, 0), (12, -17)])
def test_the_way_back_takes_the_nearest_pixel_of_the_same_slice(tilt: float, lean: float) -> None:
    grid = sheared(tilt, lean)
    lean_ = lean_of(grid)
    labels = np.random.default_rng(2).integers(0, 9, lean_.straight.shape)
    back = lie_back(labels, lean_)
    inverse = np.linalg.inv(lean_.straight.affine)
    for index in np.ndindex(*grid.shape):
        at = (inverse @ np.append(grid.world(np.array(index)), 1))[:3]
        near = np.floor(at + 0.5 + 1e-9).astype(int)
        assert back[index] == labels[tuple(near)]


def test_slices_at_varying_heights_are_blended_by_their_distance() -> None:
    heights, at = np.array([0.0, 1, 3, 4]), np.arange(5.0)
    array = np.array([0.0, 10, 30, 100]).reshape(1, 1, 1, 4) + np.zeros((1, 3, 2, 1))
    volume = evenly(array, heights, Grid((3, 2, 5), np.eye(4)), at)
    assert volume.array[0, 0, 0].tolist() == [0, 10, 20, 30, 100]
