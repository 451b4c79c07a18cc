"""Patch size and the U's shape: which axis is pooled at which stage, and where kernels may look along it.

The rules follow Isensee et al. 2021, Suppl. 2: an axis is pooled while it is at least `2 * SMALLEST` voxels long and its
spacing is within a factor of two of the finest axis that can still be pooled; kernels are 1 along an axis until then.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SMALLEST = 4
"""Shortest edge of the coarsest stage, in voxels."""
MOST_STAGES = 6
_NEAR = 2.0

Strides = tuple[tuple[int, ...], ...]
"""For each stage, finest first, the step into it along each axis."""


@dataclass(frozen=True)
class Topology:
    """Attributes:
    patch: three numbers, the last 1 in 2D.
    strides: the first stage has ones.
    wide: for each stage and axis, whether the kernel looks along the axis.
    """

    patch: tuple[int, int, int]
    strides: Strides
    wide: tuple[tuple[bool, ...], ...]


def topology(
    median: tuple[int, ...],
    spacing_mm: tuple[float, ...],
    limit: int,
    fixed: tuple[int, ...] | None = None,
    wanted: int | Strides = 0,
) -> Topology:
    """Fit patch and stages to the median scan.

    Args:
        median: median shape on the network's grid (2 or 3 axes).
        spacing_mm: spacing of that grid, same axes.
        limit: most voxels in a patch.
        fixed: patch size that the user asks for; it is kept as it is.
        wanted: number of resolutions or strides that the user asks for; 0: as many as the patch allows. A number is a
            maximum: a small patch has fewer.
    """
    patch = np.array(fixed if fixed else _largest(median, spacing_mm, limit))
    strides = wanted if isinstance(wanted, tuple) else _strides(patch, spacing_mm, wanted)
    if not fixed:
        patch = _to_divisor(patch, strides, limit)
    wide = tuple(_looks(np.array(spacing_mm) * np.prod(np.array(strides[: stage + 1]), axis=0)) for stage in range(len(strides)))
    size = [int(n) for n in patch] + [1] * (3 - len(patch))
    return Topology((size[0], size[1], size[2]), strides, wide)


def _largest(median: tuple[int, ...], spacing_mm: tuple[float, ...], limit: int) -> tuple[int, ...]:
    """The whole median scan where it fits, else the longest extents in mm are cut until `limit` holds."""
    patch = np.array(median, dtype=np.float64)
    extent = patch * np.array(spacing_mm)
    while patch.prod() > limit:
        longest = int(np.argmax(np.where(patch > 1, extent, -1.0)))
        patch[longest] = max(1.0, np.floor(patch[longest] * 0.97))
        extent = patch * np.array(spacing_mm)
    return tuple(int(n) for n in patch)


def _to_divisor(patch: np.ndarray, strides: Strides, limit: int) -> np.ndarray:
    """Round the patch up to what its stages divide; down where rounding up would pass the limit by half."""
    divisor = np.prod(np.array(strides), axis=0)
    up = np.ceil(patch / divisor) * divisor
    if up.prod() > 1.5 * limit:
        up = np.maximum(divisor, np.round(patch / divisor) * divisor)
    return np.asarray(up, dtype=np.int64)


def _strides(patch: np.ndarray, spacing_mm: tuple[float, ...], wanted: int) -> Strides:
    size, spacing = patch.astype(np.float64), np.array(spacing_mm, dtype=np.float64)
    strides: list[tuple[int, ...]] = [(1,) * len(size)]
    while len(strides) < (wanted or MOST_STAGES):
        long_enough = size >= 2 * SMALLEST
        if not long_enough.any():
            break
        finest = spacing[long_enough].min()
        pooled = long_enough & (spacing < _NEAR * finest)
        step = np.where(pooled, 2, 1)
        size, spacing = np.ceil(size / step), spacing * step
        strides.append(tuple(int(s) for s in step))
    return tuple(strides)


def _looks(spacing: np.ndarray) -> tuple[bool, ...]:
    return tuple(bool(s < _NEAR * spacing.min()) for s in spacing)
