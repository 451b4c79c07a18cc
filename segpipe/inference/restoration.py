"""Last stage of a scan: what the networks say of it, block by block, becomes its label map."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from segpipe.errors import ModelError
from segpipe.geometry.grid import Box, Grid
from segpipe.inference.clock import Clock
from segpipe.inference.postprocess import Rule, apply_rules
from segpipe.inference.preparation import Ready
from segpipe.plan.plan import Label
from segpipe.prepare.labels import to_values
from segpipe.prepare.readout import Readout
from segpipe.prepare.restore import LabelsOnScan, ProbabilitiesOnScan


@dataclass(frozen=True, eq=False)
class Prediction:
    """What is known of one scan, on its own grid.

    Attributes:
        labels: (I, J, K) of the user's label values, smallest integer type.
        probabilities: (N, I, J, K) float32, background first (or the regions in their order), where they were asked for.
        seconds: of the phases `prepare`, `network`, `restore`.
        voxels: number of voxels (pixels of a picture) of each label but the background, by name.
    """

    labels: NDArray[Any]
    probabilities: NDArray[np.float32] | None
    seconds: dict[str, float]
    voxels: dict[str, int]


@dataclass(frozen=True, eq=False)
class Restored:
    """What the networks have said of one scan, on its own grid, before post-processing.

    Attributes:
        indices: (I, J, K) class indices.
        shares: (N, I, J, K) float32 probabilities, where they were asked for.
        seconds: of the stages so far.
    """

    indices: NDArray[Any]
    shares: NDArray[np.float32] | None
    seconds: dict[str, float]


@dataclass(frozen=True)
class Reading:
    """How the networks' outputs become labels.

    Attributes:
        readout: of the outputs.
        outputs: how many.
        shares: of each group of networks in their mean.
        rules: of post-processing.
        labels: of the label map.
    """

    readout: Readout
    outputs: int
    shares: tuple[float, ...]
    rules: tuple[Rule, ...]
    labels: tuple[Label, ...]


class Restoration:
    """The label map of one scan while it grows.

    Args:
        device: where the blocks are.
    """

    def __init__(self, ready: Ready, reading: Reading, device: torch.device) -> None:
        self._reading = reading
        self._traces = [prepared.trace for prepared in ready.prepared]  # and not the images, which are large
        self._probabilities, self._wide, self._seconds = ready.probabilities, ready.wide, ready.seconds
        self._grid = ready.grid
        self._clock = Clock(device, ready.batch)
        self._labels: LabelsOnScan | None = None
        self._filled: ProbabilitiesOnScan | None = None
        self._total: NDArray[np.float32] | None = None
        self._group = -1

    def put(self, group: int, box: Box, scores: torch.Tensor) -> None:
        """Take in what a group of networks says of a block, in the order in which `Predictor.parts` gives it.

        Raises:
            DataError: out of memory.
        """
        with self._clock.phase("restore"):
            if group != self._group:
                self._begin(group)
            target = self._labels or self._filled
            if target is not None:
                target.put(box, scores)

    def prediction(self, seconds: dict[str, float]) -> Prediction:
        """The whole, once every block was put.

        Args:
            seconds: of the stages before.

        Raises:
            DataError: out of memory.
        """
        return finish(self.restored(seconds), self._reading, self._grid)

    def restored(self, seconds: dict[str, float]) -> Restored:
        """As `prediction`, without what needs neither the networks nor their device: `finish` does that."""
        shares = None
        with self._clock.phase("restore"):
            if self._labels is not None:
                indices = self._labels.array()
            else:
                self._end_group()
                if self._total is None:
                    raise ModelError("no model was given; give at least one model file")
                indices, shares = _likeliest(self._total, self._reading.readout), self._total
        wanted = shares if self._probabilities else None
        return Restored(indices, wanted, {**self._seconds, **seconds, **self._clock.seconds})

    def _begin(self, group: int) -> None:
        """Only some blocks are ever in memory, unless the scan is wide: then classes x scan must fit, twice with several groups."""
        trace = self._traces[group]
        if not self._wide:
            self._labels = LabelsOnScan(trace, self._reading.readout, self._reading.outputs)
        else:
            self._end_group()
            self._filled = ProbabilitiesOnScan(trace, self._reading.readout, self._reading.outputs)
        self._group = group

    def _end_group(self) -> None:
        if self._filled is None:
            return
        shares = self._filled.array()
        self._filled = None
        if len(self._reading.shares) > 1:
            shares *= np.float32(self._reading.shares[self._group])
        self._total = shares if self._total is None else np.add(self._total, shares, out=self._total)


def finish(restored: Restored, reading: Reading, grid: Grid) -> Prediction:
    """Post-processing, the user's own values, and how much there is of each label.

    Args:
        grid: of the scan.

    Raises:
        DataError: out of memory.
    """
    clock = Clock(torch.device("cpu"))
    with clock.phase("restore"):
        indices = apply_rules(restored.indices, reading.rules, grid.voxel_volume_ml)
        voxels = _voxels(indices, reading.labels)
        values = to_values(indices, reading.labels)
    seconds = {**restored.seconds, "restore": restored.seconds.get("restore", 0.0) + clock.seconds["restore"]}
    return Prediction(values, restored.shares, seconds, voxels)


def _likeliest(shares: NDArray[np.float32], readout: Readout) -> NDArray[Any]:
    """(I, J, K) class indices of probabilities (N, I, J, K)."""
    dtype = np.min_scalar_type(max(readout.paint, default=shares.shape[0] - 1))
    planes = (readout.indices(readout.scores(torch.from_numpy(plane.copy()))) for plane in np.moveaxis(shares, 1, 0))
    return np.stack([plane.numpy().astype(dtype) for plane in planes])


def _voxels(indices: NDArray[Any], labels: tuple[Label, ...]) -> dict[str, int]:
    counts = np.zeros(len(labels), dtype=np.int64)
    for plane in indices:
        counts += np.bincount(plane.ravel(), minlength=len(labels))
    voxels: dict[str, int] = {}
    for label in labels[1:]:
        voxels[label.name] = voxels.get(label.name, 0) + int(counts[label.index])
    return voxels
