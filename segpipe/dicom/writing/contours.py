"""A mask in one slice -> closed outlines, in pixels: x along a row, y along a column, whole numbers at the centres of pixels.

An outline runs half-way between centres inside and centres outside, so that whoever asks of each centre whether it lies within gets
the mask again, pixel for pixel. A hole is joined to the outline around it by a channel without width (PS3.3 C.8.8.6.3): programs that
know one kind of contour only would fill what a second contour inside leaves out. No channel passes through a centre.
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
_HALF = 0.5
_BESIDE = 0.25
"""Outlines turn at whole and half numbers, so that a line at a quarter meets their edges and never their corners."""


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
    for points, offsets in zip(*generator.filled(_HALF, np.inf), strict=True):
        rings = [np.add(points[a : b - 1], (x - 1, y - 1)) for a, b in pairwise(offsets)]
        found.append(_joined([_without_straights(ring) for ring in rings]))
    return found


def _without_straights(ring: Ring) -> Ring:
    """Only the points where the outline turns."""
    before, after = ring - np.roll(ring, 1, axis=0), np.roll(ring, -1, axis=0) - ring
    turn = before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]
    turning: Ring = ring[turn != 0]
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
    end = hole[hole[:, 0].argmax()]
    y = float(end[1]) + _BESIDE
    start_edge, start = max(_crossings(hole, y), key=lambda one: one[1])
    reached = [one for one in _crossings(outer, y) if one[1] > start]
    edge, goal = min(reached, key=lambda one: one[1])
    here, there = np.array([[start, y]]), np.array([[goal, y]])
    around = np.concatenate([hole[start_edge + 1 :], hole[: start_edge + 1]])
    return np.concatenate([outer[: edge + 1], there, here, around, here, there, outer[edge + 1 :]])


def _crossings(ring: Ring, y: float) -> list[tuple[int, float]]:
    """Where a ring crosses the height y: the number of the edge, which begins at the point of that number, and x."""
    following = np.roll(ring, -1, axis=0)
    edges = np.flatnonzero((ring[:, 1] > y) != (following[:, 1] > y))
    share = (y - ring[edges, 1]) / (following[edges, 1] - ring[edges, 1])
    x = ring[edges, 0] + share * (following[edges, 0] - ring[edges, 0])
    return list(zip(map(int, edges), map(float, x), strict=True))
