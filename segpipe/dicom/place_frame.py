"""Which voxels of a series the pixels of a frame are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segpipe.dicom.canvas import Canvas
from segpipe.dicom.places import Places, Vector, tolerance_mm
from segpipe.dicom.plane import Plane
from segpipe.errors import GeometryError

_TO_RAS = np.array([-1.0, -1.0, 1.0])


@dataclass(frozen=True, eq=False)
class Spot:
    """Where a frame belongs.

    Attributes:
        first: voxel (3,) of its first pixel: i, j, place.
        along_row, along_column: the step (3,) from column to column and from row to row, in voxels.
    """

    first: NDArray[np.int64]
    along_row: NDArray[np.int64]
    along_column: NDArray[np.int64]

    def paint(self, canvas: Canvas, labels: NDArray[Any]) -> None:
        """Paint label values (rows, columns); what lies beyond the series is counted."""
        rows, columns = np.nonzero(labels)
        voxels = self.first + columns[:, None] * self.along_row + rows[:, None] * self.along_column  # (n, 3)
        inside = ((voxels >= 0) & (voxels < canvas.array.shape)).all(axis=1)
        canvas.outside += int((~inside).sum())
        canvas.paint(tuple(voxels[inside].T), labels[rows[inside], columns[inside]])


def steps_of(plane: Plane) -> tuple[Vector, Vector, Vector]:
    """RAS+ mm: the first pixel's centre, the step from column to column, and that from row to row.

    Raises:
        GeometryError: it does not say where it lies.
    """
    if plane.position is None or plane.orientation is None or plane.spacing is None:
        raise GeometryError("has a frame that does not say where it lies; must state position, orientation and spacing: export it again")
    row, column = np.array(plane.orientation[:3]) * _TO_RAS, np.array(plane.orientation[3:]) * _TO_RAS
    return np.array(plane.position) * _TO_RAS, row * plane.spacing[1], column * plane.spacing[0]


def locate(plane: Plane, places: Places) -> Spot | str:
    """Where a frame belongs, or how its pixels do not lie on those of the series, as a sentence's end.

    Raises:
        GeometryError: it does not say where it lies.
    """
    origin, row, column = steps_of(plane)
    corners = np.array([origin + a * row + b * column for a in (0, plane.columns - 1) for b in (0, plane.rows - 1)])
    heights = corners @ places.normal
    tolerance = tolerance_mm(places, plane)
    if np.ptp(heights) > 2 * tolerance:
        return _across(plane, places, tolerance)
    place, apart = places.nearest(float(heights.mean()))
    if apart > tolerance:
        return f"has a frame {apart:.2f} mm from the nearest slice of the series"
    first = np.array([*places.within(origin, place), place])
    along = [np.array([*(places.within(origin + step, place) - first[:2]), 0.0]) for step in (row, column)]
    return _whole(plane, (first, along[0], along[1]), places, tolerance)


def _across(plane: Plane, places: Places, tolerance: float) -> Spot | str:
    """A frame that cuts through the slices: its pixels may be voxels of a regular stack all the same."""
    slots = places.grid.shape[2] if places.grid is not None else 0
    if places.grid is None or slots != len(places.heights):
        return "has frames that cut through the slices of the series"
    origin, row, column = steps_of(plane)
    inverse = np.linalg.inv(places.grid.affine)
    return _whole(plane, (inverse[:3, :3] @ origin + inverse[:3, 3], inverse[:3, :3] @ row, inverse[:3, :3] @ column), places, tolerance)


def _whole(plane: Plane, stated: tuple[Vector, Vector, Vector], places: Places, tolerance: float) -> Spot | str:
    """Whole voxels and steps, where what is stated comes to that at every corner."""
    whole = [np.rint(one) for one in stated]
    step_mm = [places.row, places.column, np.zeros(3) if places.grid is None else places.grid.affine[:3, 2]]
    far = 0.0
    for a in (0, plane.columns - 1):
        for b in (0, plane.rows - 1):
            off = sum(share * (one - near) for share, one, near in zip((1, a, b), stated, whole, strict=True))
            far = max(far, float(np.linalg.norm(np.asarray(off) @ np.array(step_mm))))
    if any(np.abs(one).sum() != 1 for one in whole[1:]) or np.abs(whole[1]) @ np.abs(whole[2]):
        return "has pixels of another size or direction than the series"
    if far > tolerance:
        return f"has pixels up to {far:.2f} mm from those of the series"
    first, along_row, along_column = (one.astype(np.int64) for one in whole)
    return Spot(first, along_row, along_column)
