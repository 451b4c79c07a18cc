"""Network grid -> scan grid: the way back of `prepare`, slab by slab so that classes x scan is never in memory."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from segpipe.errors import GeometryError
from segpipe.geometry.grid import Box, Shape
from segpipe.geometry.orient import undo_permute_flip
from segpipe.geometry.resample import nearest_to, resample, resample_axis
from segpipe.prepare.prepared import Trace
from segpipe.prepare.readout import CLASSES, Readout

_SLAB_BYTES = 16 * 2**20
"""Size of the logits of one slab on the scan's grid."""
_MOST_UINT8 = 256


def restore_labels(logits: torch.Tensor, trace: Trace, readout: Readout = CLASSES) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Class of the largest logit (or what regions paint) at each voxel of the scan, logits resampled as the scan was; 0 outside the crop.

    Args:
        logits: (N, *trace.shape), any floating type, logits or log-probabilities.

    Returns:
        (I, J, K) class indices on `trace.scan_grid`; uint8 up to 256 classes, else uint16.
    """
    _check(logits, trace)
    dtype = np.uint8 if logits.shape[0] <= _MOST_UINT8 else np.uint16
    permuted = np.zeros(_permuted_shape(trace), dtype=dtype)
    inside = permuted[_slices(trace.box)]
    for start, stop, slab in _slabs(logits, trace):
        inside[start:stop] = readout.indices(slab).cpu().numpy()
    return np.ascontiguousarray(undo_permute_flip(permuted[None], trace.axes, trace.flipped)[0])


def restore_probabilities(logits: torch.Tensor, trace: Trace, readout: Readout = CLASSES) -> NDArray[np.float32]:
    """Probability of each class (or region) at each voxel of the scan: that of the logits that `restore_labels` compares.

    Outside the crop the background has probability 1, and each region 0.

    Returns:
        (N, I, J, K) float32 on `trace.scan_grid`; of classes it sums to 1 over N.
    """
    _check(logits, trace)
    permuted = np.zeros((logits.shape[0], *_permuted_shape(trace)), dtype=np.float32)
    permuted[0] = 0.0 if readout.paint else 1.0
    inside = permuted[(slice(None), *_slices(trace.box))]
    for start, stop, slab in _slabs(logits, trace):
        inside[:, start:stop] = readout.probabilities(slab.float()).cpu().numpy()
    return np.ascontiguousarray(undo_permute_flip(permuted, trace.axes, trace.flipped))


def _check(logits: torch.Tensor, trace: Trace) -> None:
    if tuple(logits.shape[1:]) != tuple(trace.shape):
        raise GeometryError(f"logits are {tuple(logits.shape)}; must be (classes, {', '.join(map(str, trace.shape))}) as prepared")


def _permuted_shape(trace: Trace) -> Shape:
    shape = trace.scan_grid.shape
    return (shape[trace.axes[0]], shape[trace.axes[1]], shape[trace.axes[2]])


def _slices(box: Box) -> tuple[slice, slice, slice]:
    return (slice(*box[0]), slice(*box[1]), slice(*box[2]))


def _slabs(logits: torch.Tensor, trace: Trace) -> Iterator[tuple[int, int, torch.Tensor]]:
    """Logits (N, stop - start, J, K) of each slab of the crop, on the scan's voxels."""
    crop = [stop - start for start, stop in trace.box]
    thickness = max(1, _SLAB_BYTES // (4 * logits.shape[0] * crop[1] * crop[2]))
    for start in range(0, crop[0], thickness):
        stop = min(start + thickness, crop[0])
        yield start, stop, _on_scan(logits, trace, start, stop)


def _on_scan(logits: torch.Tensor, trace: Trace, start: int, stop: int) -> torch.Tensor:
    """One slab; an axis that was not resampled is only sliced, so that the way back is exact."""
    crop = [last - first for first, last in trace.box]
    if crop[0] == logits.shape[1]:
        slab = logits[:, start:stop]
    else:  # where the centres of the scan's voxels lie on the network's axis: both cover the same millimetres
        scan = torch.arange(start, stop, dtype=torch.float64)
        places = (scan + 0.5) * (logits.shape[1] / crop[0]) - 0.5
        if trace.nearest[0]:
            slab = logits.index_select(1, nearest_to(places, logits.shape[1]).to(logits.device))
        else:
            slab = resample_axis(logits, 1, places)
    return resample(slab, (stop - start, crop[1], crop[2]), trace.nearest)
