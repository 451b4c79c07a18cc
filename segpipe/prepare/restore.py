"""Network grid -> scan grid: the way back of `prepare`, block by block so that classes x scan is never in memory."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from segpipe.errors import GeometryError
from segpipe.geometry.grid import Box, Shape
from segpipe.geometry.orient import undo_permute_flip
from segpipe.prepare.mean import MeanOnScan
from segpipe.prepare.prepared import Trace
from segpipe.prepare.readout import CLASSES, Readout
from segpipe.prepare.way_back import index_type, interpolated, ways_of


class LabelsOnScan:
    """A label map on the scan's grid that grows with each block of logits.

    The logits are interpolated as the scan was resampled, and the class of the largest (or what regions paint) is taken; outside the crop
    it is 0.

    Args:
        outputs: of the network.
    """

    def __init__(self, trace: Trace, readout: Readout, outputs: int) -> None:
        self._trace, self._readout = trace, readout
        self._permuted = np.zeros(_permuted_shape(trace), dtype=index_type(readout, outputs))
        self._inside = self._permuted[tuple(slice(*ends) for ends in trace.box)]
        self._ways = ways_of(trace)

    def put(self, box: Box, logits: Tensor) -> None:
        """Write what a block decides.

        Args:
            box: of the block on the prepared grid; along an axis of `blended`, two blocks beside each other have one voxel in common.
            logits: (N, i, j, k) float32, logits or log-probabilities.
        """
        parts = [way.part(*ends, logits.device) for way, ends in zip(self._ways, box, strict=True)]
        if any(part.empty for part in parts):
            return
        indices = self._readout.indices_of(interpolated(plane, parts) for plane in logits)
        self._inside[tuple(part.out for part in parts)] = indices.cpu().numpy()

    def array(self) -> NDArray[Any]:
        """(I, J, K) class indices on `trace.scan_grid`; uint8 up to 256 classes, else uint16."""
        return np.ascontiguousarray(undo_permute_flip(self._permuted[None], self._trace.axes, self._trace.flipped)[0])


def restore_labels(logits: Tensor, trace: Trace, readout: Readout = CLASSES) -> NDArray[Any]:
    """The label map of a whole volume of logits (N, *trace.shape), see `LabelsOnScan`."""
    _check(logits, trace)
    labels = LabelsOnScan(trace, readout, logits.shape[0])
    labels.put(_whole(trace.shape), logits.float())
    return labels.array()


def restore_probabilities(logits: Tensor, trace: Trace, readout: Readout = CLASSES) -> NDArray[np.float32]:
    """The probabilities (N, I, J, K) of a whole volume of logits (N, *trace.shape), see `MeanOnScan`."""
    _check(logits, trace)
    mean = MeanOnScan([trace], (1.0,), readout, logits.shape[0], trace.axes[0], keep=True)
    mean.put(0, _whole(trace.shape), logits.float())
    return mean.probabilities()


def _check(logits: Tensor, trace: Trace) -> None:
    if tuple(logits.shape[1:]) != tuple(trace.shape):
        raise GeometryError(f"logits are {tuple(logits.shape)}; must be (classes, {', '.join(map(str, trace.shape))}) as prepared")


def _whole(shape: Shape) -> Box:
    return ((0, shape[0]), (0, shape[1]), (0, shape[2]))


def _permuted_shape(trace: Trace) -> Shape:
    shape = trace.scan_grid.shape
    return (shape[trace.axes[0]], shape[trace.axes[1]], shape[trace.axes[2]])
