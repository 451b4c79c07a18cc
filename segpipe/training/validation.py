"""Whole-volume validation: the sliding window of inference on prepared cases, Dice per class."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from segpipe.evaluation.overlap import dice_per_class
from segpipe.package.agreement import agreement
from segpipe.package.precision import Compute, fast_bf16, on_windows
from segpipe.patches.sliding_window import sliding_window
from segpipe.plan.plan import IGNORED, Plan
from segpipe.prepare.readout import readout_of
from segpipe.settings import InferenceSettings
from segpipe.training.data import TrainingCase
from segpipe.training.memory import memory_advice, smaller_scan

_MOST_COMPARED, _COMPARE_SECONDS = 10, 20.0
"""Cases on which bf16 is compared with fp32, and the time after which no further one is begun."""


@dataclass(frozen=True)
class CaseDice:
    """Dice of each class but the background (NaN where neither truth nor prediction has it)."""

    case: str
    dice: list[float]


def predict_indices(network: nn.Module, case: TrainingCase, plan: Plan, window: InferenceSettings, compute: Compute) -> Tensor:
    """Class indices (I, J, K) on the prepared grid."""
    image = case.prepared.image.to(compute.device)
    with torch.inference_mode():
        logits = sliding_window(image, on_windows(network, plan.dims, compute), plan.patch_size, window.overlap, window.batch)
    return readout_of(plan).indices(logits).cpu()


def validate(
    network: nn.Module,
    cases: Sequence[TrainingCase],
    plan: Plan,
    window: InferenceSettings,
    compute: Compute,
    each: Callable[[TrainingCase, Tensor], None] | None = None,
    seconds: float = math.inf,
) -> list[CaseDice]:
    """Dice of every case; the network is put into eval mode and back.

    Args:
        each: called with each case and its predicted indices (for pictures).
        seconds: no further case is begun after these; the first always is.
    """
    was_training = network.training
    network.eval()
    scores: list[CaseDice] = []
    started = time.monotonic()
    try:
        for case in cases:
            if scores and time.monotonic() - started > seconds:
                break
            with memory_advice(f"to validate the case {case.name} as a whole", f"set inference.batch=1; {smaller_scan(case.name)}"):
                indices = predict_indices(network, case, plan, window, compute)
            scores.append(CaseDice(case.name, _dice(indices.numpy(), case.label.numpy(), plan)))
            if each:
                each(case, indices)
    finally:
        network.train(was_training)
    return scores


def bf16_agreement(
    network: nn.Module,
    cases: Sequence[TrainingCase],
    plan: Plan,
    window: InferenceSettings,
    device: str,
    stopped: Callable[[], bool] = lambda: False,
) -> dict[str, Any] | None:
    """How well the label maps in bf16 agree with those in fp32, for the document of the model: the smallest cases, as many as a few seconds
    suffice for; the network stays as it is. None where not all is told: the hardware is slow at bf16, or a label was found in no case.

    Args:
        stopped: whether no further case is to be begun.
    """
    if not fast_bf16(device):
        return None
    started, was_training = time.monotonic(), network.training
    network.eval()  # or statistics of batches would change, and chance come in
    scores: list[CaseDice] = []
    try:
        for case in sorted(cases, key=lambda one: one.prepared.image.numel())[:_MOST_COMPARED]:
            if (scores and time.monotonic() - started > _COMPARE_SECONDS) or stopped():
                break
            full, half = (predict_indices(network, case, plan, window, Compute(device, bf16)).numpy() for bf16 in (False, True))
            scores.append(CaseDice(case.name, dice_per_class(half, full, plan.classes)))
    finally:
        network.train(was_training)
    means = class_means(scores)
    if not means or any(math.isnan(value) for value in means):
        return None
    return agreement(round(min(means), 6), len(scores))


def _dice(indices: NDArray[Any], truth: NDArray[np.uint8], plan: Plan) -> list[float]:
    """Of each class but the background, or each region, over the voxels that somebody has judged."""
    if plan.partly_judged:
        judged = truth != IGNORED
        if not judged.any():
            return [math.nan] * len(plan.targets)
        indices, truth = indices[judged], truth[judged]
    if plan.regions:
        return [dice_per_class(np.isin(indices, members), np.isin(truth, members), 2)[0] for members in plan.targets.values()]
    return dice_per_class(indices, truth, plan.classes)


def class_means(scores: Sequence[CaseDice]) -> list[float]:
    """Mean Dice of each class over the cases that have it; NaN where none has."""
    if not scores:
        return []
    columns = zip(*(score.dice for score in scores), strict=True)
    return [_mean([value for value in column if not math.isnan(value)]) for column in columns]


def mean_dice(scores: Sequence[CaseDice]) -> float:
    """Mean over the classes of `class_means`; NaN without any."""
    return _mean([value for value in class_means(scores) if not math.isnan(value)])


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else math.nan
