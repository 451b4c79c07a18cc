"""V-Net (Milletari, Navab and Ahmadi 2016): residual stages of 5x5x5 convolutions, PReLU, learnt steps down and up."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from segpipe.network.activation import ACTIVATIONS
from segpipe.network.blocks import CONVOLUTIONS, ConvBlock, make_dropout, make_upsample, ones, repeat_channels
from segpipe.network.normalisation import make_norm
from segpipe.plan.plan import NetworkPlan

ACTIVATION = "prelu"
"""The V-Net's only activation, one slope a channel (He et al. 2015)."""

MOST_CONVOLUTIONS = 3
"""Stages have 1, 2, 3, 3, 3 convolutions from the finest to the coarsest, on either side (Milletari et al. 2016, figure 2)."""


def published_convolutions(stages: int) -> tuple[int, ...]:
    """Convolutions of each stage, finest first: 1, 2, 3, 3, 3 ..."""
    return tuple(min(stage + 1, MOST_CONVOLUTIONS) for stage in range(stages))


class Residual(nn.Module):
    """Convolutions whose input is added to the output of the last one, before its activation.

    Args:
        plan: normalisation and padding.
        width: channels.
        kernel: odd kernel size, one number an axis.
        convolutions: how many.
    """

    def __init__(self, plan: NetworkPlan, width: int, kernel: tuple[int, ...], convolutions: int) -> None:
        super().__init__()
        names = [ACTIVATION] * (convolutions - 1) + [""]
        self.layers = nn.Sequential(*(ConvBlock(plan, (width, width), kernel, ones(len(kernel)), name) for name in names))
        self.activation = ACTIVATIONS[ACTIVATION](width)
        self.dropout = make_dropout(plan, len(kernel))

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, *sizes) -> the same shape."""
        y: Tensor = self.dropout(self.activation(self.layers(x) + x))
        return y


class FirstStage(nn.Module):
    """The finest encoder stage: as `Residual`, but the input has fewer channels and is repeated to be added.

    Where the stage's channels are no multiple of the input's (3 or 5 into 16), a 1x1 convolution takes the place of repeating.

    Args:
        plan: normalisation, padding, width and kernel.
        in_channels: channels of the input.
        convolutions: how many.
    """

    def __init__(self, plan: NetworkPlan, in_channels: int, convolutions: int) -> None:
        super().__init__()
        width, kernel = plan.features[0], plan.kernels[0]
        names = [ACTIVATION] * (convolutions - 1) + [""]
        inputs = [in_channels] + [width] * (convolutions - 1)
        self.layers = nn.Sequential(
            *(ConvBlock(plan, (first, width), kernel, ones(len(kernel)), name) for first, name in zip(inputs, names, strict=True))
        )
        self.width = width
        self.repeat = width % in_channels == 0
        self.project = nn.Identity() if self.repeat else CONVOLUTIONS[len(kernel)](in_channels, width, 1, bias=False)
        self.activation = ACTIVATIONS[ACTIVATION](width)
        self.dropout = make_dropout(plan, len(kernel))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, *sizes) -> (B, features[0], *sizes)."""
        y: Tensor = self.layers(x)
        x = repeat_channels(x, self.width) if self.repeat else self.project(x)
        return self.dropout(self.activation(y + x.to(y.dtype)))  # type: ignore[no-any-return]


class Step(nn.Module):
    """A step down or up (a convolution whose kernel is its stride), normalisation, PReLU.

    Args:
        plan: normalisation.
        channels: channels in and out.
        stride: step, one number an axis.
        up: up by a transposed convolution, else down.
    """

    def __init__(self, plan: NetworkPlan, channels: tuple[int, int], stride: tuple[int, ...], up: bool) -> None:
        super().__init__()
        bias = plan.norm == "none"
        down = CONVOLUTIONS[len(stride)](*channels, stride, stride, bias=bias)  # type: ignore[arg-type]
        self.conv = make_upsample(plan, channels, stride) if up else down
        self.norm = make_norm(plan.norm, channels[1])
        self.activation = ACTIVATIONS[ACTIVATION](channels[1])

    def forward(self, x: Tensor) -> Tensor:
        """(B, C in, *sizes) -> (B, C out, *sizes divided or multiplied by the stride)."""
        y: Tensor = self.activation(self.norm(self.conv(x)))
        return y


class VNet(nn.Module):
    """Encoder, decoder and the skips between them; no head.

    Args:
        plan: stages; sizes in must be multiples of the product of the strides. The choice of block, activation, pooling and
            number of convolutions is the U-Net's and has no effect here.
        in_channels: channels of the input.
        dims: 2 or 3.
        encoder: convolutions of each stage, finest first; as published when empty.
        decoder: convolutions of each decoder stage, finest first; as published when empty.
    """

    def __init__(
        self, plan: NetworkPlan, in_channels: int, dims: int, encoder: tuple[int, ...] = (), decoder: tuple[int, ...] = ()
    ) -> None:
        super().__init__()
        widths, kernels, strides = plan.features, plan.kernels, plan.strides
        encoder = encoder or published_convolutions(len(widths))
        decoder = decoder or encoder
        self.first = FirstStage(plan, in_channels, encoder[0])
        down, left, up, right = [], [], [], []
        for index in range(1, len(widths)):
            down.append(Step(plan, (widths[index - 1], widths[index]), strides[index], up=False))
            left.append(Residual(plan, widths[index], kernels[index], encoder[index]))
        below = widths[-1]
        for index in reversed(range(len(widths) - 1)):
            up.append(Step(plan, (below, widths[index]), strides[index + 1], up=True))
            below = 2 * widths[index]
            right.append(Residual(plan, below, kernels[index], decoder[index]))
        self.down, self.left = nn.ModuleList(down), nn.ModuleList(left)
        self.up, self.right = nn.ModuleList(up), nn.ModuleList(right)
        self.out_channels = (*(2 * width for width in widths[:-1]), widths[-1])
        """Channels of each map that `forward` returns."""

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, C, *sizes) -> one map a stage, finest first; all but the coarsest have 2 features[s] channels."""
        x = self.first(x)
        skips = [x]
        for down, left in zip(self.down, self.left):  # noqa: B905 - TorchScript knows no strict
            x = left(down(x))
            skips.append(x)
        maps = [skips.pop()]
        for up, right in zip(self.up, self.right):  # noqa: B905
            x = right(torch.cat([up(x), skips.pop()], 1))  # up | skip: (B, 2 features[s], ...)
            maps.insert(0, x)
        return maps
