"""Losses by name. All take logits (B, N, *spatial) and class indices (B, *spatial) and return a scalar."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from monai.losses import FocalLoss, TverskyLoss
from torch import Tensor, nn
from torch.nn import functional

from segpipe.errors import ConfigError

SMOOTH = 1e-5


class DiceCrossEntropy(nn.Module):
    """Soft Dice over the foreground classes plus cross entropy, 1 : 1 (Isensee et al. 2021).

    Dice is pooled over the batch, so that a patch without a class does not swing it. One softmax serves both terms and no
    one-hot copy is made; equal in value to MONAI's `DiceCELoss` with `batch=True` (see the tests).

    Args:
        dice: weight of the Dice term.
        cross_entropy: weight of the cross-entropy term.
    """

    def __init__(self, dice: float = 1.0, cross_entropy: float = 1.0) -> None:
        super().__init__()
        self.dice, self.cross_entropy = dice, cross_entropy

    def forward(self, logits: Tensor, label: Tensor) -> Tensor:
        log_probability = functional.log_softmax(logits.float(), dim=1)
        label = label.long()
        total = logits.new_zeros((), dtype=torch.float32)
        if self.cross_entropy:
            total = total + self.cross_entropy * functional.nll_loss(log_probability, label)
        if self.dice:
            total = total + self.dice * self._dice(log_probability.exp(), label)
        return total

    @staticmethod
    def _dice(probability: Tensor, label: Tensor) -> Tensor:
        terms = []
        for index in range(1, probability.shape[1]):
            here = (label == index).float()
            p = probability[:, index]
            overlap, size = (p * here).sum(), p.sum() + here.sum()
            terms.append(1.0 - (2.0 * overlap + SMOOTH) / (size + SMOOTH))
        return torch.stack(terms).mean()


class _OneHot(nn.Module):
    """MONAI's losses want a channel axis on the label."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, logits: Tensor, label: Tensor) -> Tensor:
        result: Tensor = self.inner(logits.float(), label.unsqueeze(1))
        return result


LOSSES: dict[str, Callable[[], nn.Module]] = {
    "dice_ce": DiceCrossEntropy,
    "dice": lambda: DiceCrossEntropy(cross_entropy=0.0),
    "focal": lambda: _OneHot(FocalLoss(to_onehot_y=True, use_softmax=True, include_background=True, gamma=2.0)),
    "tversky": lambda: _OneHot(TverskyLoss(to_onehot_y=True, softmax=True, include_background=False, alpha=0.3, beta=0.7, batch=True)),
}


def build_loss(name: str) -> nn.Module:
    """The loss of that name.

    Raises:
        ConfigError: unknown name.
    """
    if name not in LOSSES:
        raise ConfigError(f"training.loss is {name!r}; allowed: {', '.join(LOSSES)}")
    return LOSSES[name]()


def supervised(loss: nn.Module, heads: Sequence[Tensor], label: Tensor, steps: Sequence[Sequence[int]]) -> Tensor:
    """Deep supervision: weights 1, 1/2, 1/4 ..., normalised to one; labels are taken at each head's own resolution.

    Args:
        heads: logits (B, N, *spatial), finest first.
        label: (B, *spatial) at the finest resolution.
        steps: for each head (and perhaps more maps), the label's voxels along each axis in one voxel of its logits.
    """
    weights = [0.5**level for level in range(len(heads))]
    total = heads[0].new_zeros((), dtype=torch.float32)
    for weight, logits, step in zip(weights, heads, steps, strict=False):
        total = total + weight / sum(weights) * loss(logits, _at(label, logits.shape[2:], step))
    return total


def _at(label: Tensor, shape: Sequence[int], step: Sequence[int]) -> Tensor:
    """(B, *spatial) -> (B, *shape): the label in the middle of each coarse voxel, which covers `step` voxels.

    Not resized to `shape`: a coarse voxel that hangs over the end of a size that its step does not divide would shift all others.
    """
    for axis, (size, width) in enumerate(zip(shape, step, strict=True), start=1):
        if width > 1:
            middles = torch.arange(size, device=label.device) * width + width // 2
            label = label.index_select(axis, middles.clamp(max=label.shape[axis] - 1))
    return label
