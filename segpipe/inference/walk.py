"""The way through a scan that groups of networks take side by side, so that what they say meets while it is in memory."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from segpipe.geometry.grid import Box, Shape
from segpipe.patches.sliding_window import Slowest, largest_block, most_kept, slabs
from segpipe.prepare.prepared import Trace


@dataclass(frozen=True)
class Walk:
    """Attributes:
    along: axis of the scan that the windows of all groups walk along last.
    backward: whether they do from the scan's last voxel to its first.
    """

    along: int
    backward: bool

    def slowest(self, trace: Trace) -> Slowest:
        """The same on a prepared grid."""
        axis = trace.axes.index(self.along)
        return Slowest(axis, self.backward != trace.flipped[axis])


@dataclass(frozen=True)
class Seen:
    """What a group of networks sees of a scan.

    Attributes:
        trace: of the prepared scan.
        window: voxels `i, j, k`.
        overlap: of neighbouring windows.
        numbers: that are kept of a voxel: features or outputs.
    """

    trace: Trace
    window: Shape
    overlap: float
    numbers: int


class Lockstep:
    """Whose turn it is: always that of the group that is furthest behind. It knows nothing but the boxes that were given away.

    Args:
        traces: of each group.
        walk: None: one group after the other.

    Attributes:
        fronts: how far each group has come, as voxels of the scan along the walk that lie behind it; infinite where it has ended.
    """

    def __init__(self, traces: Sequence[Trace], walk: Walk | None) -> None:
        self._traces = traces
        self._slowest = [walk.slowest(trace) for trace in traces] if walk is not None else []
        begins = [trace.shape[slow.axis] if slow.backward else 0 for trace, slow in zip(traces, self._slowest, strict=False)]
        self.fronts = [self._walked(group, voxel) for group, voxel in enumerate(begins)] or [0.0] * len(traces)

    def turn(self) -> int | None:
        """The group that goes on, of equal ones the first; None: all have ended."""
        group = min(range(len(self.fronts)), key=self.fronts.__getitem__)
        return None if math.isinf(self.fronts[group]) else group

    def came(self, group: int, box: Box) -> None:
        """A group has given a block away: what is before it lies behind the group, and itself where it is the last one across the walk."""
        if not self._slowest:
            return
        slow, shape = self._slowest[group], self._traces[group].shape
        across = all(box[axis][1] == shape[axis] for axis in range(3) if axis != slow.axis)
        start, stop = box[slow.axis]
        self.fronts[group] = self._walked(group, stop if across != slow.backward else start)

    def ended(self, group: int) -> None:
        """It has nothing left to give."""
        self.fronts[group] = math.inf

    def _walked(self, group: int, voxel: int) -> float:
        """Voxels of the scan from where the walk begins to a face between voxels of a prepared axis."""
        trace, slow = self._traces[group], self._slowest[group]
        (start, stop), size = trace.box[slow.axis], trace.shape[slow.axis]
        place = start + voxel * (stop - start) / size
        whole = trace.scan_grid.shape[trace.axes[slow.axis]]
        return whole - place if slow.backward else place


def choose_walk(seen: Sequence[Seen], outputs: int) -> Walk:
    """That on which least is in memory; of equal ones along the first axis. It begins where the first group's prepared axis does.

    Args:
        outputs: of the networks.
    """
    return min(_walks(seen[0].trace), key=lambda walk: numbers_held(seen, outputs, walk))


def numbers_held(seen: Sequence[Seen], outputs: int, walk: Walk | None) -> int:
    """Most numbers of logits and of probabilities that are in memory at a time, those of the window in hand not counted.

    Args:
        walk: of all groups; None: of a single one, whose blocks become labels at once.
    """
    slowest = [walk.slowest(one.trace) if walk is not None else None for one in seen]
    kept = sum(one.numbers * most_kept(one.trace.shape, one.window, one.overlap, slow) for one, slow in zip(seen, slowest, strict=True))
    if any(one.numbers < outputs for one in seen):  # features, which become logits as they are given away
        kept += outputs * max(largest_block(one.trace.shape, one.window, one.overlap) for one in seen)
    if walk is None:
        return kept
    shape = seen[0].trace.scan_grid.shape
    return kept + outputs * most_planes(seen, walk) * (math.prod(shape) // shape[walk.along])


def most_planes(seen: Sequence[Seen], walk: Walk) -> int:
    """Most planes of the scan across the walk that some group has begun and not every group has ended."""
    lockstep = Lockstep([one.trace for one in seen], walk)
    left = [slabs(one.trace.shape, one.window, one.overlap, walk.slowest(one.trace))[::-1] for one in seen]
    most, furthest = 0, 0.0
    while (group := lockstep.turn()) is not None:
        if not left[group]:
            lockstep.ended(group)
            continue
        behind = lockstep.fronts[group] - _shared(seen[group].trace, walk)
        lockstep.came(group, _across(seen[group].trace, walk, left[group].pop()))
        furthest = max(furthest, lockstep.fronts[group])
        most = max(most, math.ceil(furthest) - max(0, math.floor(behind)))
    return most


def _shared(trace: Trace, walk: Walk) -> float:
    """Voxels of the scan, at the end of a slab, that lie between its last voxel's centre and the next slab's first."""
    axis = walk.slowest(trace).axis
    start, stop = trace.box[axis]
    return 0.5 * (stop - start) / trace.shape[axis] if stop - start != trace.shape[axis] else 0.0


def _walks(trace: Trace) -> Iterator[Walk]:
    return (Walk(along, trace.flipped[trace.axes.index(along)]) for along in range(3))


def _across(trace: Trace, walk: Walk, ends: tuple[int, int]) -> Box:
    """Box of a slab of a prepared grid."""
    i, j, k = (ends if axis == walk.slowest(trace).axis else (0, n) for axis, n in enumerate(trace.shape))
    return i, j, k
