"""Resampling between regular grids that share their outer faces, in torch.

The convention: `n_in` voxels and `n_out` voxels fill the same extent, so that output index `o` lies at input index
`(o + 0.5) * n_in / n_out - 0.5`; positions beyond the outermost voxel centres take the value of the border voxel.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from segpipe.geometry.grid import Shape

Flags = tuple[bool, bool, bool]
BLENDED: Flags = (False, False, False)


def resampled_shape(shape: Shape, spacing: Sequence[float], new_spacing: Sequence[float]) -> Shape:
    """Voxels along each axis when a grid's extent is kept and its spacing (mm) changes; rounded half up, at least 1."""
    i, j, k = (max(1, math.floor(n * old / new + 0.5)) for n, old, new in zip(shape, spacing, new_spacing, strict=True))
    return i, j, k


def resample(t: Tensor, shape: Shape, nearest: Flags = BLENDED) -> Tensor:
    """Linear interpolation of each channel onto `shape`, without smoothing before shrinking; along some axes the nearest voxel.

    Args:
        t: (C, I, J, K), floating point; any type where nothing is blended.
        shape: spatial shape of the result.
        nearest: axes along which nothing is blended: thick slices are taken whole. Of two as near the later one.

    Returns:
        (C, *shape), same dtype; `t` itself when it has that shape already. Positions are computed in t's precision: for float32
        they are right to 1e-4 voxel up to 1000 voxels an axis.
    """
    for axis in range(3):
        if nearest[axis] and t.shape[axis + 1] != shape[axis]:
            t = t.index_select(axis + 1, nearest_voxels(t.shape[axis + 1], shape[axis]).to(t.device))
    if tuple(t.shape[1:]) == tuple(shape):
        return t
    # torch's trilinear kernel makes one pass over memory; three passes of gathering and blending took 3 to 7 times as long.
    return functional.interpolate(t[None], size=tuple(shape), mode="trilinear", align_corners=False)[0]


def nearest_voxels(n_in: int, n_out: int) -> Tensor:
    """Index of the input voxel that is nearest to each of the output's, (n_out,) int64."""
    return nearest_to((torch.arange(n_out, dtype=torch.float64) + 0.5) * (n_in / n_out) - 0.5, n_in)


def nearest_to(coordinates: Tensor, size: int) -> Tensor:
    """Index of the voxel, of `size` in a row, that is nearest to each coordinate; of two as near the later one."""
    return (coordinates + 0.5).floor().long().clamp(0, size - 1)


def resample_axis(t: Tensor, axis: int, coordinates: Tensor) -> Tensor:
    """Linear interpolation along one axis.

    Args:
        t: any shape, floating point.
        axis: the axis to sample along.
        coordinates: (n,) floating point voxel indices in any order; below the first or above the last voxel centre, the border's value.

    Returns:
        t's shape with n entries along `axis`, same dtype.
    """
    last = t.shape[axis] - 1
    at = coordinates.to(device=t.device, dtype=torch.float64).clamp(0, last)
    low = at.floor().long()
    high = (low + 1).clamp(max=last)
    weight_shape = [1] * t.ndim
    weight_shape[axis] = -1
    weight = (at - low).to(t.dtype).view(weight_shape)
    return torch.lerp(t.index_select(axis, low), t.index_select(axis, high), weight)
