"""How the slices of a stack lie to each other: regular, tilted, with a gap, at varying distances, twice at one place, alone.

All from Image Position and Image Orientation (PS3.3 C.7.6.2.1.1), never from instance numbers, slice locations or stated spacings.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from segpipe.dicom.plane import Plane
from segpipe.errors import GeometryError
from segpipe.geometry.grid import Grid

Kind = Literal["regular", "tilted", "gap", "variable", "single"]

TOLERANCE_MM = 0.01
"""How far a slice may lie from its place in a regular stack."""
_MOST_ROUNDING_MM = 0.05
"""Positions that are stated with few digits may be off by their rounding as well, up to this."""
_SAME_PLACE_MM = 0.01
_TILT_PIXELS = 0.5
"""A stack that leans by less over its whole height, in pixels, is not resampled; its grid holds the lean all the same."""
_FEW = 4
_SHOWN = 3
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True, eq=False)
class Layout:
    """How slices lie.

    Attributes:
        kind: of the places; copies do not count.
        what: the fault in a phrase with positions in mm; empty where there is none.
        order: indices of the planes, by their height along the normal.
        places: of each entry of `order`, the number of its place, from 0; copies share one.
        heights: of each place along the normal, mm, ascending.
        slots: of each place, its number among evenly spaced ones; counts on over a gap.
        grid: of the places as they lie, sheared where tilted; None where they are on no regular grid.
        tilt_degrees: between the stack's axis and the slices' normal.
        upright: whether the slices differ in their height alone, to the tolerance; of regular ones, that they are not tilted.
    """

    kind: Kind
    what: str
    order: tuple[int, ...]
    places: tuple[int, ...]
    heights: tuple[float, ...]
    slots: tuple[int, ...]
    grid: Grid | None
    tilt_degrees: float = 0.0
    upright: bool = True

    @property
    def copies(self) -> int:
        """Planes beyond the first at their place."""
        return len(self.places) - len(self.heights)

    @property
    def copied(self) -> tuple[float, ...]:
        """Heights in mm of the places that have several planes."""
        counts = np.bincount(self.places)
        return tuple(height for height, count in zip(self.heights, counts, strict=True) if count > 1)


def axes_of(planes: Sequence[Plane]) -> NDArray[np.float64]:
    """Unit vectors (3, 3) in LPS+ as rows: along a row, along a column, along the normal; the mean over the planes, made orthogonal."""
    stated = np.array([plane.orientation for plane in planes], dtype=np.float64).mean(axis=0)
    row = stated[:3] / np.linalg.norm(stated[:3])
    column = stated[3:] - (stated[3:] @ row) * row
    column /= np.linalg.norm(column)
    return np.stack([row, column, np.cross(row, column)])


def lay_out(planes: Sequence[Plane]) -> Layout:
    """Order the planes of one stack, which share orientation, spacing and size, and tell how they lie.

    Raises:
        GeometryError: positions so far from the patient that no grid can hold them.
    """
    axes = axes_of(planes)
    points = np.array([plane.position for plane in planes], dtype=np.float64)
    heights = points @ axes[2]
    order = np.argsort(heights, kind="stable")
    heights, points = heights[order], points[order]
    new = np.concatenate([[True], np.diff(heights) > _SAME_PLACE_MM])
    places = np.cumsum(new) - 1
    beside = np.linalg.norm((points - points[new][places]) @ axes[:2].T, axis=1)
    common: dict[str, Any] = {
        "order": tuple(map(int, order)),
        "places": tuple(map(int, places)),
        "heights": tuple(map(float, heights[new])),
    }
    if beside.max() > _SAME_PLACE_MM:
        at = float(heights[int(beside.argmax())])
        what = f"at {at:.2f} mm two slices lie side by side, {beside.max():.2f} mm apart"
        return Layout("variable", what, **common, slots=tuple(range(int(new.sum()))), grid=None, upright=False)
    return _classified(planes, axes, points[new], common)


def _classified(planes: Sequence[Plane], axes: NDArray[np.float64], points: NDArray[np.float64], common: dict[str, Any]) -> Layout:
    first, count = planes[0], len(points)
    slots = np.arange(count)
    if count == 1:
        return Layout("single", "has one slice", **common, slots=(0,), grid=_single_grid(first, axes, points[0]))
    tolerance = _tolerance(planes)
    origin, step = _line(points, slots)
    if _off(points, slots, origin, step) <= tolerance:
        return _on_a_grid(first, axes, count, origin, step, {**common, "slots": tuple(map(int, slots))})
    heights = points @ axes[2]
    lattice = _lattice(heights, tolerance)
    if lattice is not None:
        origin, step = _line(points, lattice)
        if _off(points, lattice, origin, step) <= tolerance:
            what = _gaps(heights, lattice)
            slots_ = tuple(map(int, lattice))
            gapped = _on_a_grid(first, axes, int(lattice[-1]) + 1, origin, step, {**common, "slots": slots_})
            return replace(gapped, kind="gap", what=", ".join(part for part in (what, gapped.what) if part))
    sideways = float(np.ptp(points @ axes[:2].T, axis=0).max())
    what = _distances(points, heights, axes)
    return Layout("variable", what, **common, slots=tuple(map(int, slots)), grid=None, upright=sideways <= tolerance)


def _on_a_grid(
    first: Plane, axes: NDArray[np.float64], count: int, origin: NDArray[np.float64], step: NDArray[np.float64], common: dict[str, Any]
) -> Layout:
    grid = _grid(first, axes, count, origin, step)
    degrees = _degrees(step, axes)
    lean = (count - 1) * step
    if first.spacing is not None and max(abs(lean @ axes[0]) / first.spacing[1], abs(lean @ axes[1]) / first.spacing[0]) > _TILT_PIXELS:
        return Layout("tilted", f"is tilted by {degrees:.2f} degrees", **common, grid=grid, tilt_degrees=degrees, upright=False)
    return Layout("regular", "", **common, grid=grid, tilt_degrees=degrees)


def _tolerance(planes: Sequence[Plane]) -> float:
    """What a slice may be off: a coordinate stated with d digits after the point is off by up to half a unit of the last one."""
    rounding = 0.5 * 10.0 ** -max(plane.decimals for plane in planes) * math.sqrt(3)
    return TOLERANCE_MM + min(rounding, _MOST_ROUNDING_MM)


def _line(points: NDArray[np.float64], slots: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Origin and step of the straight line that comes closest to `points` at `slots`."""
    design = np.stack([np.ones(len(slots)), slots], axis=1)
    (origin, step), *_ = np.linalg.lstsq(design, points, rcond=None)
    return origin, step


def _off(points: NDArray[np.float64], slots: NDArray[np.int64], origin: NDArray[np.float64], step: NDArray[np.float64]) -> float:
    return float(np.linalg.norm(points - origin - slots[:, None] * step, axis=1).max())


def _lattice(heights: NDArray[np.float64], tolerance: float) -> NDArray[np.int64] | None:
    """Slots among evenly spaced heights, where most slices are neighbours in them; None where there are none such."""
    distances = np.diff(heights)
    base = float(np.median(distances[distances <= 1.5 * distances.min()]))
    steps = np.round(distances / base).astype(np.int64)
    wide = int((steps > 1).sum())
    if np.abs(distances - steps * base).max() > 2 * tolerance + TOLERANCE_MM or wide > max(1, len(distances) // _FEW):
        return None
    slots: NDArray[np.int64] = np.concatenate([[0], np.cumsum(steps)])
    return slots


def _gaps(heights: NDArray[np.float64], slots: NDArray[np.int64]) -> str:
    missing = [f"{b - a - 1} between {heights[n]:.2f} and {heights[n + 1]:.2f} mm" for n, (a, b) in enumerate(pairwise(slots)) if b - a > 1]
    total = int(slots[-1]) + 1 - len(slots)
    return f"{total} slice(s) are missing: {_some(missing)}"


def _distances(points: NDArray[np.float64], heights: NDArray[np.float64], axes: NDArray[np.float64]) -> str:
    """Where the distance changes, or where slices have moved sideways."""
    apart = np.diff(heights)
    distances, counts = np.unique(np.round(apart, 2), return_counts=True)
    usual = float(distances[counts.argmax()])
    odd = [n for n in range(len(apart)) if abs(apart[n] - usual) > TOLERANCE_MM]
    if odd:
        where = [f"{apart[n]:.2f} mm between {heights[n]:.2f} and {heights[n + 1]:.2f} mm" for n in odd]
        return f"slices lie at varying distances ({apart.min():.2f} to {apart.max():.2f} mm, mostly {usual:.2f}): {_some(where)}"
    flat = points @ axes[:2].T
    moved = np.linalg.norm(np.diff(flat, axis=0) - np.median(np.diff(flat, axis=0), axis=0), axis=1)
    at = int(moved.argmax())
    place = f"between {heights[at]:.2f} and {heights[at + 1]:.2f} mm"
    return f"slices are shifted sideways against each other, by up to {moved[at]:.2f} mm {place}"


def _some(phrases: list[str]) -> str:
    more = len(phrases) - _SHOWN
    return ", ".join(phrases[:_SHOWN]) + (f" and at {more} more place(s)" if more > 0 else "")


def _degrees(step: NDArray[np.float64], axes: NDArray[np.float64]) -> float:
    return math.degrees(math.atan2(float(np.linalg.norm(axes[:2] @ step)), float(axes[2] @ step)))


def _single_grid(plane: Plane, axes: NDArray[np.float64], point: NDArray[np.float64]) -> Grid | None:
    if not plane.thickness or plane.thickness <= 0:
        return None
    return _grid(plane, axes, 1, point, plane.thickness * axes[2])


def _grid(plane: Plane, axes: NDArray[np.float64], count: int, origin: NDArray[np.float64], step: NDArray[np.float64]) -> Grid:
    """i runs along a row, j along a column, k from slice to slice; PixelSpacing is (from row to row, from column to column)."""
    if plane.spacing is None:
        raise GeometryError("its PixelSpacing is missing; must be stated: repair the header")
    affine = np.eye(4)
    affine[:3, 0] = axes[0] * plane.spacing[1]
    affine[:3, 1] = axes[1] * plane.spacing[0]
    affine[:3, 2] = step
    affine[:3, 3] = origin
    return Grid((plane.columns, plane.rows, count), _LPS_TO_RAS @ affine)


def spread(planes: Sequence[Plane], layout: Layout) -> tuple[Grid, NDArray[np.float64]]:
    """An even grid for slices with a gap or at varying distances, and the heights of its slices: spaced as the closest ones are.

    Raises:
        GeometryError: PixelSpacing is missing.
    """
    if layout.grid is not None:
        low, high = layout.heights[0], layout.heights[-1]
        return layout.grid, np.linspace(low, high, layout.grid.shape[2])
    axes = axes_of(planes)
    heights = np.array(layout.heights)
    count = round(float(heights[-1] - heights[0]) / float(np.diff(heights).min())) + 1
    at = np.linspace(heights[0], heights[-1], count)
    point = np.asarray(planes[0].position, dtype=np.float64)
    return _grid(planes[0], axes, count, point, axes[2] * (at[1] - at[0])), at
