"""One volume in, its label map out: prepare, sliding window, restore."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property, partial
from typing import Any, Literal, TypeVar

import torch

from segpipe.errors import ConfigError, ModelError
from segpipe.geometry.grid import Box, Volume
from segpipe.inference.air import UNSEEN, behind, empty_windows
from segpipe.inference.clock import Clock
from segpipe.inference.ensemble import check_agreement, seeing_alike, together, with_flips
from segpipe.inference.need import Asked
from segpipe.inference.postprocess import rules_of
from segpipe.inference.preparation import Preparation, Ready
from segpipe.inference.restoration import Prediction, Reading, Restoration
from segpipe.inference.thresholds import offsets_of
from segpipe.inference.unlike import known_of, odd_volumes
from segpipe.package.model_file import Model
from segpipe.package.precision import Compute, fast_bf16, lay_out, on_windows
from segpipe.package.torchscript import Network
from segpipe.patches.sliding_window import Empty, sliding_blocks
from segpipe.plan.plan import Plan
from segpipe.prepare.prepared import Prepared
from segpipe.prepare.readout import readout_of
from segpipe.prepare.restore import blended
from segpipe.progress import Told

log = logging.getLogger(__name__)
_T = TypeVar("_T")
Part = tuple[int, Box, torch.Tensor]
"""Number of a group of networks, box of a block on its prepared grid, scores (N, i, j, k) float32 in it."""

Precision = Literal["fp32", "bf16", "auto"]
"""fp32: in torch, the same label map on every machine; bf16: faster where the hardware has it; auto: bf16 where it is fast, else fp32."""


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
        self._groups = seeing_alike(models)
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

    @cached_property
    def preparation(self) -> Preparation:
        """The first stage of a scan, which needs no network."""
        openvino = any(model.runtime != "torch" for model in self.models)
        asked = Asked(self.batch, self.overlap, self.bf16, False, self.passes > 1, openvino, self.memory_gb)
        plans = [[model.plan for model in group] for group in self._groups]
        known = [(model.plan, one) for model, one in zip(self.models, self._known, strict=True) if one is not None]
        return Preparation(plans, known, self.device, asked)

    def restoration(self, ready: Ready) -> Restoration:
        """The last stage of a scan, which is given what the networks say of it."""
        shares = tuple(len(group) / len(self.models) for group in self._groups)
        reading = Reading(self._readout, self.plan.outputs, shares, self._rules, self.plan.labels)
        return Restoration(ready, reading, self.device)

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
        ready = self.preparation.prepare(volume, probabilities)
        clock, restoration = Clock(self.device, ready.batch), self.restoration(ready)
        for part in self.parts(ready, clock, told):
            restoration.put(*part)
        return restoration.prediction(clock.seconds)

    def parts(self, ready: Ready, clock: Clock, told: Told | None = None) -> Iterator[Part]:
        """The second stage: what each group of networks says of a scan, block by block, as soon as it is known.

        Args:
            clock: is told how long the networks take.
            told: see `predict`.

        Raises:
            DataError: out of memory.
            ModelError: the network gives NaN or infinity.
        """
        each = _told_of_each(told, len(self._groups))
        for number, (group, prepared) in enumerate(zip(self._groups, ready.prepared, strict=True)):
            blocks = self._blocks(group, prepared, ready.batch, next(each))
            while True:
                with clock.phase("network"):
                    found = next(blocks, None)
                if found is None:
                    break
                yield number, *found
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
