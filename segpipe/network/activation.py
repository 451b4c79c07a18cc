"""Activations by name, and a PReLU that is quick with channels last."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from segpipe.network.layout import add_scaled_, from_rows, is_channels_last, learning, scaled, summed, to_rows

SLOPE = 0.01
"""Negative slope of the leaky ReLU (Maas et al. 2013)."""


class PReLU(nn.Module):
    """x where positive, weight * x elsewhere, one weight a channel (He et al. 2015); the same numbers as `torch.nn.PReLU`.

    Args:
        channels: number of channels, C.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((channels,), 0.25))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, ...) -> (B, C, ...), same dtype and layout."""
        y: Tensor = prelu(x, self.weight)
        return y


@torch.jit.script_if_tracing
def prelu(x: Tensor, weight: Tensor) -> Tensor:
    """PReLU of (B, C, ...) by the way that is quick in its layout."""
    if x.is_cuda or not is_channels_last(x):
        return torch.prelu(x, weight.to(x.dtype))
    if not torch.jit.is_scripting():
        learns = learning()  # TorchScript leaves the branch out only where its condition stands alone
        if learns:
            y: Tensor = PReLULast.apply(x, weight)  # type: ignore[no-untyped-call]
            return y
    return prelu_last(x, weight)


def prelu_last(x: Tensor, weight: Tensor) -> Tensor:
    """PReLU of a map with channels last: x + (weight - 1) min(x, 0)."""
    negative = to_rows(x).clamp_max(0.0)  # (B, voxels, C)
    return from_rows(add_scaled_(to_rows(x).clone(), negative, weight.unsqueeze(0) - 1), x)


class PReLULast(torch.autograd.Function):
    """`prelu_last` with its gradient, all of it in passes at the speed of memory."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return prelu_last(x, weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        rows = to_rows(x)  # (B, voxels, C)
        up = to_rows(gradient).contiguous()
        slopes = summed(rows.clamp_max(0.0).mul_(up)).sum(0)
        positive = torch.ops.aten.threshold_backward(up, rows, 0.0)
        row = weight.unsqueeze(0)
        down = add_scaled_(scaled(up, row, torch.zeros_like(row)), positive, 1 - row)
        return from_rows(down, x), slopes.to(weight.dtype)


ACTIVATIONS: dict[str, Callable[[int], nn.Module]] = {
    "leaky_relu": lambda channels: nn.LeakyReLU(SLOPE, inplace=True),
    "relu": lambda channels: nn.ReLU(inplace=True),
    "prelu": PReLU,
    "elu": lambda channels: nn.ELU(inplace=True),
}
"""Activation by the name that settings use; made from the number of channels."""
