"""Several models as one: what they must agree on, and the average of their probabilities."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch

from segpipe.errors import ModelError
from segpipe.package.model_file import Model
from segpipe.prepare.readout import Readout


def check_agreement(models: Sequence[Model]) -> None:
    """An ensemble needs the same labels and the same channels in the same order.

    Raises:
        ModelError: no model, or two that disagree; names both files and what differs.
    """
    if not models:
        raise ModelError("no model was given; give at least one model file")
    first = models[0]
    for other in models[1:]:
        if other.plan.regions != first.plan.regions:
            raise ModelError(f"{other.path} and {first.path} have different regions: an ensemble needs the same")
        if other.plan.labels != first.plan.labels:
            ours, theirs = ([f"{label.value} {label.name}" for label in model.plan.labels] for model in (first, other))
            raise ModelError(f"{other.path} has the labels {theirs}, {first.path} {ours}: an ensemble needs the same labels")
        ours, theirs = ([channel.name for channel in model.plan.channels] for model in (first, other))
        if ours != theirs:
            raise ModelError(f"{other.path} has the channels {theirs}, {first.path} {ours}: an ensemble needs the same channels")


def prepared_alike(models: Sequence[Model]) -> list[list[Model]]:
    """The models in groups that see the very same prepared volume, so that it is prepared once for each group."""
    groups: dict[object, list[Model]] = {}
    for model in models:
        plan = model.plan
        groups.setdefault((plan.orient, plan.axes, plan.spacing_mm, plan.nearest, plan.nonzero, plan.channels), []).append(model)
    return list(groups.values())


def mean_scores(all_logits: Iterable[torch.Tensor], count: int, readout: Readout) -> torch.Tensor:
    """Scores of the mean of the probabilities, as good as logits: their probabilities are the mean itself.

    Args:
        all_logits: `count` tensors (N, I, J, K) float32 that may be overwritten; only two are in memory at a time.
    """
    total: torch.Tensor | None = None
    for logits in all_logits:
        for plane in logits.unbind(dim=1):  # (N, J, K), in place
            plane.copy_(readout.probabilities(plane))
        total = logits if total is None else total.add_(logits)
    if total is None:
        raise ModelError("no model was given; give at least one model file")
    return readout.scores(total.div_(count))
