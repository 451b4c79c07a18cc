"""A stack that no straight grid has as it lies -> one that does, and for tilted stacks the way back onto the slices.

A tilted slice stays the slice that it is: it moves within its own plane, by linear interpolation, so that no value is made of two
slices and the way back for label maps is as exact as the pixel grid allows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segpipe.geometry.grid import Grid, Shape, Volume

Line = NDArray[np.float64]
_WHOLE = 1e-6


@dataclass(frozen=True, eq=False)
class Lean:
    """How a tilted stack comes to stand upright.

    Attributes:
        slices: the grid on which the slices lie, sheared.
        straight: a grid at right angles that holds them all; slice k of one is in the plane of slice k of the other.
        shifts: (K, 2) where the first pixel of each slice lies on the straight grid, in pixels along i and j.
    """

    slices: Grid
    straight: Grid
    shifts: NDArray[np.float64]


def lean_of(slices: Grid) -> Lean:
    """The straight grid around a sheared one whose i and j are at right angles. Slice 0 keeps its pixels' places."""
    linear = slices.affine[:3, :3]
    row, column = linear[:, 0], linear[:, 1]
    step = linear[:, 2]
    drift = np.array([step @ row / (row @ row), step @ column / (column @ column)])  # pixels a slice
    upright = step - drift[0] * row - drift[1] * column
    shifts = np.arange(slices.shape[2])[:, None] * drift  # (K, 2)
    low = np.floor(shifts.min(axis=0) + 1e-9)
    high = np.ceil(shifts.max(axis=0) - 1e-9)
    affine = slices.affine.copy()
    affine[:3, 2] = upright
    affine[:3, 3] += low[0] * row + low[1] * column
    size = (np.array(slices.shape[:2]) + high - low).astype(int)
    shape: Shape = (int(size[0]), int(size[1]), slices.shape[2])
    return Lean(slices, Grid(shape, affine), shifts - low)


def stand_upright(array: NDArray[Any], lean: Lean) -> Volume:
    """Move each slice of (C, I, J, K) to its place on the straight grid; outside of it the stack's lowest value. float32."""
    result = np.full((array.shape[0], *lean.straight.shape), array.min(), dtype=np.float32)
    for k in range(array.shape[3]):
        (i, fi), (j, fj) = (_split(shift) for shift in lean.shifts[k])
        picture = _moved(_moved(array[..., k].astype(np.float32), 1, fi), 2, fj)
        result[:, i : i + picture.shape[1], j : j + picture.shape[2], k] = picture[:, : result.shape[1] - i, : result.shape[2] - j]
    return Volume(result, lean.straight)


def _split(shift: float) -> tuple[int, float]:
    """Whole pixels, and what is left."""
    whole = math.floor(shift + _WHOLE)
    return whole, max(0.0, shift - whole)


def _moved(picture: NDArray[np.float32], axis: int, share: float) -> NDArray[np.float32]:
    """Move by a share of a pixel towards higher indices; one pixel longer, the border's value beyond the border."""
    if share < _WHOLE:
        return picture
    before = np.concatenate([picture.take([0], axis), picture], axis)
    after = np.concatenate([picture, picture.take([-1], axis)], axis)
    moved: NDArray[np.float32] = (before * share + after * (1 - share)).astype(np.float32)
    return moved


def lie_back(labels: NDArray[Any], lean: Lean) -> NDArray[Any]:
    """A label map (I, J, K) of the straight grid on the slices: at each pixel that of the nearest pixel."""
    i, j = lean.slices.shape[:2]
    result = np.empty(lean.slices.shape, dtype=labels.dtype)
    for k in range(lean.slices.shape[2]):
        a, b = (math.floor(shift + 0.5) for shift in lean.shifts[k])
        result[..., k] = labels[a : a + i, b : b + j, k]
    return result


def evenly(array: NDArray[Any], heights: Line, grid: Grid, at: Line) -> Volume:
    """Blend slices (C, I, J, K) at `heights` (mm, ascending) onto those of `grid`, which lie at the heights `at`. float32."""
    result = np.empty((array.shape[0], *grid.shape), dtype=np.float32)
    above = np.clip(np.searchsorted(heights, at, side="left"), 1, len(heights) - 1)
    for k, n in enumerate(above):
        share = float(np.clip((at[k] - heights[n - 1]) / (heights[n] - heights[n - 1]), 0, 1))
        if share < 1e-3 or share > 1 - 1e-3:  # a slice of its own stays as it is
            result[..., k] = array[..., n - 1 if share < 0.5 else n]
        else:
            result[..., k] = (1 - share) * array[..., n - 1].astype(np.float32) + share * array[..., n].astype(np.float32)
    return Volume(result, grid)


def labels_upright(labels: NDArray[Any], lean: Lean) -> NDArray[Any]:
    """A label map (I, J, K) of the slices on the straight grid: at each pixel that of the nearest pixel of its slice, 0 beside them.

    Label maps follow their scan, whose slices `stand_upright` moves by the same shifts; nearest, because a label is not blended.
    """
    i, j = lean.slices.shape[:2]
    result = np.zeros(lean.straight.shape, dtype=labels.dtype)
    for k in range(lean.slices.shape[2]):
        a, b = (math.ceil(shift - 0.5) for shift in lean.shifts[k])  # the inverse of `lie_back`
        result[a : a + i, b : b + j, k] = labels[..., k]
    return result


def labels_evenly(labels: NDArray[Any], heights: Line, at: Line) -> NDArray[Any]:
    """A label map (I, J, P) of slices at `heights` (mm, ascending) at the heights `at`: of the nearest slice, else the lower one."""
    above = np.clip(np.searchsorted(heights, at, side="left"), 1, len(heights) - 1)
    lower = at - heights[above - 1] <= heights[above] - at
    result: NDArray[Any] = labels[..., np.where(lower, above - 1, above)]
    return result
