"""Several models as one: what they must agree on, and the average of their probabilities."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch

from segpipe.errors import ModelError
from segpipe.package.model_file import Model
from segpipe.package.torchscript import Network
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
        alike = len(other.plan.labels) == len(first.plan.labels)
        if not (alike and all(a.same_class(b) for a, b in zip(other.plan.labels, first.plan.labels, strict=True))):
            ours, theirs = ([f"{label.value} {label.name}" for label in model.plan.labels] for model in (first, other))
            raise ModelError(f"{other.path} has the labels {theirs}, {first.path} {ours}: an ensemble needs the same labels")
        ours, theirs = ([channel.name for channel in model.plan.channels] for model in (first, other))
        if ours != theirs:
            raise ModelError(f"{other.path} has the channels {theirs}, {first.path} {ours}: an ensemble needs the same channels")


def seeing_alike(models: Sequence[Model]) -> list[list[Model]]:
    """The models in groups that see the very same windows of the very same prepared volume, so that each is cut out once for all."""
    groups: dict[object, list[Model]] = {}
    for model in models:
        plan = model.plan
        seen = (plan.orient, plan.axes, plan.spacing_mm, plan.nearest, plan.nonzero, plan.channels, plan.patch_size, plan.skip_empty)
        groups.setdefault(seen, []).append(model)
    return list(groups.values())


def together(networks: Sequence[Network], readout: Readout) -> Network:
    """One network that gives scores of the mean of the probabilities: as good as logits, their probabilities are the mean itself.

    A single network stays as it is. Of the others only one answer and the sum are in memory at a time.

    Args:
        networks: windows (B, C, i, j, k) -> logits (B, N, i, j, k), of any floating type.
    """
    if len(networks) == 1:
        return networks[0]

    def mean(windows: torch.Tensor) -> torch.Tensor:
        total: torch.Tensor | None = None
        for network in networks:
            shares = readout.probabilities(network(windows).float().movedim(1, 0))  # (N, B, i, j, k)
            total = shares if total is None else total.add_(shares)
        if total is None:
            raise ModelError("no model was given; give at least one model file")
        return readout.scores(total.div_(len(networks))).movedim(0, 1)

    return mean


def with_flips(network: Network, axes: Sequence[int]) -> Network:
    """The mean of the logits over all mirrorings along some of the axes i, j, k: 2 to the number of `axes` passes for each window."""
    mirrorings = [chosen for count in range(len(axes) + 1) for chosen in itertools.combinations([2 + axis for axis in axes], count)]
    if len(mirrorings) == 1:
        return network

    def mean(windows: torch.Tensor) -> torch.Tensor:
        total: torch.Tensor | None = None
        for chosen in mirrorings:
            logits = network(windows.flip(chosen)).float().flip(chosen)
            total = logits if total is None else total.add_(logits)
        return windows if total is None else total.div_(len(mirrorings))

    return mean
