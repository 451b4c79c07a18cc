"""Network grid -> scan grid: the way back of `prepare`, block by block so that classes x scan is never in memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from segpipe.errors import GeometryError
from segpipe.geometry.grid import Box, Shape
from segpipe.geometry.orient import undo_permute_flip
from segpipe.geometry.resample import nearest_to
from segpipe.prepare.prepared import Trace
from segpipe.prepare.readout import CLASSES, Readout

_MOST_UINT8 = 256


class LabelsOnScan:
    """A label map on the scan's grid that grows with each block of logits.

    The logits are interpolated as the scan was resampled, and the class of the largest (or what regions paint) is taken; outside the crop
    it is 0.

    Args:
        outputs: of the network.
    """

    def __init__(self, trace: Trace, readout: Readout, outputs: int) -> None:
        self._trace, self._readout = trace, readout
        most = max(readout.paint, default=outputs - 1)
        self._permuted = np.zeros(_permuted_shape(trace), dtype=np.uint8 if most < _MOST_UINT8 else np.uint16)
        self._inside = self._permuted[_slices(trace.box)]
        self._ways = _ways(trace)

    def put(self, box: Box, logits: Tensor) -> None:
        """Write what a block decides.

        Args:
            box: of the block on the prepared grid; along an axis of `blended`, one that does not begin the volume begins with the last
                voxel of the block before it.
            logits: (N, i, j, k) float32, logits or log-probabilities.
        """
        parts = [way.part(*ends, logits.device) for way, ends in zip(self._ways, box, strict=True)]
        if any(part.empty for part in parts):
            return
        indices = self._readout.indices_of(_interpolated(plane, parts) for plane in logits)
        self._inside[tuple(part.out for part in parts)] = indices.cpu().numpy()

    def array(self) -> NDArray[Any]:
        """(I, J, K) class indices on `trace.scan_grid`; uint8 up to 256 classes, else uint16."""
        return np.ascontiguousarray(undo_permute_flip(self._permuted[None], self._trace.axes, self._trace.flipped)[0])


class ProbabilitiesOnScan:
    """Probabilities on the scan's grid, of the logits that `LabelsOnScan` compares; classes x scan in memory.

    Outside the crop the background has probability 1, and each region 0.
    """

    def __init__(self, trace: Trace, readout: Readout, outputs: int) -> None:
        self._trace, self._readout = trace, readout
        self._permuted = np.zeros((outputs, *_permuted_shape(trace)), dtype=np.float32)
        self._permuted[0] = 0.0 if readout.paint else 1.0
        self._inside = self._permuted[(slice(None), *_slices(trace.box))]
        self._ways = _ways(trace)

    def put(self, box: Box, logits: Tensor) -> None:
        """As `LabelsOnScan.put`."""
        parts = [way.part(*ends, logits.device) for way, ends in zip(self._ways, box, strict=True)]
        if any(part.empty for part in parts):
            return
        target = self._inside[(slice(None), *(part.out for part in parts))]
        for plane, there in zip(logits, target, strict=True):
            there[...] = _interpolated(plane, parts).cpu().numpy()
        for row in range(target.shape[1]):
            target[:, row] = self._readout.probabilities(torch.from_numpy(np.ascontiguousarray(target[:, row]))).numpy()

    def array(self) -> NDArray[np.float32]:
        """(N, I, J, K) float32 on `trace.scan_grid`; of classes it sums to 1 over N."""
        return np.ascontiguousarray(undo_permute_flip(self._permuted, self._trace.axes, self._trace.flipped))


def blended(trace: Trace) -> tuple[bool, bool, bool]:
    """Prepared axes along which a voxel of the scan lies between two of the network's."""
    i, j, k = (way.blends for way in _ways(trace))
    return i, j, k


def restore_labels(logits: Tensor, trace: Trace, readout: Readout = CLASSES) -> NDArray[Any]:
    """The label map of a whole volume of logits (N, *trace.shape), see `LabelsOnScan`."""
    _check(logits, trace)
    labels = LabelsOnScan(trace, readout, logits.shape[0])
    labels.put(_whole(trace.shape), logits.float())
    return labels.array()


def restore_probabilities(logits: Tensor, trace: Trace, readout: Readout = CLASSES) -> NDArray[np.float32]:
    """The probabilities of a whole volume of logits (N, *trace.shape), see `ProbabilitiesOnScan`."""
    _check(logits, trace)
    shares = ProbabilitiesOnScan(trace, readout, logits.shape[0])
    shares.put(_whole(trace.shape), logits.float())
    return shares.array()


@dataclass(frozen=True)
class _Part:
    """The voxels of the scan along one axis that a block decides.

    Attributes:
        out: which they are, in the crop.
        matrix: (voxels of the scan, voxels of the block) float32 weights; None: they are the block's own.
    """

    out: slice
    matrix: Tensor | None

    @property
    def empty(self) -> bool:
        return bool(self.out.start >= self.out.stop)


class _Way:
    """One axis: where the voxels of the crop lie among the network's. Both cover the same millimetres."""

    def __init__(self, here: int, there: int, nearest: bool) -> None:
        self._here = here
        self._same = here == there
        self.blends = not (self._same or nearest)
        places = ((torch.arange(there, dtype=torch.float64) + 0.5) * (here / there) - 0.5).clamp(0, here - 1)
        self._low = nearest_to(places, here) if nearest else places.floor().long()
        self._weight = places - self._low if self.blends else torch.zeros_like(places)

    def part(self, start: int, stop: int, device: torch.device) -> _Part:
        """What voxels `start` to `stop` of the network's axis decide; where it blends, nothing before the second unless it is the first
        of all, and nothing beyond the last.
        """
        if self._same:
            return _Part(slice(start, stop), None)
        last = stop - 1 if self.blends and stop < self._here else stop
        first, end = (int(torch.searchsorted(self._low, bound)) for bound in (start, last))
        if end <= first:
            return _Part(slice(first, first), None)
        low, weight = self._low[first:end] - start, self._weight[first:end].float()
        matrix = torch.zeros((end - first, stop - start))
        row = torch.arange(end - first)
        matrix[row, low] = 1.0 - weight
        matrix[row, (low + 1).clamp(max=stop - start - 1)] += weight
        return _Part(slice(first, end), matrix.to(device))


def _ways(trace: Trace) -> list[_Way]:
    crop = [stop - start for start, stop in trace.box]
    return [_Way(here, there, nearest) for here, there, nearest in zip(trace.shape, crop, trace.nearest, strict=True)]


def _interpolated(plane: Tensor, parts: list[_Part]) -> Tensor:
    """(i, j, k) of one output -> the voxels of the scan that it decides; axes that are only taken over stay exactly as they are."""
    for axis in (2, 1, 0):  # each as one matrix product, several times as fast as gathering two neighbours and blending them
        matrix = parts[axis].matrix
        if matrix is None:
            continue
        shape = plane.shape
        if axis == 2:
            plane = plane @ matrix.T
        elif axis == 1:
            plane = torch.matmul(matrix, plane)
        else:
            plane = (matrix @ plane.reshape(shape[0], -1)).reshape(-1, shape[1], shape[2])
    return plane


def _check(logits: Tensor, trace: Trace) -> None:
    if tuple(logits.shape[1:]) != tuple(trace.shape):
        raise GeometryError(f"logits are {tuple(logits.shape)}; must be (classes, {', '.join(map(str, trace.shape))}) as prepared")


def _whole(shape: Shape) -> Box:
    return ((0, shape[0]), (0, shape[1]), (0, shape[2]))


def _permuted_shape(trace: Trace) -> Shape:
    shape = trace.scan_grid.shape
    return (shape[trace.axes[0]], shape[trace.axes[1]], shape[trace.axes[2]])


def _slices(box: Box) -> tuple[slice, slice, slice]:
    return (slice(*box[0]), slice(*box[1]), slice(*box[2]))
