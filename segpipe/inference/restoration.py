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
from segpipe.prepare.mean import MeanOnScan
from segpipe.prepare.readout import Readout
from segpipe.prepare.restore import LabelsOnScan


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
        self._probabilities, self._walk, self._seconds = ready.probabilities, ready.walk, ready.seconds
        self._grid = ready.grid
        self._clock = Clock(device, ready.batch)
        self._labels: LabelsOnScan | None = None
        self._mean: MeanOnScan | None = None

    def put(self, group: int, box: Box, scores: torch.Tensor) -> None:
        """Take in what a group of networks says of a block, in the order in which `Predictor.parts` gives it.

        Raises:
            DataError: out of memory.
        """
        with self._clock.phase("restore"):
            if self._labels is None and self._mean is None:
                self._begin()
            if self._labels is not None:
                self._labels.put(box, scores)
            elif self._mean is not None:
                self._mean.put(group, box, scores)

    def prediction(self, seconds: dict[str, float]) -> Prediction:
        """The whole, once every block was put.

        Args:
            seconds: of the stages before.

        Raises:
            DataError: out of memory.
            GeometryError: blocks are missing.
        """
        return finish(self.restored(seconds), self._reading, self._grid)

    def restored(self, seconds: dict[str, float]) -> Restored:
        """As `prediction`, without what needs neither the networks nor their device: `finish` does that."""
        with self._clock.phase("restore"):
            if self._labels is not None:
                indices, shares = self._labels.array(), None
            elif self._mean is not None:
                indices, shares = self._mean.labels(), self._mean.probabilities() if self._probabilities else None
            else:
                raise ModelError("no model was given; give at least one model file")
        return Restored(indices, shares, {**self._seconds, **seconds, **self._clock.seconds})

    def _begin(self) -> None:
        """Only some blocks are ever in memory; where probabilities are asked for, classes x scan."""
        reading = self._reading
        if self._walk is None:
            self._labels = LabelsOnScan(self._traces[0], reading.readout, reading.outputs)
        else:
            along, keep = self._walk.along, self._probabilities
            self._mean = MeanOnScan(self._traces, reading.shares, reading.readout, reading.outputs, along, keep)


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


def _voxels(indices: NDArray[Any], labels: tuple[Label, ...]) -> dict[str, int]:
    counts = np.zeros(len(labels), dtype=np.int64)
    for plane in indices:
        counts += np.bincount(plane.ravel(), minlength=len(labels))
    voxels: dict[str, int] = {}
    for label in labels[1:]:
        voxels[label.name] = voxels.get(label.name, 0) + int(counts[label.index])
    return voxels
