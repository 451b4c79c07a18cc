"""A mask in one slice -> closed outlines, in pixels: x along a row, y along a column, whole numbers at the centres of pixels.

An outline runs between centres inside and centres outside, so that whoever asks of each centre whether it lies within gets the mask
again, pixel for pixel. It is a hundredth of a pixel nearer to those inside than half-way: who rounds its points to whole pixels, as
some programs do, comes to pixels of the mask and to no others. A hole is joined to the outline around it by a channel without width
(PS3.3 C.8.8.6.3): programs that know one kind of contour only would fill what a second contour inside leaves out. No channel passes
through a centre.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from contourpy import FillType, contour_generator
from numpy.typing import NDArray

Ring = NDArray[np.float64]
"""(N, 2), x and y; the last point is joined to the first."""
_LEVEL = 0.51
"""Between 0 outside and 1 inside: the outline is 0.49 pixels from the centre inside."""
_BESIDE = 0.25
"""Outlines turn at whole numbers and near halves, so that a line at a quarter meets their edges and never their corners."""
_ASIDE = 0.1
_STRAIGHT = 1e-6


def outlines(mask: NDArray[np.bool_]) -> list[Ring]:
    """The outline of each part of a mask (rows, columns), its holes joined to it; parts that touch at a corner only are apart."""
    if not mask.any():
        return []
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    y, x = int(rows[0]), int(columns[0])
    part = np.pad(mask[y : rows[-1] + 1, x : columns[-1] + 1], 1).astype(np.float64)
    generator = contour_generator(z=part, fill_type=FillType.OuterOffset)
    found: list[Ring] = []
    points: Any
    offsets: Any
    for points, offsets in zip(*generator.filled(_LEVEL, np.inf), strict=True):
        rings = [np.add(points[a : b - 1], (x - 1, y - 1)) for a, b in pairwise(offsets)]
        found.append(_without_straights(_joined(rings)))
    return found


def _without_straights(ring: Ring) -> Ring:
    """Only the points where the outline turns."""
    before, after = ring - np.roll(ring, 1, axis=0), np.roll(ring, -1, axis=0) - ring
    turn = before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]
    turning: Ring = ring[np.abs(turn) > _STRAIGHT]
    return turning


def _joined(rings: Sequence[Ring]) -> Ring:
    """An outline and its holes as one: each hole by a channel to its right.

    The hole that reaches furthest to the right comes first. Whatever lies to the right of its end is the outline, or a hole that has
    been joined to it already.
    """
    outer, *holes = rings
    for hole in sorted(holes, key=lambda ring: float(ring[:, 0].max()), reverse=True):
        outer = _with_hole(outer, hole)
    return outer


def _with_hole(outer: Ring, hole: Ring) -> Ring:
    """Join a hole at its point that is furthest to the right: a quarter of a pixel up, to the right, and down to a point of `outer`."""
    first = int(hole[:, 0].argmax())
    x, y = hole[first]
    along = y + _BESIDE
    start = max(one[1] for one in _crossings(hole, along))
    edge, reached = min((one for one in _crossings(outer, along) if one[1] > start), key=lambda one: one[1])
    if outer[edge, 1] > along:  # the end of the edge that lies on the line through the centres
        edge = (edge + 1) % len(outer)
    way = np.array([[min(reached, outer[edge, 0]) - _ASIDE, along], [x + _ASIDE, along]])
    around = np.concatenate([hole[first:], hole[: first + 1]])
    return np.concatenate([outer[: edge + 1], way, around, way[::-1], outer[edge:]])


def _crossings(ring: Ring, y: float) -> list[tuple[int, float]]:
    """Where a ring crosses the height y: the number of the edge, which begins at the point of that number, and x."""
    following = np.roll(ring, -1, axis=0)
    edges = np.flatnonzero((ring[:, 1] > y) != (following[:, 1] > y))
    share = (y - ring[edges, 1]) / (following[edges, 1] - ring[edges, 1])
    x = ring[edges, 0] + share * (following[edges, 0] - ring[edges, 0])
    return list(zip(map(int, edges), map(float, x), strict=True))
