"""Losses by name. All take logits (B, N, *spatial) and class indices (B, *spatial) and return a scalar."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from segpipe.errors import ConfigError
from segpipe.imports import without
from segpipe.plan.plan import IGNORED, Label, Plan
from segpipe.settings import TrainingSettings

with without("mlflow"):  # which MONAI imports for handlers that are not used: a second
    from monai.losses import FocalLoss, TverskyLoss

SMOOTH = 1e-5


class DiceCrossEntropy(nn.Module):
    """Soft Dice over the foreground classes plus cross entropy, 1 : 1 (Isensee et al. 2021).

    Dice is pooled over the batch, so that a patch without a class does not swing it. One softmax serves both terms and no
    one-hot copy is made; equal in value to MONAI's `DiceCELoss` with `batch=True` (see the tests).

    Args:
        dice: weight of the Dice term.
        cross_entropy: weight of the cross-entropy term.
        weights: of the classes, background first: of their voxels in the cross entropy (whose mean is weighted likewise) and of
            their terms in the mean over the classes' Dice; empty: all alike.
    """

    def __init__(self, dice: float = 1.0, cross_entropy: float = 1.0, weights: Sequence[float] = ()) -> None:
        super().__init__()
        self.dice, self.cross_entropy = dice, cross_entropy
        self.weights: Tensor | None
        self.register_buffer("weights", torch.tensor(weights, dtype=torch.float32) if weights else None, persistent=False)

    def forward(self, logits: Tensor, label: Tensor) -> Tensor:
        log_probability = functional.log_softmax(logits.float(), dim=1)
        label = label.long()
        total = logits.new_zeros((), dtype=torch.float32)
        if self.cross_entropy:
            total = total + self.cross_entropy * self._entropy(log_probability, label)
        if self.dice:
            total = total + self.dice * self._dice(log_probability.exp(), label)
        return total

    def _entropy(self, log_probability: Tensor, label: Tensor) -> Tensor:
        """Weighted mean over the voxels; 0 for a patch that has only classes with the weight 0, whose mean torch makes NaN."""
        if log_probability.is_cuda:
            return self._entropy_by_class(log_probability, label)
        if self.weights is None:
            return functional.nll_loss(log_probability, label)
        total = functional.nll_loss(log_probability, label, self.weights, reduction="sum")
        return total / self.weights[label].sum().clamp(min=SMOOTH)

    def _entropy_by_class(self, log_probability: Tensor, label: Tensor) -> Tensor:
        """The same from sums that a GPU repeats bit for bit, which those of `nll_loss` are not."""
        classes = torch.arange(log_probability.shape[1], device=label.device).view(-1, *[1] * (label.dim() - 1))
        here = label.unsqueeze(1) == classes  # (B, N, *spatial)
        axes = [0, *range(2, here.dim())]
        each, counts = torch.where(here, log_probability, 0.0).sum(axes), here.sum(axes)
        if self.weights is None:
            return -each.sum() / counts.sum()
        return -(self.weights * each).sum() / (self.weights * counts).sum().clamp(min=SMOOTH)

    def _dice(self, probability: Tensor, label: Tensor) -> Tensor:
        terms = []
        for index in range(1, probability.shape[1]):
            here = (label == index).float()
            p = probability[:, index]
            overlap, size = (p * here).sum(), p.sum() + here.sum()
            terms.append(1.0 - (2.0 * overlap + SMOOTH) / (size + SMOOTH))
        each = torch.stack(terms)
        if self.weights is None:
            return each.mean()
        return (each * self.weights[1:]).sum() / self.weights[1:].sum().clamp(min=SMOOTH)


class RegionLoss(nn.Module):
    """Soft Dice and binary cross entropy of overlapping regions, each with a sigmoid of its own, as nnU-Net has them.

    Args:
        regions: class indices that make up each region.
        classes: number of classes in the labels.
        cross_entropy: weight of the cross entropy beside the Dice term.
        weights: of the regions; empty: all alike.
    """

    def __init__(self, regions: Sequence[Sequence[int]], classes: int, cross_entropy: float, weights: Sequence[float] = ()) -> None:
        super().__init__()
        self.cross_entropy = cross_entropy
        table = torch.zeros(classes, len(regions))
        for number, members in enumerate(regions):
            table[list(members), number] = 1.0
        self.table: Tensor
        self.weights: Tensor
        self.register_buffer("table", table, persistent=False)
        self.register_buffer("weights", torch.tensor(weights or [1.0] * len(regions)), persistent=False)

    def forward(self, logits: Tensor, label: Tensor) -> Tensor:
        """(B, R, *spatial) and class indices (B, *spatial) -> scalar."""
        target = self.table[label.long()].movedim(-1, 1)  # (B, R, *spatial)
        axes = [0, *range(2, logits.dim())]
        probability = logits.float().sigmoid()
        overlap = (probability * target).sum(axes)
        dice = 1.0 - (2.0 * overlap + SMOOTH) / (probability.sum(axes) + target.sum(axes) + SMOOTH)
        entropy = functional.binary_cross_entropy_with_logits(logits.float(), target, reduction="none").mean(axes)
        each = dice + self.cross_entropy * entropy
        return (each * self.weights).sum() / self.weights.sum().clamp(min=SMOOTH)


class _OneHot(nn.Module):
    """MONAI's losses want a channel axis on the label."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, logits: Tensor, label: Tensor) -> Tensor:
        result: Tensor = self.inner(logits.float(), label.unsqueeze(1))
        return result


Weights = Sequence[float]
LOSSES: dict[str, Callable[[Weights], nn.Module]] = {
    "dice_ce": lambda weights: DiceCrossEntropy(weights=weights),
    "dice": lambda weights: DiceCrossEntropy(cross_entropy=0.0, weights=weights),
    "focal": lambda weights: _OneHot(
        FocalLoss(to_onehot_y=True, use_softmax=True, include_background=True, gamma=2.0, weight=list(weights) or None)
    ),
    "tversky": lambda _: _OneHot(TverskyLoss(to_onehot_y=True, softmax=True, include_background=False, alpha=0.3, beta=0.7, batch=True)),
}
_UNWEIGHTED = ("tversky",)
_REGION_ENTROPY = {"dice_ce": 1.0, "dice": 0.0}
"""Losses that regions know, with the weight of the cross entropy."""


def build_loss(name: str, weights: Weights = ()) -> nn.Module:
    """The loss of that name.

    Args:
        weights: of the classes, background first; empty: all alike.

    Raises:
        ConfigError: unknown name, or one that knows no weights.
    """
    if name not in LOSSES:
        raise ConfigError(f"training.loss is {name!r}; allowed: {', '.join(LOSSES)}")
    if weights and name in _UNWEIGHTED:
        raise ConfigError(f"training.class_weights are set, and training.loss={name} has none: take another loss, or leave them out")
    return LOSSES[name](weights)


def loss_of(plan: Plan, settings: TrainingSettings) -> nn.Module:
    """The loss that the plan's outputs and the settings ask for.

    Raises:
        ConfigError: a loss that the settings' weights or the plan's regions do not go with.
    """
    if not plan.regions:
        return build_loss(settings.loss, class_weights(settings.class_weights, plan.labels))
    if settings.loss not in _REGION_ENTROPY:
        raise ConfigError(f"training.loss is {settings.loss!r}; with dataset.regions must be one of {', '.join(_REGION_ENTROPY)}")
    named = [Label(number, number, name) for number, name in enumerate(("", *plan.targets))]
    weights = class_weights(settings.class_weights, named)[1:]
    return RegionLoss(list(plan.targets.values()), plan.classes, _REGION_ENTROPY[settings.loss], weights)


def class_weights(wanted: Mapping[str, float], labels: Sequence[Label]) -> list[float]:
    """A weight for each class, background first; empty where none is set.

    Args:
        wanted: by a label's name (any case) or value.

    Raises:
        ConfigError: a key is no label, or nothing is left to learn.
    """
    if not wanted:
        return []
    known = {name: label.index for label in labels for name in (label.name.lower(), str(label.value))}
    weights = [1.0] * len(labels)
    for key, weight in wanted.items():
        if key.lower() not in known:
            names = ", ".join(f"{label.name} ({label.value})" for label in labels)
            raise ConfigError(f"training.class_weights names {key!r}, which is no label; known are {names}")
        weights[known[key.lower()]] = weight
    if not any(weights[1:]):
        raise ConfigError("training.class_weights is 0 for every label: leave at least one above 0")
    return weights


def supervised(loss: nn.Module, heads: Sequence[Tensor], label: Tensor, steps: Sequence[Sequence[int]], partly: bool = False) -> Tensor:
    """Deep supervision: weights 1, 1/2, 1/4 ..., normalised to one; labels are taken at each head's own resolution.

    Args:
        heads: logits (B, N, *spatial), finest first.
        label: (B, *spatial) at the finest resolution.
        steps: for each head (and perhaps more maps), the label's voxels along each axis in one voxel of its logits.
        partly: voxels of the class index `IGNORED` are left out of the loss; a patch with no others has a loss of 0.
    """
    weights = [0.5**level for level in range(len(heads))]
    total = heads[0].new_zeros((), dtype=torch.float32)
    for weight, logits, step in zip(weights, heads, steps, strict=False):
        here = _at(label, logits.shape[2:], step)
        total = total + weight / sum(weights) * (_judged(loss, logits, here) if partly else loss(logits, here))
    return total


def _judged(loss: nn.Module, logits: Tensor, label: Tensor) -> Tensor:
    """The loss of the voxels that somebody has judged, laid in one row: (1, N, voxels)."""
    judged = label != IGNORED
    if not bool(judged.any()):
        return logits.sum() * 0.0  # keeps the graph, which several processes must all have
    result: Tensor = loss(logits.movedim(1, 0)[:, judged][None], label[judged][None])
    return result


def _at(label: Tensor, shape: Sequence[int], step: Sequence[int]) -> Tensor:
    """(B, *spatial) -> (B, *shape): the label in the middle of each coarse voxel, which covers `step` voxels.

    Not resized to `shape`: a coarse voxel that hangs over the end of a size that its step does not divide would shift all others.
    """
    for axis, (size, width) in enumerate(zip(shape, step, strict=True), start=1):
        if width > 1:
            middles = torch.arange(size, device=label.device) * width + width // 2
            label = label.index_select(axis, middles.clamp(max=label.shape[axis] - 1))
    return label
