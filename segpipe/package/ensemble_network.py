"""Several networks of one plan as one: scores of the mean of their probabilities."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

_SMALLEST = 1e-20
_ALMOST_ONE = 1.0 - 1e-7


class EnsembleNetwork(nn.Module):
    """As good as one network that gives logits: the softmax (of regions: the sigmoid) of its output is the mean of the members'.

    Args:
        networks: (B, C, *spatial) -> logits (B, N, *spatial), at least one.
        regions: the outputs are overlapping regions, not classes.
    """

    def __init__(self, networks: Sequence[nn.Module], regions: bool = False) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)
        self.regions = regions
        self.smallest, self.largest = _SMALLEST, _ALMOST_ONE  # TorchScript knows no values of the module

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, *spatial) -> scores (B, N, *spatial), float32: log-probabilities, of regions logits."""
        parts: list[Tensor] = []
        for network in self.networks:
            logits: Tensor = network(x).float()
            parts.append(logits.sigmoid() if self.regions else logits.softmax(1))
        total = parts[0]
        for part in parts[1:]:
            total = total + part
        mean = (total / len(parts)).clamp(min=self.smallest, max=self.largest if self.regions else 1.0)
        return torch.logit(mean) if self.regions else torch.log(mean)
