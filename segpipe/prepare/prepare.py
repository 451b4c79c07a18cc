"""Scan grid -> network grid: orient, crop, normalise, resample; `restore` walks the same way back."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from segpipe.errors import DataError, GeometryError
from segpipe.geometry.grid import Box, Grid, Shape, Volume
from segpipe.geometry.orient import closest_axes, permute_flip
from segpipe.geometry.resample import resample, resampled_shape
from segpipe.plan.plan import Plan
from segpipe.prepare.labels import ignore_empty_slices, resample_label, to_indices
from segpipe.prepare.normalise import normalise
from segpipe.prepare.prepared import Prepared, Trace

SAME_SPACING = 1e-4
"""Spacings that differ by less than this share are the same: an axis of 1000 voxels shifts by a tenth of one."""
MOST_VOXELS = 2**30
"""Voxels of a prepared volume (4 GiB a channel); a larger one comes from a wrong spacing in the header."""


def prepare(volume: Volume, plan: Plan, label: Volume | None = None) -> Prepared:
    """Bring a scan, and its label map where there is one, onto the network's grid.

    Normalised before resampling, so that interpolation does not change the scan's mean and deviation (Isensee et al. 2021).

    Args:
        volume: (C, I, J, K) in the channel order of the plan, in the scan's own unit.
        label: (1, I, J, K) of the user's label values on the same grid.

    Raises:
        DataError: wrong number of channels, NaN or infinite voxels, unknown label value, an absurd spacing.
        GeometryError: scan and label map lie on different grids.
    """
    _check(volume, plan, label)
    axes, flipped = _orientation(volume.grid, plan)
    array = permute_flip(volume.array, axes, flipped)
    box = _nonzero_box(array) if plan.nonzero else _whole(array)
    spacing = (volume.grid.spacing_mm[axes[0]], volume.grid.spacing_mm[axes[1]], volume.grid.spacing_mm[axes[2]])
    shape = _network_shape(box, spacing, plan.spacing_mm)
    image = normalise(torch.from_numpy(np.array(_cut(array, box), dtype=np.float32, order="C")), plan)
    image = resample(image, shape, plan.nearest)
    indices = None
    if label is not None:
        values = to_indices(_cut(permute_flip(label.array, axes, flipped), box)[0], plan.labels, plan.ignore)
        if plan.sparse != "none":
            values = ignore_empty_slices(values, plan.axes.index("xyz".index(plan.sparse)))
        indices = resample_label(torch.from_numpy(np.ascontiguousarray(values)), shape, plan.nearest)
    return Prepared(image, indices, Trace(volume.grid, axes, flipped, box, shape, plan.nearest))


def uncropped(grid: Grid, plan: Plan) -> Trace:
    """How a scan comes onto the network's grid where nothing is cropped from it.

    Raises:
        DataError: an absurd spacing.
    """
    (a, b, c), flipped = _orientation(grid, plan)
    box = ((0, grid.shape[a]), (0, grid.shape[b]), (0, grid.shape[c]))
    shape = _network_shape(box, (grid.spacing_mm[a], grid.spacing_mm[b], grid.spacing_mm[c]), plan.spacing_mm)
    return Trace(grid, (a, b, c), flipped, box, shape, plan.nearest)


def _check(volume: Volume, plan: Plan, label: Volume | None) -> None:
    if volume.channels != len(plan.channels):
        names = ", ".join(channel.name for channel in plan.channels)
        raise DataError(
            f"scan has {volume.channels} channel(s); the model needs {len(plan.channels)} ({names}): "
            f"give one file a channel, named case_0000, case_0001 or case_{plan.channels[0].name}"
        )
    if label is None:
        return
    if label.channels != 1:
        raise DataError(f"label map has {label.channels} channels; must have one")
    if not volume.grid.same_as(label.grid):
        distance = volume.grid.distance_mm(label.grid)
        away = f"{label.grid.shape} for {volume.grid.shape} voxels" if math.isinf(distance) else f"{distance:.3g} mm away at a corner"
        raise GeometryError(f"label map is {away}; must lie on the scan's grid: resample it onto the scan, or correct its header")


def _orientation(grid: Grid, plan: Plan) -> tuple[tuple[int, int, int], tuple[bool, bool, bool]]:
    """Scan axis and direction of each prepared axis: closest to RAS where the plan orients, then permuted as it says."""
    a, b, c = plan.axes
    if not plan.orient:
        return (a, b, c), (False, False, False)
    axes, flipped = closest_axes(grid)
    return (axes[a], axes[b], axes[c]), (flipped[a], flipped[b], flipped[c])


def _whole(array: NDArray[Any]) -> Box:
    return ((0, array.shape[1]), (0, array.shape[2]), (0, array.shape[3]))


def _nonzero_box(array: NDArray[Any]) -> Box:
    """Smallest box that holds every voxel at which any channel is not zero; the whole where all are zero."""
    nonzero = (array != 0).any(axis=0)
    ranges = []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        found = np.flatnonzero(nonzero.any(axis=others))
        if found.size == 0:
            return _whole(array)
        ranges.append((int(found[0]), int(found[-1]) + 1))
    return (ranges[0], ranges[1], ranges[2])


def _cut(array: NDArray[Any], box: Box) -> NDArray[Any]:
    return array[(slice(None), *(slice(start, stop) for start, stop in box))]


def _network_shape(box: Box, spacing: tuple[float, float, float], wanted: tuple[float, float, float] | None) -> Shape:
    """Shape of the box at the plan's spacing; an axis whose wanted spacing is 0, or its own already, keeps its voxels."""
    own = (box[0][1] - box[0][0], box[1][1] - box[1][0], box[2][1] - box[2][0])
    if wanted is None:
        return own
    i, j, k = (mm if new == 0 or abs(mm / new - 1.0) <= SAME_SPACING else new for mm, new in zip(spacing, wanted, strict=True))
    shape = resampled_shape(own, spacing, (i, j, k))
    if math.prod(shape) > MOST_VOXELS:
        raise DataError(
            f"voxels are {' x '.join(f'{mm:.3g}' for mm in spacing)} mm, so that the network's grid would have "
            f"{' x '.join(map(str, shape))} voxels; at most {MOST_VOXELS}: correct the spacing in the header, or plan.spacing_mm"
        )
    return shape
