"""The pieces that both networks are made of: convolution, normalisation, activation, and the way up and down."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from segpipe.network.activation import ACTIVATIONS, SLOPE
from segpipe.network.layout import exporting, learning
from segpipe.network.normalisation import make_norm
from segpipe.plan.plan import NetworkPlan

PADDINGS = ("zeros", "reflect", "replicate")
"""How a convolution sees beyond the border."""

CONVOLUTIONS: dict[int, type[nn.Conv2d] | type[nn.Conv3d]] = {2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED: dict[int, type[nn.ConvTranspose2d] | type[nn.ConvTranspose3d]] = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
FUNCTIONS: dict[int, Callable[..., Tensor]] = {2: functional.conv2d, 3: functional.conv3d}
DROPOUTS: dict[int, type[nn.Dropout2d] | type[nn.Dropout3d]] = {2: nn.Dropout2d, 3: nn.Dropout3d}


class BorderPad(nn.Module):
    """Continue a map beyond its border by half a kernel, so that the convolution that follows keeps its size.

    Args:
        kernel: odd kernel size, one number an axis.
        mode: reflect or replicate. Reflection needs a map wider than the margin; a smaller one is replicated.
    """

    def __init__(self, kernel: tuple[int, ...], mode: str) -> None:
        super().__init__()
        self.margins = [size // 2 for size in reversed(kernel) for _ in range(2)]  # last axis first, before and after
        self.mode = mode

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, *sizes) -> (B, C, *(sizes + kernel - 1))."""
        y: Tensor = pad_border(x, self.margins, self.mode)
        return y


@torch.jit.script_if_tracing
def pad_border(x: Tensor, margins: list[int], mode: str) -> Tensor:
    """(B, C, *sizes) with `margins` (last axis first, before and after) around it, replicated where the map is too small for `mode`."""
    if not torch.jit.is_scripting():
        exported = exporting()
        if exported:
            return functional.pad(x, margins, mode)  # wide enough, or the proof of the file fails
    fits, sizes = True, x.shape[2:]  # a size asked for within a loop is lost in a trace (torch 2.13)
    for index, size in enumerate(sizes):
        fits = fits and size > margins[2 * (len(sizes) - 1 - index)]
    return functional.pad(x, margins, mode if fits else "replicate")


class ConvBlock(nn.Module):
    """Convolution that keeps the size (divided by its stride), normalisation, activation.

    Args:
        plan: names of normalisation and padding.
        channels: channels in and out.
        kernel: odd kernel size, one number an axis.
        stride: step, one number an axis; the size in must be its multiple.
        activation: the name in `ACTIVATIONS`; empty for none.
    """

    def __init__(
        self, plan: NetworkPlan, channels: tuple[int, int], kernel: tuple[int, ...], stride: tuple[int, ...], activation: str
    ) -> None:
        super().__init__()
        plain = plan.padding == "zeros"
        margin = tuple(size // 2 if plain else 0 for size in kernel)
        # a bias before a normalisation is taken away by it
        self.conv = CONVOLUTIONS[len(kernel)](*channels, kernel, stride, margin, bias=plan.norm == "none")  # type: ignore[arg-type]
        self.pad = nn.Identity() if plain or max(kernel) == 1 else BorderPad(kernel, plan.padding)
        self.norm = make_norm(plan.norm, channels[1])
        self.activation = ACTIVATIONS[activation](channels[1]) if activation else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(B, C in, *sizes) -> (B, C out, *(sizes / stride))."""
        y: Tensor = self.activation(self.norm(self.convolved(self.pad(x))))
        return y

    def convolved(self, x: Tensor) -> Tensor:
        """The convolution; see `convolve_narrow` for what is done differently while learning."""
        if not torch.jit.is_scripting():
            narrow = learning() and not x.is_cuda and is_narrow(x, self.conv.kernel_size)
            if narrow:
                return convolve_narrow(x, self.conv)
        y: Tensor = self.conv(x)
        return y


def convolve_narrow(x: Tensor, conv: nn.Conv2d | nn.Conv3d) -> Tensor:
    """The convolution with its zeros written around the map first.

    In bfloat16 on a CPU without matrix units, oneDNN (3.12) reads and writes past its memory when it takes the gradient of a
    kernel that reaches over both ends of a map: wrong numbers, or a crash. It does not where it need not pad.
    """
    margins: list[int] = []
    for size in conv.kernel_size:
        margin = size // 2 if conv.padding != (0,) * len(conv.kernel_size) else 0
        margins = [margin, margin, *margins]  # last axis first
    return FUNCTIONS[x.dim() - 2](functional.pad(x, margins), conv.weight, conv.bias, conv.stride)


def is_narrow(x: Tensor, kernel: tuple[int, ...]) -> bool:
    """Whether (B, C, *sizes) is less than two kernels wide along any axis."""
    return any(kernel_size > 1 and size < 2 * kernel_size for size, kernel_size in zip(x.shape[2:], kernel, strict=True))


def make_upsample(plan: NetworkPlan, channels: tuple[int, int], stride: tuple[int, ...]) -> nn.Module:
    """Transposed convolution whose kernel is its stride, so that no output voxel is written twice."""
    up: nn.Module = TRANSPOSED[len(stride)](*channels, stride, stride, bias=plan.norm == "none")  # type: ignore[arg-type]
    return up


def make_dropout(plan: NetworkPlan, dims: int) -> nn.Module:
    """Dropout of whole channels (Tompson et al. 2015), or the identity."""
    return DROPOUTS[dims](plan.dropout) if plan.dropout > 0 else nn.Identity()


def initialise(network: nn.Module) -> None:
    """He initialisation (He et al. 2015) of every convolution, in place: the variance of the maps is kept from layer to layer."""
    for layer in network.modules():
        if isinstance(layer, (nn.Conv2d, nn.Conv3d)):
            nn.init.kaiming_normal_(layer.weight, a=SLOPE)
        elif isinstance(layer, (nn.ConvTranspose2d, nn.ConvTranspose3d)):
            # kernel = stride: each output voxel is a sum over the input channels of one voxel
            nn.init.normal_(layer.weight, std=math.sqrt(1 / layer.in_channels))
        else:
            continue
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


def ones(dims: int) -> tuple[int, ...]:
    """A step of one along each axis."""
    return (1,) * dims


def repeat_channels(x: Tensor, channels: int) -> Tensor:
    """(B, C, ...) -> (B, channels, ...), all channels again and again; `channels` is a multiple of C."""
    return torch.cat([x] * (channels // x.shape[1]), 1)
