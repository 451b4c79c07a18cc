"""The running average of a network's weights, which is what is validated and exported."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn


class RunningAverage(nn.Module):
    """Exponential moving average that warms up: a short run would else export a mixture with its first, random weights.

    The decay after n updates is min(decay, (1 + n) / (10 + n)), as TensorFlow's `ExponentialMovingAverage` has it; the first update copies.
    All tensors are moved together, and a GPU is never waited for: torch's `AveragedModel` reads its count back at every update.

    Args:
        network: weights and buffers to follow.
        decay: of a long run.

    Attributes:
        module: the averaged network, of the network's own class; it takes no gradients.
        n_averaged: updates so far, for checkpoints.
    """

    n_averaged: Tensor

    def __init__(self, network: nn.Module, decay: float) -> None:
        super().__init__()
        self.module = copy.deepcopy(network).requires_grad_(False)
        self.register_buffer("n_averaged", torch.tensor(0, dtype=torch.long))
        self._decay, self._count = decay, 0
        self._pairs: list[tuple[Tensor, Tensor]] = []
        self.register_load_state_dict_post_hook(_read_count)  # type: ignore[no-untyped-call]

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Follow the network, always the same one, after one of its steps."""
        if not self._pairs:  # a walk through all layers takes a tenth of a small network's step on a GPU
            self._pairs = list(zip(_tensors(self.module), _tensors(network), strict=True))
        share = 1.0 if self._count == 0 else 1.0 - min(self._decay, (1.0 + self._count) / (10.0 + self._count))
        mixed = [(old, new) for old, new in self._pairs if share < 1.0 and old.is_floating_point()]
        if mixed:
            torch._foreach_lerp_([old for old, _ in mixed], [new for _, new in mixed], share)
        for old, new in self._pairs:
            if share == 1.0 or not old.is_floating_point():
                old.copy_(new)
        self._count += 1
        self.n_averaged.fill_(self._count)

    def _apply(self, *args: Any, **named: Any) -> RunningAverage:
        self._pairs = []  # a move to another device makes buffers anew
        super()._apply(*args, **named)  # type: ignore[no-untyped-call]
        return self

    def read_count(self) -> None:
        """Take over the number of updates that a checkpoint tells."""
        self._count = int(self.n_averaged)


def _tensors(network: nn.Module) -> list[Tensor]:
    return [*network.parameters(), *network.buffers()]


def _read_count(module: nn.Module, missing: Any) -> None:
    if isinstance(module, RunningAverage):
        module.read_count()
