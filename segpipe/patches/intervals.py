"""One axis of a sliding window: where windows start, and the intervals that the volume is given away in."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

from segpipe.geometry.grid import Shape
from segpipe.patches.windows import window_starts

THINNEST = 16
"""Slices of a block, at least, where windows are one slice thick and small: each block has a cost of its own."""
ENOUGH = 2**18
"""Voxels of a block that needs no more slices."""


def thinnest(window: Shape, axis: int) -> int:
    """Voxels that intervals of an axis have at least.

    Args:
        window: voxels `i, j, k`, no more than the volume has.
    """
    across = math.prod(window) // window[axis]
    return max(1, min(THINNEST // window[axis], ENOUGH // across))


class Axis:
    """One axis of the padded volume, windows and intervals in the order in which it is walked along.

    Args:
        size: voxels of the volume.
        window: voxels of a window.
        lead: voxels of padding before the volume.
        padded: voxels of the padded volume.
        least: voxels of an interval, at least; but for the last one.
        backward: walk from its end to its beginning; windows and intervals are those of the other direction.

    Attributes:
        starts: first voxel of each window.
        intervals: first voxel and end of each, which together are the volume.
        first, last: for each interval, the numbers of the first and the last window that cover some of it.
        backward: as given.
    """

    def __init__(self, size: int, window: int, overlap: float, lead: int, padded: int, least: int, backward: bool = False) -> None:
        self.window, self.lead, self.backward = window, lead, backward
        self._size = size
        self.starts = window_starts(padded, window, overlap)
        ends = sorted({end for start in self.starts for end in (start, start + window) if lead < end < lead + size})
        cuts = [lead]
        for end in ends:
            if end - cuts[-1] >= least:
                cuts.append(end)
        self.intervals = list(itertools.pairwise([*cuts, lead + size]))
        if backward:
            self.starts, self.intervals = self.starts[::-1], self.intervals[::-1]
        over = [[n for n, start in enumerate(self.starts) if start < stop and begin < start + window] for begin, stop in self.intervals]
        self.first, self.last = [numbers[0] for numbers in over], [numbers[-1] for numbers in over]

    @property
    def waiting(self) -> float:
        """Share of the axis that waits for further windows while they walk along it: what two neighbours have in common, the whole where
        there is one window.
        """
        steps = [abs(after - before) for before, after in itertools.pairwise(self.starts)]
        common = self.window - min(steps) if steps else self.window
        return common / self._size

    def covered(self, number: int) -> Iterator[tuple[int, slice, slice]]:
        """Each interval that a window covers some of, by number, and what is common to both: voxels of the interval, of the window."""
        start = self.starts[number]
        for interval, (low, high) in enumerate(self.intervals):
            first, stop = max(low, start), min(high, start + self.window)
            if first < stop:
                yield interval, slice(first - low, stop - low), slice(first - start, stop - start)
