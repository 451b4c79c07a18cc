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
from segpipe.inference.unlike import known_of
from segpipe.inference.walk import Lockstep
from segpipe.package.model_file import Model
from segpipe.package.precision import Compute, fast_bf16, lay_out, on_windows
from segpipe.package.torchscript import Network
from segpipe.patches.sliding_window import Empty, sliding_blocks
from segpipe.patches.windows import windows_at_once
from segpipe.plan.plan import Plan
from segpipe.prepare.readout import readout_of
from segpipe.prepare.way_back import blended
from segpipe.progress import Told

log = logging.getLogger(__name__)
_T = TypeVar("_T")
Part = tuple[int, Box, torch.Tensor]
"""Number of a group of networks, box of a block on its prepared grid, scores (N, i, j, k) float32 in it."""

_ROUNDING = 1e-6
"""Of a sum of shares of windows."""

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
        self.flips = flips and any(mirrorings(model.plan) for model in models)
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
        return sum(2 ** len(mirrorings(model.plan)) if self.flips else 1 for model in self.models)

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

    @property
    def reading(self) -> Reading:
        """How the networks' outputs become labels."""
        shares = tuple(len(group) / len(self.models) for group in self._groups)
        return Reading(self._readout, self.plan.outputs, shares, self._rules, self.plan.labels)

    def restoration(self, ready: Ready) -> Restoration:
        """The last stage of a scan, which is given what the networks say of it."""
        return Restoration(ready, self.reading, self.device)

    def odd_volumes(self, volumes_ml: dict[str, float]) -> list[str]:
        """Labels whose predicted volume is far from those of the training, by the first model that tells them; one phrase each."""
        return self.preparation.odd_volumes(volumes_ml)

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
            del part  # before the next windows are computed
        return restoration.prediction(clock.seconds)

    def parts(self, ready: Ready, clock: Clock, told: Told | None = None) -> Iterator[Part]:
        """The second stage: what each group of networks says of a scan, block by block, as soon as it is known. Several groups take the
        walk side by side: whichever is behind goes on.

        Args:
            clock: is told how long the networks take.
            told: see `predict`.

        Raises:
            DataError: out of memory.
            ModelError: the network gives NaN or infinity.
        """
        shown, traces = _Shown(told, len(self._groups)), [prepared.trace for prepared in ready.prepared]
        lockstep = Lockstep(traces, ready.walk)
        with clock.phase("network"):
            blocks = [self._blocks(number, ready, partial(shown.windows, number)) for number in range(len(self._groups))]
        while (number := lockstep.turn()) is not None:
            with clock.phase("network"):
                found = next(blocks[number], None)
            if found is None:
                lockstep.ended(number)
                shown.ended(number)
                continue
            lockstep.came(number, found[0])
            yield number, *found
            del found  # before the next windows are computed

    def _blocks(self, number: int, ready: Ready, told: Told) -> Iterator[tuple[Box, torch.Tensor]]:
        """Scores of a group's models together, as `sliding_blocks` gives them; none is referred to any more once it is given away."""
        group, prepared = self._groups[number], ready.prepared[number]
        predict = torch.inference_mode()(together([self._network(model) for model in group], self._readout))
        before, empty = blended(prepared.trace), empty_windows(group[0].plan, self._readout)
        head = group[0].head
        kept = Empty(empty.at_most, (UNSEEN,) * head.features) if head is not None and empty is not None else empty

        def scores(block: tuple[Box, torch.Tensor]) -> tuple[Box, torch.Tensor]:
            found = block[1] if head is None else behind(head, block[1], empty)
            if not bool(torch.isfinite(found.sum())):
                raise ModelError(f"{group[0].path}: the network gives NaN or infinity on this scan: check its intensities, or train again")
            return block[0], found

        image, window = prepared.image.to(self.device), group[0].plan.patch_size
        features = group[0].plan.network.features[0] if self.device.type == "cpu" else 0
        most = self.batch or windows_at_once(window, features)
        batch = min(ready.batch, most) if ready.batch else most
        slowest = ready.walk.slowest(prepared.trace) if ready.walk is not None else None
        return map(scores, sliding_blocks(image, predict, window, self.overlap, batch, told, before, kept, slowest))

    def _network(self, model: Model) -> Network:
        """(B, C, i, j, k) -> (B, N, i, j, k)."""
        network = on_windows(model.network, model.plan.dims, Compute(str(self.device), self.bf16))
        return with_flips(network, mirrorings(model.plan)) if self.flips else network


def mirrorings(plan: Plan) -> list[int]:
    """Axes of a window along which a plan allows mirroring."""
    return [axis for axis in range(plan.dims) if plan.flips[axis]]


class _Shown:
    """Tells the windows of all groups together: as if each had as many, since those of the others are not known yet."""

    def __init__(self, told: Told | None, groups: int) -> None:
        self._told, self._shares, self._total = told, [0.0] * groups, 0

    def windows(self, group: int, done: int, total: int) -> None:
        """Of one group, after each batch."""
        self._total = self._total or total
        self._show(group, done / total)

    def ended(self, group: int) -> None:
        """It has nothing left to do; where all was air it had no windows, and never told."""
        if self._shares[group] < 1.0:
            self._show(group, 1.0)

    def _show(self, group: int, share: float) -> None:
        self._shares[group] = share
        if self._told is not None and self._total:
            self._told(int(self._total * sum(self._shares) + _ROUNDING), self._total * len(self._shares))


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
