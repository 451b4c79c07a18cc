"""Where the voxels of a scan lie among the network's, axis by axis, and the values that they take from a block of these."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import DTypeLike
from torch import Tensor

from segpipe.geometry.resample import nearest_to
from segpipe.prepare.prepared import Trace
from segpipe.prepare.readout import Readout

_MOST_UINT8 = 256


@dataclass(frozen=True)
class Part:
    """The voxels of the scan along one axis that a block decides.

    Attributes:
        out: which they are, in the crop.
        matrix: (voxels of the scan, voxels of the block) float32 weights; None: they are the block's own.
    """

    out: slice
    matrix: Tensor | None

    @property
    def empty(self) -> bool:
        """Whether it decides none."""
        return bool(self.out.start >= self.out.stop)

    @property
    def voxels(self) -> int:
        """How many it decides."""
        return max(0, int(self.out.stop - self.out.start))

    def some(self, first: int, most: int) -> tuple[slice, Part]:
        """Of those that it decides, at most so many from the `first` on: voxels of the block that they lie between, and their part."""
        stop = min(first + most, self.voxels)
        out = slice(self.out.start + first, self.out.start + stop)
        if self.matrix is None:
            return slice(first, stop), Part(out, None)
        rows = self.matrix[first:stop]
        used = torch.nonzero(rows.any(dim=0))
        source = slice(int(used[0]), int(used[-1]) + 1)
        return source, Part(out, rows[:, source])


class Way:
    """One axis: where the voxels of the crop lie among the network's. Both cover the same millimetres.

    Attributes:
        blends: whether a voxel of the scan lies between two of the network's.
    """

    def __init__(self, here: int, there: int, nearest: bool) -> None:
        self._here = here
        self._same = here == there
        self.blends = not (self._same or nearest)
        places = ((torch.arange(there, dtype=torch.float64) + 0.5) * (here / there) - 0.5).clamp(0, here - 1)
        self._low = nearest_to(places, here) if nearest else places.floor().long()
        self._weight = places - self._low if self.blends else torch.zeros_like(places)

    def part(self, start: int, stop: int, device: torch.device) -> Part:
        """What voxels `start` to `stop` of the network's axis decide. Where it blends, that is what lies between them, and beyond the first
        and the last of all: two blocks beside each other have a voxel in common, so that a single one lies in the next block, too, and
        decides nothing.
        """
        if self._same:
            return Part(slice(start, stop), None)
        if self.blends and stop - start == 1 < self._here:
            return Part(slice(0, 0), None)
        last = stop - 1 if self.blends and stop < self._here else stop
        first, end = (int(torch.searchsorted(self._low, bound)) for bound in (start, last))
        if end <= first:
            return Part(slice(first, first), None)
        low, weight = self._low[first:end] - start, self._weight[first:end].float()
        matrix = torch.zeros((end - first, stop - start))
        row = torch.arange(end - first)
        matrix[row, low] = 1.0 - weight
        matrix[row, (low + 1).clamp(max=stop - start - 1)] += weight
        return Part(slice(first, end), matrix.to(device))


def ways_of(trace: Trace) -> list[Way]:
    """Of each prepared axis."""
    crop = [stop - start for start, stop in trace.box]
    return [Way(here, there, nearest) for here, there, nearest in zip(trace.shape, crop, trace.nearest, strict=True)]


def blended(trace: Trace) -> tuple[bool, bool, bool]:
    """Prepared axes along which a voxel of the scan lies between two of the network's."""
    i, j, k = (way.blends for way in ways_of(trace))
    return i, j, k


def interpolated(values: Tensor, parts: Sequence[Part], order: Sequence[int] = (2, 1, 0)) -> Tensor:
    """(..., i, j, k) of a block -> the voxels of the scan that it decides; axes that are only taken over stay exactly as they are.

    Args:
        parts: of each of the last three axes.
        order: in which they are gone through.
    """
    for axis in order:  # each as one matrix product, several times as fast as gathering two neighbours and blending them
        matrix = parts[axis].matrix
        if matrix is None:
            continue
        shape = values.shape
        if axis == 2:
            values = values @ matrix.T
        elif axis == 1:
            values = torch.matmul(matrix, values)
        else:
            values = (matrix @ values.reshape(*shape[:-2], -1)).reshape(*shape[:-3], -1, *shape[-2:])
    return values


def index_type(readout: Readout, outputs: int) -> DTypeLike:
    """Of class indices: uint8 up to 256 classes, else uint16."""
    return np.uint8 if max(readout.paint, default=outputs - 1) < _MOST_UINT8 else np.uint16
