"""The contours of a DICOM structure set (PS3.3 C.8.8.6) painted onto the slices of the series that they were drawn on.

A voxel belongs to a region where its centre is inside its contours, looked at in the plane of the slice itself, whatever its orientation.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segpipe.dicom.annotation import CLOSED
from segpipe.dicom.canvas import Canvas
from segpipe.dicom.header import read_object
from segpipe.dicom.layout import TOLERANCE_MM
from segpipe.dicom.places import Places
from segpipe.dicom.polygon import fill, fill_box
from segpipe.errors import DataError, GeometryError

_ON_SLICE_MM = 0.06
"""How far contours may lie from their slice: 0.01 mm, and what numbers with a single digit after the point may be off."""
_FEWEST_POINTS = 3
_SAME_HEIGHT_DIGITS = 2


@dataclass(eq=False)
class Drawing:
    """The contours of one region.

    Attributes:
        polygons: by the place of their slice, (N, 2) pixels along i and j.
        left_out: what was left out, a phrase to the number of contours.
        moved: mm by which contours were moved onto their slices, the most.
    """

    polygons: dict[int, list[NDArray[np.float64]]] = field(default_factory=lambda: defaultdict(list))
    left_out: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    moved: float = 0.0

    def told(self, name: str) -> list[str]:
        """What a user must know, one phrase each."""
        notes = [f"{count} contour(s) of {name!r} {why}: left out" for why, count in sorted(self.left_out.items())]
        places = sorted(self.polygons)
        empty = places[-1] - places[0] + 1 - len(places) if places else 0
        if empty:
            notes.append(f"{name!r} has no contour on {empty} slice(s) between its first and its last one, which stay empty")
        if self.moved:
            notes.append(f"contours of {name!r} lie up to {self.moved:.2f} mm beside their slices, and are taken for the nearest one")
        return notes


def paint_contours(path: Path, values: Mapping[int, int], places: Places, canvas: Canvas, off_grid: str) -> list[str]:
    """Paint the regions that are wanted.

    Args:
        values: region number -> label value.
        off_grid: refuse; or nearest: contours between slices are taken for the nearest one, up to half the distance of slices.

    Returns:
        What is to be told, one phrase each.

    Raises:
        DataError: it is damaged; without the file's name.
        GeometryError: contours are not on the slices, and `off_grid` is refuse, or they are not parallel with them or beyond them.
    """
    header, _ = read_object(path)
    names = {int(item.ROINumber): " ".join(str(item.get("ROIName") or "").split()) for item in header.get("StructureSetROISequence") or []}
    edge = (TOLERANCE_MM / float(np.linalg.norm(places.row)), TOLERANCE_MM / float(np.linalg.norm(places.column)))
    notes: list[str] = []
    for item in header.get("ROIContourSequence") or []:
        number = int(item.get("ReferencedROINumber") or 0)
        if number not in values:
            continue
        name = names.get(number, str(number))
        drawing = _drawing(item.get("ContourSequence") or [], name, places, off_grid)
        notes += drawing.told(name)
        crossing = 0
        for place, polygons in drawing.polygons.items():
            (i, j), inside = fill_box(polygons, places.size, edge)
            crossing += _cross(polygons, places.size, edge)
            canvas.paint((i, j, place), np.where(inside, np.uint16(values[number]), np.uint16(0)))
        if crossing:
            notes.append(f"contours of {name!r} cross each other on {crossing} slice(s); what two have in common counts as a hole")
    return notes


def _drawing(contours: Sequence[Any], name: str, places: Places, off_grid: str) -> Drawing:
    """Contours sorted to slices; of those at several heights that are nearest to one slice, the nearest height."""
    found = Drawing()
    by_height: dict[tuple[int, float], list[NDArray[np.float64]]] = defaultdict(list)
    for contour in contours:
        points = _points(contour, name, found)
        if points is None:
            continue
        heights = points @ places.normal
        if np.ptp(heights) > 2 * _ON_SLICE_MM:
            raise GeometryError(
                f"has a contour of {name!r} that is not parallel with the slices of the series (it spans {np.ptp(heights):.2f} mm across "
                "them); must lie on one slice: export it on this series"
            )
        height = float(heights.mean())
        place = _place(height, name, places, off_grid)
        by_height[place, round(height, _SAME_HEIGHT_DIGITS)].append(points)
    for place in sorted({place for place, _ in by_height}):
        heights_here = [height for where, height in by_height if where == place]
        nearest = min(heights_here, key=lambda one: abs(one - float(places.heights[place])))
        apart = abs(nearest - float(places.heights[place]))
        found.moved = max(found.moved, apart if apart > _ON_SLICE_MM else 0.0)
        for height in heights_here:
            if abs(height - nearest) > _ON_SLICE_MM:
                found.left_out["share a slice with others that are nearer to it"] += len(by_height[place, height])
                continue
            for points in by_height[place, height]:
                _add(found, place, places.within(points, place))
    return found


def _points(contour: Any, name: str, found: Drawing) -> NDArray[np.float64] | None:
    """(N, 3) RAS+ mm; None, and noted, where a contour encloses nothing.

    Raises:
        DataError: its numbers are damaged.
    """
    kind = str(contour.get("ContourGeometricType", "")).upper()
    numbers = coordinates(contour)
    stated = contour.get("NumberOfContourPoints")
    if len(numbers) % 3 or (stated is not None and 3 * int(stated) != len(numbers)):
        raise DataError(
            f"has a contour of {name!r} with {len(numbers)} coordinates, and states {stated} points; must be three a point: it is damaged, "
            "export it again"
        )
    points: NDArray[np.float64] = numbers.reshape(-1, 3) * (-1, -1, 1)
    if not np.isfinite(points).all():
        raise DataError(f"has a contour of {name!r} with NaN or Inf; must be finite: it is damaged, export it again")
    if kind not in CLOSED:
        found.left_out[f"are {kind or 'of no stated kind'}, which enclose nothing"] += 1
        return None
    if len(points) < _FEWEST_POINTS:
        found.left_out[f"have fewer than {_FEWEST_POINTS} points"] += 1
        return None
    return points


def coordinates(contour: Any) -> NDArray[np.float64]:
    """The numbers of [Contour Data]; from the file's own text where pydicom has not made objects of them, which takes ten times as long."""
    raw = contour.get_item("ContourData")
    value = None if raw is None else raw.value
    if isinstance(value, bytes):
        text = value.strip(b" \0")
        return np.array(text.split(b"\\"), dtype=np.bytes_).astype(np.float64) if text else np.zeros(0)
    value = contour.get("ContourData")
    return np.atleast_1d(np.array([] if value in (None, "") else value, dtype=np.float64))


def _place(height: float, name: str, places: Places, off_grid: str) -> int:
    place, apart = places.nearest(height)
    if apart <= _ON_SLICE_MM:
        return place
    if apart > places.reach(place) + TOLERANCE_MM:
        raise GeometryError(
            f"has a contour of {name!r} {apart:.2f} mm from the nearest slice of the series, at {height:.2f} mm along their normal; must "
            "lie on one: export it on this series"
        )
    if off_grid != "nearest":
        raise GeometryError(
            f"has a contour of {name!r} {apart:.2f} mm from the nearest slice of the series; must lie on one: export it on this series, or "
            "take the nearest slice (dataset.dicom.off_grid=nearest)"
        )
    return place


def _add(found: Drawing, place: int, points: NDArray[np.float64]) -> None:
    """Keep a contour; the same one twice would be its own hole."""
    if any(one.shape == points.shape and np.allclose(one, points, rtol=0, atol=1e-3) for one in found.polygons[place]):
        found.left_out["are there twice"] += 1
    else:
        found.polygons[place].append(points)


def _cross(polygons: Sequence[NDArray[np.float64]], size: tuple[int, int], edge: tuple[float, float]) -> bool:
    """Whether two polygons of a slice share pixels, beyond the outermost ones, and neither is inside the other."""
    boxes = np.array([[*one.min(axis=0), *one.max(axis=0)] for one in polygons])  # (n, 4)
    masks: dict[int, NDArray[np.bool_]] = {}

    def mask(n: int) -> NDArray[np.bool_]:
        if n not in masks:
            masks[n] = fill([polygons[n]], size, edge)
        return masks[n]

    for n, box in enumerate(boxes):
        touching = (boxes[n + 1 :, :2] <= box[2:]).all(axis=1) & (boxes[n + 1 :, 2:] >= box[:2]).all(axis=1)
        for m in np.flatnonzero(touching) + n + 1:
            both = mask(n) & mask(int(m))
            if 0 < both.sum() < min(mask(n).sum(), mask(int(m)).sum()) and (both & ~_rim(mask(n))).any():
                return True
    return False


def _rim(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The outermost pixels, in which neighbours that touch meet."""
    from scipy import ndimage

    rim: NDArray[np.bool_] = mask & ~ndimage.binary_erosion(mask)
    return rim
