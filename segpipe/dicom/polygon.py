"""Which pixels lie inside closed polygons: by the even-odd rule, for the pixels' centres."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]
"""(N, 2) pixels along i and j, whole numbers at the centres; the last one is joined to the first."""


def fill_box(polygons: Sequence[Points], size: tuple[int, int], edge: tuple[float, float]) -> tuple[tuple[slice, slice], NDArray[np.bool_]]:
    """As `fill`, of the rectangle around the polygons alone: where it lies in the picture, and its pixels."""
    low = np.clip(np.floor(np.min([one.min(axis=0) for one in polygons], axis=0)) - 1, 0, size).astype(int)
    high = np.clip(np.ceil(np.max([one.max(axis=0) for one in polygons], axis=0)) + 2, low, size).astype(int)
    inside = fill([one - low for one in polygons], (int(high[0] - low[0]), int(high[1] - low[1])), edge)
    return (slice(int(low[0]), int(high[0])), slice(int(low[1]), int(high[1]))), inside


def fill(polygons: Sequence[Points], size: tuple[int, int], edge: tuple[float, float]) -> NDArray[np.bool_]:
    """Pixels (I, J) whose centres are inside an odd number of the polygons: a polygon in another one is a hole, and a keyhole is one too.

    A centre on a line counts as inside: contours that programs draw around pixels go through the centres of the outermost ones, and which
    side of them rounding puts a line on must not matter.

    Args:
        size: pixels along i and j.
        edge: pixels along i and j by which a centre may be off a line and is still on it.
    """
    starts = np.concatenate(polygons) if polygons else np.zeros((0, 2))
    ends = np.concatenate([np.roll(points, -1, axis=0) for points in polygons]) if polygons else starts
    crossed = _crossings(starts, ends, size)
    inside: NDArray[np.bool_] = (np.cumsum(crossed, axis=0)[:-1] % 2).astype(bool)  # (I + 1, J) -> (I, J)
    inside |= _on_lines(starts, ends, size, edge[0])
    inside |= _on_lines(starts[:, ::-1], ends[:, ::-1], (size[1], size[0]), edge[1]).T
    return inside


def _crossings(starts: Points, ends: Points, size: tuple[int, int]) -> NDArray[np.int64]:
    """(I + 1, J) how many edges cross the line of pixels j between pixel i - 1 and pixel i, half-open along j."""
    which, j = _rows(starts[:, 1], ends[:, 1], size[1], 0.0)
    i = _along(starts, ends, which, j)
    count = np.zeros((size[0] + 1, size[1]), dtype=np.int64)
    np.add.at(count, (np.clip(np.ceil(i), 0, size[0]).astype(np.int64), j), 1)
    return count


def _on_lines(starts: Points, ends: Points, size: tuple[int, int], edge: float) -> NDArray[np.bool_]:
    """Centres that an edge passes, walked along j, at less than `edge` along i; edges that run more along i are left to the other walk."""
    steep = np.abs(ends[:, 1] - starts[:, 1]) >= np.abs(ends[:, 0] - starts[:, 0])
    starts, ends = starts[steep], ends[steep]
    which, j = _rows(starts[:, 1], ends[:, 1], size[1], edge)
    i = _along(starts, ends, which, j)
    nearest = np.rint(i)
    on = (np.abs(i - nearest) <= edge) & (nearest >= 0) & (nearest < size[0])
    found = np.zeros(size, dtype=np.bool_)
    found[nearest[on].astype(np.int64), j[on]] = True
    return found


def _rows(low: Points, high: Points, count: int, more: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs (edge, j) of each edge and the whole numbers with low <= j < high or high <= j < low; where widened by `more`, closed."""
    bottom, top = np.minimum(low, high) - more, np.maximum(low, high) + more
    first = np.clip(np.ceil(bottom), 0, count).astype(np.int64)
    last = np.clip(np.floor(top) + 1 if more else np.ceil(top), 0, count).astype(np.int64)
    lengths = np.maximum(last - first, 0)
    which = np.repeat(np.arange(len(first)), lengths)
    offsets = np.arange(int(lengths.sum())) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return which, first[which] + offsets


def _along(starts: Points, ends: Points, which: NDArray[np.int64], j: NDArray[Any]) -> Points:
    """Where along i each edge is at j; at its ends, beyond them."""
    a, b = starts[which], ends[which]
    rise = b[:, 1] - a[:, 1]
    share = np.divide(j - a[:, 1], rise, out=np.zeros(len(which)), where=rise != 0)
    found: Points = a[:, 0] + np.clip(share, 0.0, 1.0) * (b[:, 0] - a[:, 0])
    return found
