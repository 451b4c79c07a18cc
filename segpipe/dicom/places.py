"""Where the slices of a stack lie, as something that frames and contours can be held against."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segpipe.dicom.layout import TOLERANCE_MM, axes_of
from segpipe.dicom.plane import Plane
from segpipe.dicom.stack import Stack
from segpipe.errors import DataError
from segpipe.geometry.grid import Grid

Vector = NDArray[np.float64]
_MOST_ROUNDING_MM = 0.05
"""Positions that are stated with few digits may be off by their rounding as well, up to this (see `layout`)."""
_TO_RAS = np.array([-1.0, -1.0, 1.0])


@dataclass(frozen=True, eq=False)
class Places:
    """The places of a stack's slices, in the order of their heights.

    Attributes:
        origins: (P, 3) RAS+ mm of the first pixel of each.
        row, column: RAS+ mm from pixel to pixel along i and along j; at right angles.
        normal: unit vector along which heights are counted.
        heights: (P,) mm.
        size: pixels along i and j.
        slots: (P,) number of each among the slices of `grid`.
        grid: of them all, sheared where tilted; None where they lie at varying distances.
        rounding: mm by which a stated position may be off.
    """

    origins: Vector
    row: Vector
    column: Vector
    normal: Vector
    heights: Vector
    size: tuple[int, int]
    slots: NDArray[np.int64]
    grid: Grid | None
    rounding: float

    @property
    def shape(self) -> tuple[int, int, int]:
        """(I, J, P)."""
        return *self.size, len(self.heights)

    def within(self, points: NDArray[Any], place: int) -> Vector:
        """Pixels (..., 2) along i and j of world positions (..., 3), laid into the plane of a slice."""
        away = np.asarray(points, dtype=np.float64) - self.origins[place]
        return np.stack([away @ self.row / (self.row @ self.row), away @ self.column / (self.column @ self.column)], axis=-1)

    def nearest(self, height: float) -> tuple[int, float]:
        """The place that is nearest to a height, and how far it is in mm."""
        place = int(np.abs(self.heights - height).argmin())
        return place, abs(float(self.heights[place]) - height)

    def reach(self, place: int) -> float:
        """Half the distance to the closer neighbour, mm: what is nearer than that belongs to no other slice; 0 of a slice alone."""
        apart = [abs(float(self.heights[place] - self.heights[n])) for n in (place - 1, place + 1) if 0 <= n < len(self.heights)]
        return min(apart) / 2 if apart else 0.0


def places_of(stack: Stack) -> Places:
    """The places of a stack, of copies the first.

    Raises:
        DataError: it has no layout.
    """
    layout, first = stack.layout, stack.first
    if layout is None or first.spacing is None:
        raise DataError(f"series {stack.name}: {stack.problem or 'does not say where it lies'}")
    firsts = [layout.places.index(place) for place in range(len(layout.heights))]
    axes = axes_of(stack.planes) * _TO_RAS
    origins = np.array([stack.planes[n].position for n in firsts], dtype=np.float64) * _TO_RAS
    return Places(
        origins=origins,
        row=axes[0] * first.spacing[1],
        column=axes[1] * first.spacing[0],
        normal=axes[2],
        heights=origins @ axes[2],
        size=(first.columns, first.rows),
        slots=np.array(layout.slots, dtype=np.int64),
        grid=layout.grid,
        rounding=rounding_mm(stack.planes[0]),
    )


def rounding_mm(plane: Plane) -> float:
    """What a stated position may be off by its digits, mm."""
    return min(0.5 * 10.0**-plane.decimals * math.sqrt(3), _MOST_ROUNDING_MM)


def tolerance_mm(places: Places, frame: Plane) -> float:
    """How far a frame may lie from the slice that it was drawn on."""
    return TOLERANCE_MM + max(places.rounding, rounding_mm(frame))
