"""Several networks of one plan as one: the logarithm of the mean of their probabilities."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

SMALLEST = 1e-20
"""Probabilities below it count as this one, so that their logarithm is finite."""


class EnsembleNetwork(nn.Module):
    """As good as one network that gives logits: the softmax of its output is the mean of the members' softmaxes.

    Args:
        networks: (B, C, *spatial) -> logits (B, N, *spatial), at least one.
    """

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)
        self.smallest = SMALLEST  # TorchScript knows no values of the module

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, *spatial) -> log-probabilities (B, N, *spatial), float32."""
        parts: list[Tensor] = []
        for network in self.networks:
            parts.append(network(x).float().softmax(1))
        total = parts[0]
        for part in parts[1:]:
            total = total + part
        return torch.log((total / len(parts)).clamp(min=self.smallest))
