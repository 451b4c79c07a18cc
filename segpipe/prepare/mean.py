"""Where networks with different plans meet: the mean of their probabilities on the scan's grid, and the label map of it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from segpipe.errors import GeometryError
from segpipe.geometry.grid import Box
from segpipe.prepare.prepared import Trace
from segpipe.prepare.readout import Readout
from segpipe.prepare.way_back import Part, index_type, interpolated, ways_of

AT_ONCE = 2**20
"""Numbers that are interpolated at a time, of all outputs together."""


class MeanOnScan:
    """The mean of what groups of networks say of one scan, each on a prepared grid of its own.

    Planes across an axis of the scan are begun with the first block that decides some of their voxels. Once every group has decided all of
    them, their labels are taken and they are dropped: of groups that walk along this axis side by side, a few planes are in memory at a
    time. In whatever order the blocks come, the result is the same but for rounding.

    Outside its crop a group says background with probability 1, and of each region 0.

    Args:
        traces: of each group, of one scan.
        shares: of each group in the mean.
        outputs: of the networks.
        along: axis of the scan that the planes lie across.
        keep: whether the probabilities are wanted too; they are classes x scan.
    """

    def __init__(
        self, traces: Sequence[Trace], shares: Sequence[float], readout: Readout, outputs: int, along: int, keep: bool = False
    ) -> None:
        shape = traces[0].scan_grid.shape
        self._groups = [_Group(trace, share, along) for trace, share in zip(traces, shares, strict=True)]
        self._readout, self._keep = readout, keep
        self._shape = (outputs, *(n for axis, n in enumerate(shape) if axis != along))  # of a plane
        self._labels = np.zeros(shape, dtype=index_type(readout, outputs))
        self._shares = np.zeros((outputs, *shape) if keep else (0, 0, 0, 0), dtype=np.float32)
        self._labels_across = np.moveaxis(self._labels, along, 0)  # (planes, P, Q)
        self._shares_across = np.moveaxis(self._shares, 1 + along, 1)  # (N, planes, P, Q)
        self._planes: dict[int, Tensor] = {}
        self._spare: list[Tensor] = []  # used again: given back one by one they would leave holes in the heap that nothing fills
        self._left = np.stack([group.voxels(shape[along]) for group in self._groups])  # (groups, planes)
        for number in np.flatnonzero(~self._left.any(axis=0)):
            self._finish([int(number)])

    @property
    def planes(self) -> int:
        """How many are in memory: begun, and not decided by all groups."""
        return len(self._planes)

    def put(self, group: int, box: Box, logits: Tensor) -> None:
        """Add what a block says.

        Args:
            group: whose block it is.
            box: of the block on the group's prepared grid, see `LabelsOnScan.put`.
            logits: (N, i, j, k) float32, logits or log-probabilities.
        """
        one = self._groups[group]
        parts = one.parts(box, logits.device)
        if any(part.empty for part in parts):
            return
        for part, shares in self._probabilities(logits, parts):
            for number, place, plane in one.planes(shares, [part, *parts[1:]]):
                self._plane(number)[place].add_(plane, alpha=one.share)
        numbers, voxels = one.decided(parts)
        self._left[group, numbers] -= voxels
        self._finish([number for number in range(numbers.start, numbers.stop) if not self._left[:, number].any()])

    def labels(self) -> NDArray[Any]:
        """(I, J, K) class indices on the scan's grid; uint8 up to 256 classes, else uint16.

        Raises:
            GeometryError: blocks are missing.
        """
        self._check()
        return self._labels

    def probabilities(self) -> NDArray[np.float32]:
        """(N, I, J, K) float32 on the scan's grid, where they are kept; of classes they sum to 1 over N.

        Raises:
            GeometryError: blocks are missing.
        """
        self._check()
        return self._shares

    def _check(self) -> None:
        missing = int(self._left.any(axis=0).sum())
        if missing:
            raise GeometryError(f"{missing} planes of the scan are not decided by all networks; every block of each must be put")

    def _probabilities(self, logits: Tensor, parts: Sequence[Part]) -> Iterator[tuple[Part, Tensor]]:
        """Those of (N, i, j, k) on the voxels of the scan that it decides, a few rows of the first axis at a time."""
        most = max(1, AT_ONCE // (len(logits) * parts[1].voxels * parts[2].voxels))
        for first in range(0, parts[0].voxels, most):
            source, some = parts[0].some(first, most)
            values = interpolated(logits[:, source], [some, *parts[1:]], order=(0, 2, 1))
            yield some, self._readout.probabilities(values).cpu()

    def _plane(self, number: int) -> Tensor:
        """(N, P, Q) sums; where it is new, with what groups say outside their crops."""
        if number not in self._planes:
            plane = self._spare.pop().zero_() if self._spare else torch.zeros(self._shape)
            if not self._readout.paint:
                for group in self._groups:
                    plane[0] += group.outside(number, plane[0])
            self._planes[number] = plane
        return self._planes[number]

    def _finish(self, numbers: list[int]) -> None:
        """Take labels of planes, and drop them.

        Args:
            numbers: ascending.
        """
        planes = {number: self._plane(number) for number in numbers}
        for _, run in itertools.groupby(enumerate(numbers), key=lambda pair: pair[1] - pair[0]):
            if self._keep:
                self._write([number for _, number in run])
        for number, plane in planes.items():
            self._labels_across[number] = self._readout.indices(self._readout.scores(plane)).numpy()
            self._spare.append(self._planes.pop(number))
        if not self._left.any():
            self._spare.clear()

    def _write(self, numbers: list[int]) -> None:
        """Planes beside each other, together: in the scan their voxels are neighbours, and one by one each would fetch the others'."""
        ends = slice(numbers[0], numbers[-1] + 1)
        for output, target in enumerate(self._shares_across):
            target[ends] = torch.stack([self._planes[number][output] for number in numbers]).numpy()


class _Group:
    """One group's way to the planes.

    Attributes:
        share: in the mean.
    """

    def __init__(self, trace: Trace, share: float, along: int) -> None:
        self.share = share
        self._trace, self._ways = trace, ways_of(trace)
        self._axis = trace.axes.index(along)  # prepared axis across the planes, and those in them in the order of the scan's
        self._inner = [trace.axes.index(axis) for axis in range(3) if axis != along]

    def parts(self, box: Box, device: torch.device) -> list[Part]:
        """What a block decides along each prepared axis."""
        return [way.part(*ends, device) for way, ends in zip(self._ways, box, strict=True)]

    def decided(self, parts: Sequence[Part]) -> tuple[slice, int]:
        """Of which planes of the scan a block decides some voxels, and of how many of each."""
        return self._on_scan(self._axis, parts[self._axis].out), math.prod(parts[axis].voxels for axis in self._inner)

    def planes(self, shares: Tensor, parts: Sequence[Part]) -> Iterator[tuple[int, tuple[slice, ...], Tensor]]:
        """(N, i, j, k) as planes of the scan: number, place in it, and (N, p, q)."""
        numbers = self._on_scan(self._axis, parts[self._axis].out)
        place = (slice(None), *(self._on_scan(axis, parts[axis].out) for axis in self._inner))
        shares = shares.flip([1 + axis for axis in range(3) if self._trace.flipped[axis]])
        shares = shares.permute(0, *(1 + axis for axis in (self._axis, *self._inner))).contiguous()  # (N, planes, p, q)
        for number, plane in enumerate(shares.unbind(1), numbers.start):
            yield number, place, plane

    def voxels(self, planes: int) -> NDArray[np.int64]:
        """How many the group decides of each of the scan's planes in the end."""
        counts = np.zeros(planes, dtype=np.int64)
        counts[self._crop(self._axis)] = math.prod(stop - start for start, stop in (self._trace.box[axis] for axis in self._inner))
        return counts

    def outside(self, number: int, like: Tensor) -> Tensor:
        """(P, Q): the group's share outside the crop, 0 inside."""
        shares, crop = torch.full_like(like, self.share), self._crop(self._axis)
        if crop.start <= number < crop.stop:
            shares[tuple(self._crop(axis) for axis in self._inner)] = 0.0
        return shares

    def _crop(self, axis: int) -> slice:
        start, stop = self._trace.box[axis]
        return self._on_scan(axis, slice(0, stop - start))

    def _on_scan(self, axis: int, out: slice) -> slice:
        """Voxels of the crop as voxels of the scan, along a prepared axis."""
        start, size = self._trace.box[axis][0], self._trace.scan_grid.shape[self._trace.axes[axis]]
        if self._trace.flipped[axis]:
            return slice(size - start - out.stop, size - start - out.start)
        return slice(start + out.start, start + out.stop)
