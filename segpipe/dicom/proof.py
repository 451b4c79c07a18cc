"""Proof of a volume's place: every slice's corners by the definition of Image Position (Patient), against an affine."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from segpipe.dicom.layout import Layout
from segpipe.dicom.plane import Plane
from segpipe.dicom.stack import Stack
from segpipe.errors import GeometryError
from segpipe.geometry.grid import Grid

MOST_OFF_MM = 0.06
"""0.01 mm, and what positions that are stated with a single digit after the point may be off."""


def corners_mm(plane: Plane) -> NDArray[np.float64]:
    """(4, 3) RAS+ mm of the centres of a plane's corner pixels, each by PS3.3 equation C.7.6.2.1-1.

    Raises:
        GeometryError: the plane does not say where it lies.
    """
    if plane.position is None or plane.orientation is None or plane.spacing is None:
        raise GeometryError("a slice does not say where it lies; must state its position, orientation and spacing")
    along_row, along_column = np.array(plane.orientation[:3]), np.array(plane.orientation[3:])
    row_mm, column_mm = plane.spacing
    found = [
        np.array(plane.position) + column * column_mm * along_row + row * row_mm * along_column
        for row in (0, plane.rows - 1)
        for column in (0, plane.columns - 1)
    ]
    return np.array(found) * (-1, -1, 1)


def furthest_mm(stack: Stack, layout: Layout, grid: Grid) -> float:
    """How far, at most, a corner of any slice lies from where `grid` puts it.

    Args:
        grid: of the volume; where slices were resampled, only the distance from the planes of the grid's own slices counts.
    """
    inverse: NDArray[np.float64] = np.linalg.inv(grid.affine).astype(np.float64)
    resampled = layout.kind == "variable" or grid.shape[:2] != (stack.first.columns, stack.first.rows)
    worst = 0.0
    for plane, place in zip(stack.planes, layout.places, strict=True):
        corners = corners_mm(plane)
        if resampled:
            worst = max(worst, _off_plane(corners, inverse, grid, layout, place))
            continue
        j, i = plane.rows - 1, plane.columns - 1
        index = np.array([(0, 0), (i, 0), (0, j), (i, j)], dtype=np.float64)
        voxels = np.column_stack([index, np.full(4, layout.slots[place], dtype=np.float64)])
        worst = max(worst, float(np.linalg.norm(grid.world(voxels) - corners, axis=1).max()))
    return worst


def _off_plane(corners: NDArray[np.float64], inverse: NDArray[np.float64], grid: Grid, layout: Layout, place: int) -> float:
    """mm between corners and the plane they belong to; of a stack at varying distances, its heights need not be those of the grid."""
    k = corners @ inverse[2, :3] + inverse[2, 3]
    wanted = float(layout.slots[place]) if layout.kind != "variable" else float(k.mean())
    inside = corners @ inverse[:2, :3].T + inverse[:2, 3]
    beyond = max(0.0, float((-inside).max()), float((inside - np.array(grid.shape[:2]) + 1).max()))
    return max(float(np.abs(k - wanted).max()) * grid.spacing_mm[2], beyond * max(grid.spacing_mm[:2]))
