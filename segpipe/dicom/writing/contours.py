"""A mask in one slice -> closed outlines, in pixels: x along a row, y along a column, whole numbers at the centres of pixels.

An outline runs between centres inside and centres outside, so that whoever asks of each centre whether it lies within gets the mask
again, pixel for pixel. It is a hundredth of a pixel nearer to those inside than half-way: who rounds its points to whole pixels, as
some programs do, comes to pixels of the mask and to no others. A hole is joined to the outline around it by a channel without width
(PS3.3 C.8.8.6.3): programs that know one kind of contour only would fill what a second contour inside leaves out. No channel passes
through a centre.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from contourpy import FillType, contour_generator
from numpy.typing import NDArray

Ring = NDArray[np.float64]
"""(N, 2), x and y; the last point is joined to the first."""
_Hole = tuple[int, int, Ring]
"""At which point of a ring it hangs, which ring it is, and the channel from there to its first point."""
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
        found.append(_joined([points[a : b - 1] for a, b in pairwise(offsets)]))
    return [np.add(ring, (x - 1, y - 1)) for ring in _without_straights(found)]


def _without_straights(rings: Sequence[Ring]) -> list[Ring]:
    """Only the points where each outline turns."""
    whole, neighbours = np.concatenate(rings), _neighbours(rings)
    before, after = whole - whole[neighbours[0]], whole[neighbours[1]] - whole
    turning = np.abs(before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]) > _STRAIGHT
    ends = np.cumsum([len(ring) for ring in rings])
    return np.split(whole[turning], np.cumsum(turning)[ends[:-1] - 1])


def _neighbours(rings: Sequence[Ring]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Of each point of all rings in a row: which one comes before it on its ring, and which one after."""
    sizes = np.array([len(ring) for ring in rings])
    ends = np.cumsum(sizes)
    every = np.arange(ends[-1])
    before, after = every - 1, every + 1
    before[ends - sizes], after[ends - 1] = ends - 1, ends - sizes
    return before, after


def _joined(rings: Sequence[Ring]) -> Ring:
    """An outline and its holes as one: each hole by a channel to its right, along a line a quarter of a pixel below its outermost point.

    What lies to the right of a hole there is the outline or another hole that reaches further, and hangs on that by itself.
    """
    if len(rings) == 1:
        return rings[0]
    hanging, firsts = _hanging(rings)
    pieces: list[Ring] = []
    ways = [_legs(rings[0], hanging[0])]
    while ways:
        step = next(ways[-1], None)
        if step is None:
            ways.pop()
        elif isinstance(step, int):
            first, hole = firsts[step], rings[step]
            around = sorted(((at - first) % len(hole), number, way) for at, number, way in hanging[step])
            ways.append(_legs(np.concatenate([hole[first:], hole[: first + 1]]), around))
        else:
            pieces.append(step)
    return np.concatenate(pieces)


def _legs(points: Ring, holes: Sequence[_Hole]) -> Iterator[Ring | int]:
    """A way along a ring that turns aside to each of its holes: points, and the number of a hole where that has to be walked around.

    Args:
        holes: in the order of the points at which they hang.
    """
    last = 0
    for at, number, way in holes:
        yield points[last : at + 1]
        yield way
        yield number
        yield way[::-1]
        last = at
    yield points[last:]


def _hanging(rings: Sequence[Ring]) -> tuple[dict[int, list[_Hole]], dict[int, int]]:
    """For each ring the holes that hang on it, and for each hole its outermost point, at which its channel ends."""
    whole, follow = np.concatenate(rings), _neighbours(rings)[1]
    low, high = np.minimum(whole[:, 1], whole[follow, 1]), np.maximum(whole[:, 1], whole[follow, 1])
    row = np.ceil(low - _BESIDE)  # an edge lies within a pixel, so that it crosses one such line at most
    edges = np.flatnonzero(row + _BESIDE < high)
    start, end = whole[edges], whole[follow[edges]]
    share = (row[edges] + _BESIDE - start[:, 1]) / (end[:, 1] - start[:, 1])
    x = start[:, 0] + share * (end[:, 0] - start[:, 0])
    wide = whole[:, 0].max() + 1
    keys = row[edges] * wide + x
    order = np.argsort(keys)
    begins = np.cumsum([0, *(len(ring) for ring in rings)])
    hanging: dict[int, list[_Hole]] = defaultdict(list)
    firsts: dict[int, int] = {}
    for number, hole in enumerate(rings[1:], 1):
        firsts[number] = int(hole[:, 0].argmax())
        reach, y = hole[firsts[number]]
        crossing = int(order[np.searchsorted(keys, y * wide + reach, side="right", sorter=order)])
        point = int(edges[crossing])
        point = int(follow[point]) if whole[point, 1] > y + _BESIDE else point  # the end of the edge on the line through the centres
        on = int(np.searchsorted(begins, point, side="right")) - 1
        way = np.array([[min(x[crossing], whole[point, 0]) - _ASIDE, y + _BESIDE], [reach + _ASIDE, y + _BESIDE]])
        hanging[on].append((point - int(begins[on]), number, way))
    hanging[0].sort(key=lambda one: one[0])
    return hanging, firsts
