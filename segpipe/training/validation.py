"""Whole-volume validation: the sliding window of inference on prepared cases, Dice per class."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from segpipe.evaluation.overlap import dice_per_class
from segpipe.patches.sliding_window import sliding_window
from segpipe.plan.plan import Plan
from segpipe.training.data import TrainingCase
from segpipe.training.module import forward_windows


@dataclass(frozen=True)
class CaseDice:
    """Dice of each class but the background (NaN where neither truth nor prediction has it)."""

    case: str
    dice: list[float]


def predict_indices(network: nn.Module, case: TrainingCase, plan: Plan, window: tuple[float, int], compute: tuple[str, bool]) -> Tensor:
    """Class indices (I, J, K) on the prepared grid.

    Args:
        window: overlap and windows a forward pass.
        compute: device and whether to use bf16.
    """
    (overlap, batch), (device, bf16) = window, compute
    plain = forward_windows(network, plan.dims)

    def predict(windows: Tensor) -> Tensor:
        with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=bf16):
            return plain(windows)

    with torch.inference_mode():
        logits = sliding_window(case.prepared.image.to(device), predict, plan.patch_size, overlap, batch)
    return logits.argmax(0).cpu()


def validate(
    network: nn.Module,
    cases: Sequence[TrainingCase],
    plan: Plan,
    window: tuple[float, int],
    compute: tuple[str, bool],
    each: Callable[[TrainingCase, Tensor], None] | None = None,
) -> list[CaseDice]:
    """Dice of every case; the network is put into eval mode and back.

    Args:
        each: called with each case and its predicted indices (for pictures).
    """
    was_training = network.training
    network.eval()
    scores = []
    try:
        for case in cases:
            indices = predict_indices(network, case, plan, window, compute)
            scores.append(CaseDice(case.name, dice_per_class(indices.numpy(), case.label.numpy(), plan.classes)))
            if each:
                each(case, indices)
    finally:
        network.train(was_training)
    return scores


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
