"""Networks of several plans in one file, say 2D and 3D: each is called by itself, because each sees scans that are prepared its own way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn

from segpipe.errors import ModelError
from segpipe.package.torchscript import Network


class PartsNetwork(nn.Module):
    """Holds the networks; what it does itself is what the first one does.

    Args:
        networks: (B, C, *spatial) -> logits (B, N, *spatial), at least one.
    """

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(networks)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.parts[0](x)
        return logits


def parts_of(loaded: nn.Module, count: int) -> list[Network]:
    """The networks of a `PartsNetwork` that was read from a file.

    Raises:
        ModelError: there are not `count` of them.
    """
    modules = dict(loaded.named_modules())
    found = [modules.get(f"parts.{number}") for number in range(count)]
    if any(part is None for part in found) or f"parts.{count}" in modules:
        raise ModelError(f"its document tells of {count} networks, and its archive holds others: export the model again")
    return [cast(Network, part) for part in found]
