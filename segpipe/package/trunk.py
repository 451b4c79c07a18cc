"""A network without its head.

Blending windows is linear, and so is the head: it gives the same logits when it looks at what was blended. Where a network has more
outputs than features before its head, features are fewer numbers to blend and to keep, however many outputs there are.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from segpipe.package.head import Head
from segpipe.package.model_file import Model


class Trunk(nn.Module):
    """A scripted network without its head: (B, C, *spatial) -> features (B, F, *spatial)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        network: Any = self.network
        features: Tensor = network.cropped(network.backbone(network.padded(x))[0], x, 0)
        return features


def without_head(model: Model) -> Model:
    """The model with its network cut before the head, where that is one of ours and has fewer features than outputs; else as it is."""
    network: Any = model.network
    if model.kind != "ts" or not all(hasattr(network, name) for name in ("backbone", "heads", "padded", "cropped")):
        return model
    head = getattr(network.heads, "0", None)
    weight, bias = getattr(head, "weight", None), getattr(head, "bias", None)
    if weight is None or bias is None or weight[0, 0].numel() != 1 or weight.shape[1] >= weight.shape[0]:
        return model
    flat = weight.detach().float().reshape(weight.shape[:2]).contiguous()
    return replace(model, network=Trunk(network), head=Head(flat, bias.detach().float()))
