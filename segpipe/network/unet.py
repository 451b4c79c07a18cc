"""U-Net (Ronneberger, Fischer and Brox 2015; 3D: Cicek et al. 2016), padded, with the refinements of Isensee et al. 2021."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from segpipe.network.activation import ACTIVATIONS
from segpipe.network.blocks import ConvBlock, make_dropout, make_upsample, ones
from segpipe.plan.plan import NetworkPlan

POOLINGS: dict[tuple[str, int], type[nn.Module]] = {
    ("max", 2): nn.MaxPool2d,
    ("max", 3): nn.MaxPool3d,
    ("average", 2): nn.AvgPool2d,
    ("average", 3): nn.AvgPool3d,
}
"""Layers that step down without weights; with "stride" the first convolution of a stage does."""


class ResidualBlock(nn.Module):
    """Convolutions around which the input is led and added before the last activation (He et al. 2016).

    Args:
        plan: number of convolutions, normalisation, activation.
        channels: channels in and out; where they differ, or the size does, the input goes through a 1x1 convolution.
        kernel: odd kernel size, one number an axis.
        stride: step of the first convolution, one number an axis.
    """

    def __init__(self, plan: NetworkPlan, channels: tuple[int, int], kernel: tuple[int, ...], stride: tuple[int, ...]) -> None:
        super().__init__()
        dims, width = len(kernel), channels[1]
        layers: list[nn.Module] = []
        for index in range(plan.convolutions):
            last = index == plan.convolutions - 1
            ends, step = (channels, stride) if index == 0 else ((width, width), ones(dims))
            layers.append(ConvBlock(plan, ends, kernel, step, "" if last else plan.activation))
        self.layers = nn.Sequential(*layers)
        same = channels[0] == width and max(stride) == 1
        self.shortcut = nn.Identity() if same else ConvBlock(plan, channels, ones(dims), stride, "")
        self.activation = ACTIVATIONS[plan.activation](width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C in, *sizes) -> (B, C out, *(sizes / stride))."""
        y: Tensor = self.activation(self.layers(x) + self.shortcut(x))
        return y


def make_stage(
    plan: NetworkPlan, channels: tuple[int, int], kernel: tuple[int, ...], stride: tuple[int, ...], residual: bool
) -> nn.Sequential:
    """One resolution: (B, C in, *sizes) -> (B, C out, *(sizes / stride)); the step down comes first."""
    dims, layers = len(kernel), []
    if plan.pooling != "stride" and max(stride) > 1:
        layers.append(POOLINGS[plan.pooling, dims](stride, stride))
        stride = ones(dims)
    if residual:
        layers.append(ResidualBlock(plan, channels, kernel, stride))
    else:
        layers.append(ConvBlock(plan, channels, kernel, stride, plan.activation))
        layers += [ConvBlock(plan, (channels[1],) * 2, kernel, ones(dims), plan.activation) for _ in range(plan.convolutions - 1)]
    return nn.Sequential(*layers, make_dropout(plan, dims))


class UNet(nn.Module):
    """Encoder, decoder and the skips between them; no head.

    Residual blocks, where asked for, are in the encoder; the decoder has plain ones (Isensee et al. 2024 found no more is needed).

    Args:
        plan: stages and blocks; sizes in must be multiples of the product of the strides.
        in_channels: channels of the input.
        dims: 2 or 3.
    """

    def __init__(self, plan: NetworkPlan, in_channels: int, dims: int) -> None:
        super().__init__()
        widths = plan.features
        ends = list(zip((in_channels, *widths), widths, strict=False))
        residual = plan.block == "residual"
        encoder = [make_stage(plan, *stage, residual) for stage in zip(ends, plan.kernels, plan.strides, strict=True)]
        up, decoder = [], []
        for index in reversed(range(len(widths) - 1)):
            width = widths[index]
            up.append(make_upsample(plan, (widths[index + 1], width), plan.strides[index + 1]))
            decoder.append(make_stage(plan, (2 * width, width), plan.kernels[index], ones(dims), False))
        self.encoder, self.up, self.decoder = nn.ModuleList(encoder), nn.ModuleList(up), nn.ModuleList(decoder)
        self.out_channels = widths
        """Channels of each map that `forward` returns."""

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, C, *sizes) -> one map a stage, finest first; stage s is (B, features[s], *sizes divided by the strides up to s)."""
        skips: list[Tensor] = []
        for stage in self.encoder:
            x = stage(x)
            skips.append(x)
        maps = [skips.pop()]
        for up, stage in zip(self.up, self.decoder):  # noqa: B905 - TorchScript knows no strict
            x = stage(torch.cat([up(x), skips.pop()], 1))  # up | skip: (B, 2 features[s], ...)
            maps.insert(0, x)
        return maps
