"""Bring arrays to the RAS axes that lie closest, and back, without touching a voxel value."""

from __future__ import annotations

from itertools import permutations
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from segpipe.geometry.grid import Grid

if TYPE_CHECKING:
    import torch

Axes = tuple[int, int, int]
Flips = tuple[bool, bool, bool]

Array = TypeVar("Array", NDArray[Any], "torch.Tensor")

_COSINE_DIGITS = 6
"""Direction cosines are compared to this many digits, so that header noise cannot decide between two axes at exactly 45 degrees."""


def closest_axes(grid: Grid) -> tuple[Axes, Flips]:
    """Which volume axis lies closest to which world axis.

    Of the six assignments, the one with the largest sum of absolute direction cosines; ties go to the earlier volume axis.

    Returns:
        axes: volume axis `axes[a]` is the one for world axis `a` (x, y, z in RAS+).
        flipped: `flipped[a]` is true where that volume axis runs against the world axis.
    """
    linear = grid.affine[:3, :3]
    cosines = np.round(linear / np.linalg.norm(linear, axis=0), _COSINE_DIGITS)  # (world, volume)
    best = max(permutations(range(3)), key=lambda p: sum(abs(cosines[a, p[a]]) for a in range(3)))
    i, j, k = best
    flipped = tuple(bool(cosines[a, best[a]] < 0) for a in range(3))
    return (i, j, k), (flipped[0], flipped[1], flipped[2])


def permute_flip(array: Array, axes: Axes, flipped: Flips) -> Array:
    """Reorder the spatial axes of `array` (C, I, J, K): new axis `a` is old axis `axes[a]`, reversed where `flipped[a]`.

    A NumPy array comes back as a view (with negative strides where flipped); a tensor is copied only when something is flipped.
    """
    order = (0, *(1 + a for a in axes))
    if isinstance(array, np.ndarray):
        return _flip(array.transpose(order), flipped)
    return _flip(array.permute(order), flipped)


def undo_permute_flip(array: Array, axes: Axes, flipped: Flips) -> Array:
    """The inverse of `permute_flip` with the same `axes` and `flipped`."""
    order = (0, *(1 + axes.index(a) for a in range(3)))
    if isinstance(array, np.ndarray):
        return _flip(array, flipped).transpose(order)
    return _flip(array, flipped).permute(order)


def _flip(array: Array, flipped: Flips) -> Array:
    dims = tuple(1 + a for a in range(3) if flipped[a])
    if not dims:
        return array
    if isinstance(array, np.ndarray):
        return np.flip(array, dims)
    return array.flip(dims)


def permuted_grid(grid: Grid, axes: Axes, flipped: Flips) -> Grid:
    """The grid of `permute_flip(array, axes, flipped)`: every voxel stays where it is in the patient."""
    shape = (grid.shape[axes[0]], grid.shape[axes[1]], grid.shape[axes[2]])
    affine = grid.affine[:, [*axes, 3]]  # a copy
    for a in range(3):
        if flipped[a]:
            affine[:, 3] += affine[:, a] * (shape[a] - 1)
            affine[:, a] *= -1
    return Grid(shape, affine)
