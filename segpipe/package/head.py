"""The head of a network, the 1 x 1 convolution at its end, by itself."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Head:
    """Attributes:
    weight: (N, F) float32.
    bias: (N) float32.
    """

    weight: Tensor
    bias: Tensor

    @property
    def features(self) -> int:
        """F."""
        return int(self.weight.shape[1])

    def __call__(self, features: Tensor) -> Tensor:
        """(F, i, j, k) -> logits (N, i, j, k), float32."""
        flat = torch.addmm(self.bias[:, None], self.weight, features.reshape(self.features, -1))
        return flat.reshape(-1, *features.shape[1:])
