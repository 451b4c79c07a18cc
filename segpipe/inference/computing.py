"""Which runtime and which precision a call uses: decided before its first scan, on a window of that scan."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from segpipe.errors import ModelError, SegpipeError
from segpipe.geometry.grid import Volume
from segpipe.inference.ensemble import seeing_alike
from segpipe.inference.gather import Examination
from segpipe.inference.predictor import Precision
from segpipe.io.read import read_channels, read_volume
from segpipe.package.model_file import Model
from segpipe.package.openvino_network import knows_bf16
from segpipe.package.precision import Compute, fast_bf16, on_windows
from segpipe.package.runtime import LEAST_DICE, Runtime, in_bf16, in_runtime, same_logits, worst_label
from segpipe.patches.windows import window_places
from segpipe.plan.plan import Plan
from segpipe.prepare.prepare import prepare
from segpipe.prepare.readout import readout_of

log = logging.getLogger(__name__)

_MOST_WINDOWS = 8
"""Looked at, from the middle of the scan outwards, for one with a label in it."""


@dataclass(frozen=True)
class Wanted:
    """Attributes:
    runtime: auto, torch or openvino.
    precision: fp32, bf16, or auto.
    threads: of OpenVINO; 0: as many as torch has.
    """

    runtime: Runtime = "auto"
    precision: Precision = "fp32"
    threads: int = 0


@dataclass(frozen=True)
class Computing:
    """Attributes:
    models: with the networks that compute.
    bf16: whether they do in bfloat16.
    """

    models: tuple[Model, ...]
    bf16: bool


@dataclass(frozen=True, eq=False)
class _Probe:
    """A window of the first scan for one model; logits (N, i, j, k), fp32."""

    window: Tensor
    logits: Tensor
    labelled: bool


def choose_computing(models: Sequence[Model], device: torch.device, wanted: Wanted, scans: Sequence[Examination]) -> Computing:
    """The models in the runtime that was asked for, or is quickest, and whether in bfloat16.

    The first of `scans` that can be read decides, so that a call that goes on with the same folder on the same machine decides as the
    one before. OpenVINO must give torch's logits on a window of it. Bfloat16 must give the label map of fp32, on a window with a label
    in it; else it is told in one line, and fp32 is used.

    Raises:
        ConfigError, ModelError: see `in_runtime`; or OpenVINO was asked for, and cannot take the network or gives other numbers.
    """
    changed = [in_runtime(model, wanted.runtime, device, wanted.threads) for model in models]
    new = any(after.runtime != before.runtime for after, before in zip(changed, models, strict=True))
    if not new and wanted.precision == "fp32":
        return Computing(tuple(changed), False)
    images = _first_images(models, scans)
    if images is None:
        return Computing(tuple(models), False)  # nothing will be computed
    probes = []
    for number, (before, image) in enumerate(zip(models, images, strict=True)):
        changed[number], probe = _checked(before, changed[number], image, device, wanted.runtime)
        probes.append(probe)
    bf16 = wanted.precision != "fp32" and _bf16_agrees(changed, probes, device, wanted.precision)
    return Computing(tuple(in_bf16(model) if bf16 else model for model in changed), bf16)


def _checked(before: Model, after: Model, image: Tensor, device: torch.device, runtime: Runtime) -> tuple[Model, _Probe]:
    """The model in its new runtime where that gives torch's numbers, else as it was; and a window of the scan."""
    try:
        probe = _probe(after, image, device)
        if after.runtime == before.runtime:
            return after, probe
        if same_logits(probe.logits, _logits(before, probe.window, device, False)):
            return after, probe
        reason = "OpenVINO gives other numbers than torch: use --runtime torch"
    except ModelError as error:
        if after.runtime == before.runtime:
            raise
        reason = str(error)
    if runtime == "openvino":
        raise ModelError(f"{before.path}: {reason}")
    log.info("%s runs in torch: %s", before.path, reason.removesuffix(": use --runtime torch"))
    return before, _probe(before, image, device)


def _bf16_agrees(models: Sequence[Model], probes: Sequence[_Probe], device: torch.device, precision: Precision) -> bool:
    for model, probe in zip(models, probes, strict=True):
        openvino = model.runtime == "openvino"
        if not (knows_bf16() if openvino else precision == "bf16" or fast_bf16(device)):
            if precision == "bf16":
                log.info("fp32 is used: this processor has no bf16")
            return False
        if not probe.labelled:
            log.info("fp32 is used: the middle of the first scan has no label on which bf16 could be compared with it")
            return False
        name, dice = worst_label(_logits(in_bf16(model), probe.window, device, True), probe.logits, model)
        if not dice >= LEAST_DICE:
            log.info(
                "fp32 is used: on the first scan bf16 agrees with it on %s to a Dice of %.4f only (must be %g)", name, dice, LEAST_DICE
            )
            return False
    return True


def _probe(model: Model, image: Tensor, device: torch.device) -> _Probe:
    """Of the windows in the middle, the first with a label in it; else the middle one."""
    middle: _Probe | None = None
    for window in _windows(image, model.plan):
        logits = _logits(model, window, device, False)
        probe = _Probe(window, logits, bool(readout_of(model.plan).indices(logits).any()))
        if probe.labelled:
            return probe
        middle = middle or probe
    if middle is None:
        raise ModelError(f"{model.path}: its window has no voxels")
    return middle


def _windows(image: Tensor, plan: Plan) -> list[Tensor]:
    """(1, C, i, j, k) windows of a prepared scan (C, I, J, K), from its middle outwards; a smaller scan is padded as in prediction."""
    missing = [max(size - have, 0) for size, have in zip(plan.patch_size, image.shape[1:], strict=True)]
    pairs = [margin for gap in reversed(missing) for margin in (gap // 2, gap - gap // 2)]
    padded = torch.nn.functional.pad(image, pairs)
    places = window_places(padded.shape[1:], plan.patch_size, 0.5)

    def far(place: tuple[slice, ...]) -> float:
        return math.dist([(part.start + part.stop) / 2 / n for part, n in zip(place, padded.shape[1:], strict=True)], (0.5, 0.5, 0.5))

    return [padded[(slice(None), *place)].unsqueeze(0) for place in sorted(places, key=far)[:_MOST_WINDOWS]]


def _logits(model: Model, window: Tensor, device: torch.device, bf16: bool) -> Tensor:
    """(N, i, j, k) float32, on the processor."""
    with torch.inference_mode():
        return on_windows(model.network, model.plan.dims, Compute(str(device), bf16))(window.to(device))[0].cpu()


def _first_images(models: Sequence[Model], scans: Sequence[Examination]) -> list[Tensor] | None:
    """(C, I, J, K) of the first readable scan, prepared for each model; None where none can be read."""
    for scan in scans:
        if scan.problem:
            continue
        try:
            volume = _read(scan.images)
            prepared = {
                id(model): image for group in seeing_alike(models) for image in [prepare(volume, group[0].plan).image] for model in group
            }
        except SegpipeError as error:
            log.debug("%s: %s", scan.case, error)  # told when its turn comes
            continue
        return [prepared[id(model)] for model in models]
    return None


def _read(images: Sequence[Path]) -> Volume:
    return read_volume(images[0]) if len(images) == 1 else read_channels(images)
