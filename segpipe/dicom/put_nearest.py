"""A segmentation on a grid of its own: each voxel of the series takes the value of the nearest one of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segpipe.dicom.canvas import Canvas
from segpipe.dicom.layout import TOLERANCE_MM
from segpipe.dicom.place_frame import Spot, locate, steps_of
from segpipe.dicom.places import Places, rounding_mm
from segpipe.dicom.plane import Plane
from segpipe.errors import GeometryError
from segpipe.geometry.grid import Grid

_MOST_SLICES = 20_000
_OFF = 0.02
"""Share of the stated distance by which a distance may be no multiple of it."""


def paint_nearest(
    planes: Sequence[Plane], between_mm: float, labels: Callable[[int], NDArray[Any] | None], places: Places, canvas: Canvas
) -> str:
    """Paint all frames, in their own grid first.

    Args:
        between_mm: what is stated as the distance of its slices; 0 where it is not.
        labels: label values (rows, columns) of a frame; None where it shows nothing that is wanted.

    Returns:
        What was done, as a phrase.

    Raises:
        GeometryError: the frames make no even stack.
    """
    own = _own_places(planes, between_mm)
    mine = Canvas(own.shape, int(np.iinfo(canvas.array.dtype).max))
    for number, plane in enumerate(planes):
        values = labels(number)
        if values is not None:
            spot = locate(plane, own)
            if not isinstance(spot, Spot):
                raise GeometryError(f"has frames that make no even stack (one of them {spot}); must be one: export it again")
            spot.paint(mine, values)
    canvas.overlaps.update(mine.overlaps)
    for place in range(canvas.array.shape[2]):
        canvas.paint((slice(None), slice(None), place), _looked_up(mine.array, own, places, place))
    i, j, k = own.grid.spacing_mm if own.grid is not None else (0.0, 0.0, 0.0)
    return f"the nearest of its voxels of {i:.3g} x {j:.3g} x {k:.3g} mm is taken"


def _looked_up(array: NDArray[Any], own: Places, places: Places, place: int) -> NDArray[Any]:
    """The values (I, J) of one slice of the series; 0 beyond the segmentation."""
    if own.grid is None:
        raise GeometryError("makes no even stack")
    i, j = np.meshgrid(*(np.arange(n) for n in places.size), indexing="ij")
    world = places.origins[place] + i[..., None] * places.row + j[..., None] * places.column  # (I, J, 3)
    inverse = np.linalg.inv(own.grid.affine)
    voxels = np.floor(world @ inverse[:3, :3].T + inverse[:3, 3] + 0.5).astype(np.int64)
    inside = ((voxels >= 0) & (voxels < array.shape)).all(axis=-1)
    found = np.zeros(places.size, dtype=array.dtype)
    found[inside] = array[tuple(voxels[inside].T)]
    return found


def _own_places(planes: Sequence[Plane], between_mm: float) -> Places:
    """The even stack that the frames are part of; frames without anything in them may be left out of it."""
    _, row, column = steps_of(planes[0])
    normal = np.cross(row, column)
    normal /= np.linalg.norm(normal)
    points = np.array([steps_of(plane)[0] for plane in planes])
    heights = points @ normal
    low, high = float(heights.min()), float(heights.max())
    step = _step(heights, planes[0], between_mm)
    count = round((high - low) / step) + 1
    tolerance = TOLERANCE_MM + max(map(rounding_mm, planes))
    slots = np.rint((heights - low) / step)
    lowest = points[int(heights.argmin())]
    off = np.linalg.norm(points - lowest - slots[:, None] * step * normal, axis=1)
    if off.max() > 2 * tolerance or count > _MOST_SLICES:
        raise GeometryError(f"has frames that make no even stack (one lies {off.max():.2f} mm beside it); must be one: export it again")
    affine = np.eye(4)
    affine[:3, :3] = np.stack([row, column, step * normal], axis=1)
    affine[:3, 3] = lowest
    at = np.arange(count)
    origins = lowest + at[:, None] * step * normal
    size = (planes[0].columns, planes[0].rows)
    return Places(origins, row, column, normal, origins @ normal, size, at, Grid((*size, count), affine), rounding_mm(planes[0]))


def _step(heights: NDArray[np.float64], plane: Plane, stated: float) -> float:
    """mm between its slices: what is stated, where all distances are multiples of it; else the least distance that there is."""
    apart = np.diff(np.unique(np.round(heights, 3)))
    if not apart.size:
        alone = stated or plane.thickness or 0.0
        if alone <= 0:
            raise GeometryError("has one slice and states no SliceThickness; must state it: export it again")
        return alone
    least = float(apart.min())
    return stated if stated > 0 and np.abs(apart / stated - np.rint(apart / stated)).max() < _OFF else least
