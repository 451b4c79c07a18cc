"""One volume in, its label map out: prepare, sliding window, restore."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from segpipe.errors import ConfigError, ModelError
from segpipe.geometry.grid import Box, Volume
from segpipe.inference.air import UNSEEN, behind, empty_windows
from segpipe.inference.ensemble import check_agreement, seeing_alike, together, with_flips
from segpipe.inference.memory import memory_guard
from segpipe.inference.need import Asked, need_of
from segpipe.inference.postprocess import apply_rules, rules_of
from segpipe.inference.thresholds import offsets_of
from segpipe.inference.unlike import differences, known_of, odd_volumes
from segpipe.package.model_file import Model
from segpipe.package.precision import Compute, fast_bf16, lay_out, on_windows
from segpipe.package.torchscript import Network
from segpipe.patches.sliding_window import Empty, sliding_blocks
from segpipe.plan.plan import Label, Plan
from segpipe.prepare.labels import to_values
from segpipe.prepare.prepare import prepare
from segpipe.prepare.prepared import Prepared
from segpipe.prepare.readout import Readout, readout_of
from segpipe.prepare.restore import LabelsOnScan, ProbabilitiesOnScan, blended
from segpipe.progress import Told

log = logging.getLogger(__name__)
_T = TypeVar("_T")
_WORTH_TELLING = 1.5

Precision = Literal["fp32", "bf16", "auto"]
"""fp32: in torch, the same label map on every machine; bf16: faster where the hardware has it; auto: bf16 where it is fast, else fp32."""


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


class Predictor:
    """One or more models, ready to segment volumes on one device.

    Args:
        models: loaded on `device`; several are an ensemble whose class probabilities are averaged.
        device: where the networks are and compute.
        overlap: of neighbouring windows, as a share of the window, 0 to below 1.
        batch: windows a forward pass; 0: by the size of the window.
        precision: of the network; sums over windows are always fp32.
        offsets: added to the score of each output before the label is chosen; None: those of the models.
        flips: average over the mirrorings that each model's plan allows (test-time augmentation).
        memory_gb: most memory of the process; the batch is made smaller to keep it, and scans that do not fit are refused; 0: no limit.

    Raises:
        ModelError: models that disagree on labels or channels, or a damaged document.
        ConfigError: an argument out of range.
    """

    def __init__(
        self,
        models: Sequence[Model],
        device: torch.device | str = "cpu",
        overlap: float = 0.5,
        batch: int = 0,
        precision: Precision = "fp32",
        offsets: tuple[float, ...] | None = None,
        flips: bool = False,
        memory_gb: float = 0.0,
    ) -> None:
        check_agreement(models)
        if not 0.0 <= overlap < 1.0:
            raise ConfigError(f"overlap is {overlap}; must be at least 0 and below 1")
        if batch < 0:
            raise ConfigError(f"batch is {batch}; must be at least 1, or 0 to let the window decide")
        if precision not in ("fp32", "bf16", "auto"):
            raise ConfigError(f"precision is {precision!r}; must be fp32, bf16 or auto")
        self.models = tuple(models)
        self._known = [_told(model, partial(known_of, model.document, len(model.plan.channels))) for model in models]
        self._rules = _common(models, rules_of, lambda plan: plan.classes, "rules of post-processing")
        own = _common(models, offsets_of, lambda plan: plan.outputs, "thresholds") if offsets is None else offsets
        self._readout = replace(readout_of(self.plan), offsets=own)
        self.device = torch.device(device)
        self.overlap = overlap
        self.batch = batch
        self.flips = flips
        self.memory_gb = memory_gb
        self._told_gb = 0.0
        for model in models:
            lay_out(model.network, model.plan.dims, self.device)
        self.bf16 = precision == "bf16" or (precision == "auto" and fast_bf16(self.device))

    @property
    def plan(self) -> Plan:
        """The first model's plan; labels and channels are those of all."""
        return self.models[0].plan

    @property
    def sha256(self) -> str:
        """SHA-256 of every model file, joined by `+`."""
        return "+".join(model.sha256 for model in self.models if not model.part)

    @property
    def passes(self) -> int:
        """Of networks for each window: models times mirrorings."""
        return sum(2 ** len(_flipped(model.plan)) if self.flips else 1 for model in self.models)

    @property
    def offsets(self) -> tuple[float, ...]:
        """Added to the score of each output before the label is chosen; empty: none."""
        return self._readout.offsets

    def unlike(self, volume: Volume) -> list[str]:
        """How the volume differs from the scans that the models were trained on, one phrase each, so that its label map is doubtful."""
        if volume.channels != len(self.plan.channels):
            return []  # `predict` refuses it
        pairs = zip(self.models, self._known, strict=True)
        return list(
            dict.fromkeys(phrase for model, known in pairs if known is not None for phrase in differences(volume, model.plan, known))
        )

    def odd_volumes(self, volumes_ml: dict[str, float]) -> list[str]:
        """Labels whose predicted volume is far from those of the training, by the first model that tells them; one phrase each."""
        told = next(((model.plan, known) for model, known in zip(self.models, self._known, strict=True) if known is not None), None)
        return odd_volumes(volumes_ml, *told) if told is not None else []

    def predict(self, volume: Volume, probabilities: bool = False, told: Told | None = None) -> Prediction:
        """Segment one volume.

        Args:
            volume: (C, I, J, K) in the scan's own unit, any grid.
            probabilities: also return the probability of each class.
            told: called after each batch with the windows done and the windows in all, over all models.

        Raises:
            DataError: wrong channels, NaN or infinite voxels, out of memory.
            ModelError: the network gives NaN or infinity.
        """
        groups = seeing_alike(self.models)
        batch = self._batch(volume, groups, probabilities)
        clock = _Clock(self.device, batch)
        each = _told_of_each(told, len(groups))
        if len(groups) == 1 and not probabilities:
            indices, shares = self._labels(volume, groups[0], clock, next(each)), None
        else:
            indices, shares = self._with_probabilities(volume, groups, clock, each)
        with clock.phase("restore"):
            indices = apply_rules(indices, self._rules, volume.grid.voxel_volume_ml)
            voxels = _voxels(indices, self.plan.labels)
            values = to_values(indices, self.plan.labels)
        return Prediction(values, shares if probabilities else None, clock.seconds, voxels)

    def _batch(self, volume: Volume, groups: Sequence[Sequence[Model]], probabilities: bool) -> int:
        """Windows a forward pass; what the scan takes in memory is told where it is more than for the scans before."""
        if volume.channels != len(self.plan.channels) or self.device.type != "cpu":
            return self.batch  # `prepare` refuses the one; on a GPU the memory is another, and known only when it is full
        openvino = any(model.runtime == "openvino" for model in self.models)
        asked = Asked(self.batch, self.overlap, self.bf16, probabilities, self.passes > 1, openvino, self.memory_gb)
        need = need_of([[model.plan for model in group] for group in groups], volume, asked)
        if need.gb > _WORTH_TELLING * self._told_gb:
            self._told_gb = need.gb
            log.info("a scan of %s voxels takes about %.2g GB of memory", " x ".join(map(str, volume.grid.shape)), need.gb)
        return need.batch if self.memory_gb else self.batch

    def _labels(self, volume: Volume, group: Sequence[Model], clock: _Clock, told: Told | None) -> NDArray[Any]:
        """(I, J, K) class indices on the scan's grid; of the logits only some blocks are ever in memory."""
        prepared = clock.timed("prepare", lambda: prepare(volume, group[0].plan))
        labels = LabelsOnScan(prepared.trace, self._readout, self.plan.outputs)
        self._fill(labels, group, prepared, clock, told)
        return clock.timed("restore", labels.array)

    def _with_probabilities(
        self, volume: Volume, groups: Sequence[Sequence[Model]], clock: _Clock, each: Iterator[Told | None]
    ) -> tuple[NDArray[Any], NDArray[np.float32]]:
        """Class indices on the scan's grid, and probabilities, for which classes x scan must fit into memory, twice where models differ.

        Models that see different windows (2D and 3D, other spacings) only meet on the scan's grid.
        """
        total: NDArray[np.float32] | None = None
        for group in groups:
            prepared = clock.timed("prepare", lambda group=group: prepare(volume, group[0].plan))  # type: ignore[misc]
            with memory_guard("restore", self.device, clock.batch):
                filled = ProbabilitiesOnScan(prepared.trace, self._readout, self.plan.outputs)
            self._fill(filled, group, prepared, clock, next(each))
            with clock.phase("restore"):
                shares = filled.array()
                del filled
                if len(groups) > 1:
                    shares *= np.float32(len(group) / len(self.models))
                total = shares if total is None else np.add(total, shares, out=total)
        if total is None:
            raise ModelError("no model was given; give at least one model file")
        with clock.phase("restore"):
            return _likeliest(total, self._readout), total

    def _fill(
        self, target: LabelsOnScan | ProbabilitiesOnScan, group: Sequence[Model], prepared: Prepared, clock: _Clock, told: Told | None
    ) -> None:
        blocks = iter(self._blocks(group, prepared, clock.batch, told))
        while True:
            found = clock.timed("network", lambda: next(blocks, None))
            if found is None:
                return
            clock.timed("restore", lambda found=found: target.put(*found))  # type: ignore[misc]
            del found  # before the next windows are computed

    def _blocks(self, group: Sequence[Model], prepared: Prepared, batch: int, told: Told | None) -> Iterator[tuple[Box, torch.Tensor]]:
        """Scores of the group's models together, as `sliding_blocks` gives them."""
        plan = group[0].plan
        networks = [self._network(model) for model in group]
        image = prepared.image.to(self.device)
        predict = torch.inference_mode()(together(networks, self._readout))
        before, empty = blended(prepared.trace), empty_windows(plan, self._readout)
        head = group[0].head
        kept = Empty(empty.at_most, (UNSEEN,) * head.features) if head is not None and empty is not None else empty
        for box, found in sliding_blocks(image, predict, plan.patch_size, self.overlap, batch, told, before, kept):
            scores = found if head is None else behind(head, found, empty)
            if not bool(torch.isfinite(scores.sum())):
                raise ModelError(f"{group[0].path}: the network gives NaN or infinity on this scan: check its intensities, or train again")
            yield box, scores

    def _network(self, model: Model) -> Network:
        """(B, C, i, j, k) -> (B, N, i, j, k)."""
        network = on_windows(model.network, model.plan.dims, Compute(str(self.device), self.bf16))
        return with_flips(network, _flipped(model.plan)) if self.flips else network


def _flipped(plan: Plan) -> list[int]:
    """Axes of a window along which the plan allows mirroring."""
    return [axis for axis in range(plan.dims) if plan.flips[axis]]


def _told_of_each(told: Told | None, models: int) -> Iterator[Told | None]:
    """What is told of each model's windows: those of all models, as if each had as many, since the next ones' are not known yet."""

    def of_all(before: int, done: int, total: int) -> None:
        if told is not None:
            told(before * total + done, models * total)

    return (partial(of_all, number) if told is not None else None for number in range(models))


def _told(model: Model, read: Callable[[], _T]) -> _T:
    """What a model's document tells, a fault with the name of the file."""
    try:
        return read()
    except ModelError as error:
        raise ModelError(f"{model.path}: {error}") from error


def _common(
    models: Sequence[Model], read: Callable[[dict[str, Any], int], tuple[_T, ...]], count: Callable[[Plan], int], what: str
) -> tuple[_T, ...]:
    """What the evidence chose for the models where all have the same; else nothing, because nothing was chosen for them together."""
    each = [_told(model, partial(read, model.document, count(model.plan))) for model in models]
    if any(one != each[0] for one in each):
        log.warning("the models have different %s: none are applied to what they predict together", what)
        return ()
    return each[0]


class _Clock:
    """Seconds of each phase, added up over the models; a failed allocation is told by phase."""

    def __init__(self, device: torch.device, batch: int) -> None:
        self.seconds = {"prepare": 0.0, "network": 0.0, "restore": 0.0}
        self._device = device
        self.batch = batch

    def timed(self, name: str, work: Callable[[], _T]) -> _T:
        """What `work` gives, its time added to a phase."""
        with self.phase(name):
            return work()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        with memory_guard(name, self._device, self.batch):
            yield
            if self._device.type == "cuda":
                torch.cuda.synchronize(self._device)
        self.seconds[name] += time.perf_counter() - start


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
