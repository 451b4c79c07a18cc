"""A network of any window size over a volume of any size: overlapping windows, blended with Gaussian weights.

What is finished comes out block by block, so that memory does not grow with classes x volume: of the blended logits, only those that
further windows will still add to are kept. Takes any callable, so that training validates on whole volumes with the very code that
inference uses. Accumulates in float32 whatever the predictor computes in, and never writes into the volume or into what the predictor
returned.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from segpipe.errors import ModelError
from segpipe.geometry.grid import Box, Shape
from segpipe.patches.intervals import Axis, thinnest
from segpipe.patches.windows import check_windows, even_batch, gaussian_weights, windows_at_once
from segpipe.progress import Told

Predictor = Callable[[Tensor], Tensor]
Block = tuple[int, int, int]
"""Numbers of a block's intervals, slowest axis first."""


@dataclass(frozen=True)
class Slowest:
    """The axis along which windows walk last.

    Attributes:
        axis: of the volume.
        backward: whether they walk from its end to its beginning.
    """

    axis: int
    backward: bool = False


@dataclass(frozen=True)
class Empty:
    """Windows that the network need not look at.

    Attributes:
        at_most: for each channel, the value that no voxel of such a window is above.
        logits: for each output, what stands at voxels that no other window covers.
    """

    at_most: tuple[float, ...]
    logits: tuple[float, ...]

    def holds(self, window: Tensor) -> bool:
        """Whether it is such a window, (C, i, j, k)."""
        return all(float(channel.max()) <= most for channel, most in zip(window, self.at_most, strict=True))


def sliding_window(image: Tensor, predict: Predictor, window: Shape, overlap: float, batch: int, told: Told | None = None) -> Tensor:
    """Predict a whole volume window by window; arguments and errors are those of `sliding_blocks`.

    Returns:
        (N, I, J, K) float32 logits.
    """
    logits: Tensor | None = None
    for box, block in sliding_blocks(image, predict, window, overlap, batch, told):
        if logits is None:
            logits = torch.empty((block.shape[0], *image.shape[1:]), device=image.device)
        logits[(slice(None), *(slice(*ends) for ends in box))] = block
    if logits is None:
        raise ModelError(f"volume has {tuple(image.shape[1:])} voxels; must have at least one along each axis")
    return logits


def sliding_blocks(
    image: Tensor,
    predict: Predictor,
    window: Shape,
    overlap: float,
    batch: int,
    told: Told | None = None,
    before: Sequence[bool] = (False, False, False),
    empty: Empty | None = None,
    slowest: Slowest | None = None,
) -> Iterator[tuple[Box, Tensor]]:
    """Predict a volume window by window, and give away each part of it as soon as no window is left that would add to it.

    Windows start every `window * (1 - overlap)` voxels at most, spread evenly from edge to edge. A volume smaller than the window is
    padded with zeros on both sides. Windows walk last along the axis on which the smallest share of the volume waits for further ones:
    the logits in memory are about half a window thick along it, and as large as the volume along the others. The result depends on
    nothing but the arguments.

    Args:
        image: (C, I, J, K), on the device where the result is gathered.
        predict: logits (B, N, i, j, k) of windows (B, C, i, j, k), of any floating type, on any device. Called once a batch, always with
            the same B; the last batch may hold windows whose logits are not used.
        window: voxels `i, j, k`; k is 1 for a 2D network.
        overlap: share of the window, 0 <= overlap < 1.
        batch: most windows in one call; 0: as `windows_at_once` says.
        told: called after each batch with the windows done and the windows in all.
        before: axes along which a block begins with the last voxels of the block before it (backward, ends with the first voxels of it), so
            that values in between can be interpolated.
        empty: which windows are left out; None: none.
        slowest: along which axis windows walk last, whatever must wait then; None: as said above.

    Yields:
        Box of a block in the volume, and its logits (N, i, j, k) float32, contiguous, to be kept or changed as one likes. Together the
        blocks cover the volume.

    Raises:
        ConfigError: overlap, window or batch out of range.
        ModelError: the predictor returns another batch or spatial size than it was given.
    """
    check_windows(window, overlap, batch)
    shape = image.shape[1:]
    if min(shape) == 0:
        return
    padded = _padded(image, window)
    with torch.no_grad():
        blocks = _Blocks(_axes(shape, window, overlap, slowest), slowest, window, before, image.device)
        places = [(number, place) for number, place in enumerate(blocks.places()) if empty is None or not empty.holds(padded[place])]
        size = even_batch(len(places), batch or windows_at_once(window))
    for first in range(0, len(places), size):
        some = places[first : first + size]
        with torch.no_grad():  # not around `yield`: what the caller does there is its own
            rest = [padded[some[-1][1]]] * (size - len(some))
            windows = torch.stack([*(padded[place] for _, place in some), *rest])  # (B, C, i, j, k), a copy
            predicted = _checked(predict(windows), windows)  # (B, N, i, j, k)
            for place, (number, _) in enumerate(some):
                blocks.add(number, predicted[place])
            del predicted, windows  # before the next ones are made
        if told is not None:
            told(first + len(some), len(places))
        yield from blocks.finished(places[first + size][0] if first + size < len(places) else None, empty)
    if not places:
        yield from blocks.finished(None, empty)


@functools.lru_cache(maxsize=64)  # many scans of one protocol have one shape
def most_kept(shape: Shape, window: Shape, overlap: float, slowest: Slowest | None = None) -> int:
    """Most voxels whose logits `sliding_blocks` keeps at a time, those of the window in hand not counted."""
    axes = _axes(shape, window, overlap, slowest)
    order = _order(axes, slowest)
    first, last, voxels = np.zeros((1, 1, 1), np.int64), np.zeros((1, 1, 1), np.int64), np.ones((1, 1, 1), np.int64)
    for place, axis in enumerate(axes[axis] for axis in order):  # numbers of windows and voxels of all blocks, as `_Blocks` has them
        along = [-1 if other == place else 1 for other in range(3)]
        first = first * len(axis.starts) + np.reshape(axis.first, along)
        last = last * len(axis.starts) + np.reshape(axis.last, along)
        voxels = voxels * np.reshape([stop - start for start, stop in axis.intervals], along)
    if slowest is not None:  # a block of the next slab waits for the whole slab before it
        last[1:] = np.maximum(last[1:], last[:-1, -1:, -1:])
    kept = np.bincount(first.ravel(), voxels.ravel(), int(last.max()) + 2) - np.bincount(last.ravel() + 1, voxels.ravel())
    return int(np.cumsum(kept).max())


@functools.lru_cache(maxsize=64)
def largest_block(shape: Shape, window: Shape, overlap: float) -> int:
    """Most voxels that `sliding_blocks` gives away at a time."""
    return math.prod(max(stop - start for start, stop in axis.intervals) for axis in _axes(shape, window, overlap, None))


def slabs(shape: Shape, window: Shape, overlap: float, slowest: Slowest) -> list[tuple[int, int]]:
    """Voxels of the slowest axis that `sliding_blocks` gives away one after the other, each with all blocks across it."""
    axis = _axes(shape, window, overlap, slowest)[slowest.axis]
    return [(start - axis.lead, stop - axis.lead) for start, stop in axis.intervals]


def _axes(shape: Sequence[int], window: Shape, overlap: float, slowest: Slowest | None) -> list[Axis]:
    """Of the padded volume: a shorter axis than the window lies in the middle of it."""
    back = [slowest is not None and slowest.backward and slowest.axis == axis for axis in range(3)]
    inside, lead = [min(w, n) for w, n in zip(window, shape, strict=True)], _lead(shape, window)
    least = [thinnest((inside[0], inside[1], inside[2]), axis) for axis in range(3)]
    every = zip(shape, window, lead, least, back, strict=True)
    return [Axis(n, w, overlap, b, max(n, w), few, backward) for n, w, b, few, backward in every]


def _lead(shape: Sequence[int], window: Shape) -> list[int]:
    """Voxels of padding before each axis."""
    return [max(w - n, 0) // 2 for w, n in zip(window, shape, strict=True)]


def _order(axes: Sequence[Axis], slowest: Slowest | None) -> list[int]:
    """Of the axes, slowest first; of equal ones the first."""
    order = sorted(range(3), key=lambda axis: axes[axis].waiting)
    return order if slowest is None else sorted(order, key=lambda axis: axis != slowest.axis)


class _Blocks:
    """Sums of weighted logits of the parts of a volume that are begun and not finished; a block is an interval along each axis.

    Windows and blocks are numbered alike: along the slowest axis last, if none is given that on which least of the volume waits for
    further windows.
    """

    def __init__(self, axes: Sequence[Axis], slowest: Slowest | None, window: Shape, before: Sequence[bool], device: torch.device) -> None:
        self._axes, self._before, self._device = axes, before, device
        self._order = _order(axes, slowest)
        self._weights = gaussian_weights(window).to(device)
        self._sums: dict[Block, tuple[Tensor, Tensor]] = {}
        a, b, c = (range(len(axes[axis].intervals)) for axis in self._order)
        self._by_slab = slowest is not None
        self._left: list[Block] = sorted(itertools.product(a, b, c), key=self._turn, reverse=True)
        self._edges: dict[tuple[int, Block], Tensor] = {}  # axis and block -> what the block before it along the axis ends with
        self._outputs = 0

    def places(self) -> Iterator[tuple[slice, ...]]:
        """Of the windows, in the padded volume with its channels, in the order in which they are numbered."""
        for numbers in itertools.product(*(range(len(self._axes[axis].starts)) for axis in self._order)):
            place = [slice(None)] * 4
            for axis, number in zip(self._order, numbers, strict=True):
                start = self._axes[axis].starts[number]
                place[1 + axis] = slice(start, start + self._axes[axis].window)
            yield tuple(place)

    def add(self, number: int, logits: Tensor) -> None:
        """The logits (N, i, j, k) of one window."""
        logits = logits.to(self._device)
        self._outputs = logits.shape[0]
        numbers = self._numbers(number)
        for parts in itertools.product(*(self._axes[axis].covered(n) for axis, n in zip(self._order, numbers, strict=True))):
            block = (parts[0][0], parts[1][0], parts[2][0])
            to, source = self._slices([part[1] for part in parts]), self._slices([part[2] for part in parts])
            total, weight = self._sum(block)
            weights = self._weights[source]
            for there, plane in zip(self._inside(total, block), logits, strict=True):
                there[to].addcmul_(plane[source].float(), weights)
            weight[to] += weights

    def finished(self, following: int | None, empty: Empty | None) -> Iterator[tuple[Box, Tensor]]:
        """Blocks that no window from number `following` on will add to; None: no window is left.

        Args:
            empty: what stands where no window has added anything.
        """
        while self._left:
            if following is not None and self._last(self._left[-1]) >= following:
                return
            yield self._finish(self._left.pop(), empty)

    def _turn(self, block: Block) -> tuple[int, int, Block]:
        """Sorts blocks in the order in which they are given away: as soon as they are finished, or slab by slab along the slowest axis."""
        return block[0] if self._by_slab else 0, self._last(block), block

    def _last(self, block: Block) -> int:
        """Number of the last window that covers some of a block."""
        return self._number([self._axes[axis].last[interval] for axis, interval in zip(self._order, block, strict=True)])

    def _number(self, numbers: Sequence[int]) -> int:
        """Of the window that has these numbers along the axes, in their order."""
        found = 0
        for axis, number in zip(self._order, numbers, strict=True):
            found = found * len(self._axes[axis].starts) + number
        return found

    def _numbers(self, number: int) -> list[int]:
        """Of a window along each axis, in their order."""
        numbers = []
        for axis in reversed(self._order):
            number, own = divmod(number, len(self._axes[axis].starts))
            numbers.append(own)
        return numbers[::-1]

    def _slices(self, ordered: Sequence[slice]) -> tuple[slice, ...]:
        """One for each axis of the volume."""
        placed = dict(zip(self._order, ordered, strict=True))
        return tuple(placed[axis] for axis in range(3))

    def _extent(self, block: Block) -> tuple[list[tuple[int, int]], list[bool]]:
        """Voxels of a block along each axis of the padded volume, and whether those of the block before it come first."""
        extent, leads = [(0, 0)] * 3, [False] * 3
        for axis, interval in zip(self._order, block, strict=True):
            extent[axis] = self._axes[axis].intervals[interval]
            leads[axis] = self._before[axis] and interval > 0
        return extent, leads

    def _sum(self, block: Block) -> tuple[Tensor, Tensor]:
        """(N, i, j, k) weighted logits, with room for the voxels that come before, and (i, j, k) weights, without."""
        if block not in self._sums:
            extent, leads = self._extent(block)
            shape = [stop - start for start, stop in extent]
            longer = [n + lead for n, lead in zip(shape, leads, strict=True)]
            self._sums[block] = (torch.zeros((self._outputs, *longer), device=self._device), torch.zeros(shape, device=self._device))
        return self._sums[block]

    def _inside(self, total: Tensor, block: Block) -> Tensor:
        """Without the room for the voxels that come before."""
        _, leads = self._extent(block)
        room = [(0, -1) if axis.backward else (1, None) for axis in self._axes]
        return total[(slice(None), *(slice(*ends) if lead else slice(None) for ends, lead in zip(room, leads, strict=True)))]

    def _finish(self, block: Block, empty: Empty | None) -> tuple[Box, Tensor]:
        if empty is not None:
            self._outputs = len(empty.logits)
        total, weight = self._sum(block)
        del self._sums[block]
        inside = self._inside(total, block)
        for plane, value in zip(inside, empty.logits if empty is not None else [0.0] * len(inside), strict=True):
            plane.div_(weight)
            if empty is not None:
                plane.masked_fill_(weight == 0, value)
        extent, leads = self._extent(block)
        self._join(total, block, leads)
        box = []
        for (start, stop), axis, lead in zip(extent, self._axes, leads, strict=True):
            more = (0, lead) if axis.backward else (lead, 0)
            box.append((start - axis.lead - more[0], stop - axis.lead + more[1]))
        return (box[0], box[1], box[2]), total

    def _join(self, total: Tensor, block: Block, leads: list[bool]) -> None:
        """Put what the blocks before end with first, and keep what this one ends with, beside which their own ends lie already."""
        ends = [(length - 1, 0) if axis.backward else (0, length - 1) for axis, length in zip(self._axes, total.shape[1:], strict=True)]
        for axis in self._order:
            if leads[axis]:
                total.narrow(1 + axis, ends[axis][0], 1).copy_(self._edges.pop((axis, block)))
        for place, axis in enumerate(self._order):
            if self._before[axis] and block[place] + 1 < len(self._axes[axis].intervals):
                after = (*block[:place], block[place] + 1, *block[place + 1 :])
                self._edges[axis, (after[0], after[1], after[2])] = total.narrow(1 + axis, ends[axis][1], 1).clone()


def _padded(image: Tensor, window: Shape) -> Tensor:
    """Zeros around (C, I, J, K) so that no axis is shorter than the window; the image itself where none is."""
    before = _lead(image.shape[1:], window)
    after = [max(w - n, 0) - b for w, n, b in zip(window, image.shape[1:], before, strict=True)]
    if not any(after):
        return image
    pairs = [amount for b, a in zip(reversed(before), reversed(after), strict=True) for amount in (b, a)]
    return functional.pad(image, pairs)


def _checked(predicted: Tensor, windows: Tensor) -> Tensor:
    if predicted.ndim != 5 or predicted.shape[0] != windows.shape[0] or predicted.shape[2:] != windows.shape[2:]:
        raise ModelError(f"network turned {tuple(windows.shape)} into {tuple(predicted.shape)}; must keep batch and spatial size")
    return predicted
