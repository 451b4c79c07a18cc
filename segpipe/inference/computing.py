"""Which runtime and which precision a call uses: decided from the model files and the machine, before any scan is read."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import torch
from torch import Tensor

from segpipe.errors import ConfigError, ModelError
from segpipe.inference.ensemble import seeing_alike
from segpipe.inference.predictor import Precision
from segpipe.package.agreement import LEAST_DICE, bf16_dice
from segpipe.package.compiled_network import compiled_model
from segpipe.package.compiling import reason_of
from segpipe.package.model_file import Model
from segpipe.package.openvino_network import OpenVinoNetwork, knows_bf16
from segpipe.package.precision import Compute, fast_bf16, on_windows
from segpipe.package.pt2 import quiet
from segpipe.package.runtime import Runtime, in_bf16, in_runtime, same_logits
from segpipe.package.trunk import without_head

log = logging.getLogger(__name__)

_FARTHER, _NEAR = 2.0, 1e-3
"""The error in bf16 of OpenVINO, or of compiled code, may be so many times torch's, and so much more, in units of the logits."""
_PROBE = 32
"""Most voxels along an axis of the window on which two runtimes are compared."""


@dataclass(frozen=True)
class Wanted:
    """Attributes:
    runtime: auto, torch or openvino.
    precision: fp32, bf16, or auto.
    threads: of OpenVINO; 0: as many as torch has.
    compile: compile the networks of torch, which then compute everything.
    """

    runtime: Runtime = "auto"
    precision: Precision = "auto"
    threads: int = 0
    compile: bool = False

    def __post_init__(self) -> None:
        """Raises:
        ConfigError: an unknown word, which must not be taken for another one; or OpenVINO is to be compiled.
        """
        for name, word, known in (("runtime", self.runtime, get_args(Runtime)), ("precision", self.precision, get_args(Precision))):
            if word not in known:
                raise ConfigError(f"{name} is {word!r}; must be one of {', '.join(known)}")
        if self.compile and self.runtime == "openvino":
            raise ConfigError("compile is for the networks of torch, and OpenVINO compiles its own: leave out one of the two")


@dataclass(frozen=True)
class Computing:
    """Attributes:
    models: with the networks that compute.
    bf16: whether they do in bfloat16.
    """

    models: tuple[Model, ...]
    bf16: bool


def choose_computing(models: Sequence[Model], device: torch.device, wanted: Wanted) -> Computing:
    """The models in the runtime that was asked for, or is quickest, and whether in bfloat16.

    OpenVINO must give torch's fp32 logits of a small window of noise. Bfloat16 is taken by itself where the hardware is fast at it and
    each model's document says that it gave the label maps of fp32 on cases of its training; by hand it is always taken, with a warning
    where no document says so. Compiled code must give torch's logits of a whole window of noise, or torch computes as it is. Nothing
    depends on the scans, so that a call that goes on decides as the one before.

    Raises:
        ConfigError, ModelError: see `in_runtime`; or OpenVINO was asked for, and cannot take the network or gives other numbers; or ONNX is
            to be compiled.
    """
    alone = {id(group[0]) for group in seeing_alike(models) if len(group) == 1}  # those that see alike meet behind their heads
    parts = [_cut(model, device) if id(model) in alone else model for model in models]
    if wanted.compile:
        bf16 = _bf16(parts, device, wanted.precision)
        return Computing(tuple(_compiled(model, device, bf16) for model in parts), bf16)
    changed = tuple(_checked(model, device, wanted) for model in parts)
    bf16 = _bf16(changed, device, wanted.precision) and all(
        _as_near(model, part, device) for model, part in zip(changed, parts, strict=True) if model.runtime != part.runtime
    )
    return Computing(tuple(in_bf16(model) for model in changed) if bf16 else changed, bf16)


def _cut(model: Model, device: torch.device) -> Model:
    """The model without its head where that makes no difference."""
    cut = without_head(model)
    if cut.head is None:
        return model
    window = _noise(model)
    same = same_logits(cut.head(_logits(cut, window, device).to(device)).cpu(), _logits(model, window, device))
    return cut if same else model


def _as_near(after: Model, before: Model, device: torch.device) -> bool:
    """Whether OpenVINO's bf16 is about as near to fp32 as torch's, of which the document tells."""
    window = _noise(before)
    full = _logits(before, window, device)
    theirs, ours = (_away(_logits(one, window, device, True), full) for one in (before, in_bf16(after)))
    near = _is_near(ours, theirs)
    if not near:
        log.info("fp32 is used: in bf16 OpenVINO is %.2g away from it, torch %.2g: --runtime torch may use bf16", ours, theirs)
    return near


def _away(found: Tensor, full: Tensor) -> float:
    """Mean distance of logits from those in fp32."""
    return float((found - full).abs().mean())


def _is_near(ours: float, theirs: float) -> bool:
    """Whether bf16 of another runtime is about as near to fp32 as torch's is."""
    return ours <= _FARTHER * theirs + _NEAR


def _compiled(before: Model, device: torch.device, bf16: bool) -> Model:
    """The model compiled where that gives torch's numbers of a whole window, which is what it is compiled for; else as it was."""
    started, window = time.monotonic(), _noise(before, before.plan.patch_size)
    try:
        after = compiled_model(before, device, bf16)
        with quiet():
            found = _logits(after, window, device)
    except ModelError:
        raise
    except Exception as error:  # torch.compile has errors of all kinds
        log.warning("%s is not compiled: %s", before.path, reason_of(error))
        return before
    full = _logits(before, window, device)
    if same_logits(found, full) if not bf16 else _is_near(_away(found, full), _away(_logits(before, window, device, True), full)):
        log.info("%s is compiled (%.0f s)", before.path, time.monotonic() - started)
        return after
    log.warning("%s is not compiled: it gives other numbers than before", before.path)
    return before


def _checked(before: Model, device: torch.device, wanted: Wanted) -> Model:
    """The model in its new runtime where that gives torch's numbers, else as it was."""
    after = in_runtime(before, wanted.runtime, device, wanted.threads)
    if after.runtime == before.runtime:
        return after
    try:
        window = _noise(before)
        if same_logits(_logits(after, window, device), _logits(before, window, device)):
            if isinstance(after.network, OpenVinoNetwork):
                after.network.forget()
            return after
        reason = "OpenVINO gives other numbers than torch: use --runtime torch"
    except ModelError as error:
        reason = str(error)
    if wanted.runtime == "openvino":
        raise ModelError(f"{before.path}: {reason}")
    log.info("%s runs in torch: %s", before.path, reason.removesuffix(": use --runtime torch"))
    return before


def _noise(model: Model, most: Sequence[int] = (_PROBE,) * 3) -> Tensor:
    """(1, C, i, j, k), the same in every call; a window of the plan, or less of it."""
    size = [min(pair) for pair in zip(most, model.plan.patch_size, strict=True)]
    return torch.randn((1, len(model.plan.channels), *size), generator=torch.Generator().manual_seed(0))


def _logits(model: Model, window: Tensor, device: torch.device, bf16: bool = False) -> Tensor:
    """(N, i, j, k) float32, on the processor; features where the model has a head."""
    with torch.inference_mode():
        return on_windows(model.network, model.plan.dims, Compute(str(device), bf16))(window.to(device))[0].float().cpu().clone()


def _bf16(models: Sequence[Model], device: torch.device, precision: Precision) -> bool:
    if precision == "fp32":
        return False
    fast = all(knows_bf16() if model.runtime == "openvino" else fast_bf16(device) for model in models)
    dice = min((bf16_dice(model.document) for model in models), key=lambda value: -math.inf if math.isnan(value) else value)
    agrees = dice >= LEAST_DICE  # not where it is not a number
    told = f"bf16 gave a Dice of {dice:.4f} with fp32" if not math.isnan(dice) else "no training has compared bf16 with fp32"
    if precision == "bf16":
        if not agrees:
            log.warning("bf16, as asked for, but %s (at least %g is wanted): --precision fp32 is safe", told, LEAST_DICE)
        return True
    if fast and not agrees:
        log.info("fp32 is used: %s (at least %g is wanted)", told, LEAST_DICE)
    return fast and agrees
