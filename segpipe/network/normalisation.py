"""Normalisation layers that keep statistics in float32, survive a map of one voxel, and are quick with channels last."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from segpipe.network.layout import add_scaled_, exact, exporting, from_rows, is_channels_last, learning, scaled, summed, to_rows

EPSILON = 1e-5
"""Added to the variance; the value that instance, batch and group normalisation were published with in common libraries."""

GROUPS = 8
"""Most groups that group normalisation makes; a group has at least two channels (Wu and He 2018 use 32 of 64 and more)."""


SMALL_MAP = 1024
"""Voxels up to which torch's kernel takes several times as long a number with channels last."""

FEW_CHANNELS = 16
"""Channels below which it does, too: a vector register is no longer full."""

FAR = 5.0
"""Standard deviations between a channel's mean and zero from which one pass, E[x^2] - E[x]^2, is too inexact in float32.

At 5 the largest error of a map of 96^3 voxels is 0.002 standard deviations (at 1000 all of it would be noise)."""


class InstanceNorm(nn.Module):
    """Zero mean and unit variance per sample and channel, then a learnt scale and shift (Ulyanov et al. 2016).

    The numbers of `torch.nn.InstanceNorm3d(channels, affine=True)`, which copies and repeats, to 0.002 standard deviations wherever
    their mean lies (see `FAR`; in float32). With channels first the group normalisation kernel does the work; with channels last its
    gradient takes fifty times as long, and ours is used.
    A map of one voxel has no variance, and normalising would erase it: there only scale and shift act.

    Args:
        channels: number of channels, C.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.epsilon = EPSILON
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, ...) -> (B, C, ...), same dtype and layout."""
        y: Tensor = instance_norm(x, self.weight, self.bias, self.epsilon)
        return y


@torch.jit.script_if_tracing
def instance_norm(x: Tensor, weight: Tensor, bias: Tensor, epsilon: float) -> Tensor:
    """Instance normalisation of (B, C, ...) by the way that is quick in its layout."""
    if not torch.jit.is_scripting():
        exported = exporting()
        if exported:
            return torch.group_norm(x, x.shape[1], weight, bias, epsilon)
    if x[0, 0].numel() == 1:
        return scale_shift(x, weight, bias)
    if x.is_cuda or not is_channels_last(x):
        return torch.group_norm(x, x.shape[1], weight, bias, epsilon)
    if not torch.jit.is_scripting():
        learns = learning()  # TorchScript leaves the branch out only where its condition stands alone
        if learns:
            y: Tensor = InstanceNormLast.apply(x, weight, bias, epsilon)  # type: ignore[no-untyped-call]
            return y
    return instance_norm_last(x, weight, bias, epsilon)[0]


def instance_norm_last(x: Tensor, weight: Tensor, bias: Tensor, epsilon: float, far: float = FAR) -> tuple[Tensor, Tensor, Tensor]:
    """Instance normalisation of a map with channels last.

    Where a channel lies so far from zero that its variance is inexact, it is measured again from its first voxel on.

    Returns:
        The map, (B, C, ...) in dtype and layout of x; mean and 1 / standard deviation, (B, C) each.
    """
    y, mean, rstd = measured(x, weight, bias, epsilon)
    if bool((mean.abs() * rstd).max() > far):
        first = exact(to_rows(x)[:, 0])  # (B, C)
        near = exact(x).clone().sub_(first.view([x.shape[0], x.shape[1]] + [1] * (x.dim() - 2)))  # the clone keeps the layout
        y, mean, rstd = measured(near, weight, bias, epsilon)
        y, mean = y.to(x.dtype), mean + first
    return y, mean, rstd


def measured(x: Tensor, weight: Tensor, bias: Tensor, epsilon: float) -> tuple[Tensor, Tensor, Tensor]:
    """`instance_norm_last` in one pass over a map with a mean near zero."""
    samples, channels = x.shape[0], x.shape[1]
    voxels = x[0, 0].numel()
    if fits_kernel(voxels, channels):
        y, mean, rstd = torch.native_group_norm(x, weight, bias, samples, channels, voxels, channels, epsilon)
        return y, mean.view(samples, channels), rstd.view(samples, channels)
    rows = exact(to_rows(x))  # (B, voxels, C)
    mean = rows.sum(1) / voxels
    variance = rows.square().sum(1) / voxels - mean.square()
    rstd = torch.rsqrt(variance.clamp_min(0.0) + epsilon)
    gain = rstd * weight
    y = scaled(rows, gain, bias - mean * gain)
    return from_rows(y.to(x.dtype), x), mean, rstd


def fits_kernel(voxels: int, channels: int, small: int = SMALL_MAP, few: int = FEW_CHANNELS) -> bool:
    """Whether torch's kernel is quick with channels last."""
    return channels >= few and voxels > small


class InstanceNormLast(torch.autograd.Function):
    """`instance_norm_last` with its gradient, all of it in passes at the speed of memory."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, epsilon: float) -> Tensor:
        y, mean, rstd = instance_norm_last(x, weight, bias, epsilon)
        # the same memory, but no view, so that an activation may work in place
        y = y.new_empty(0).set_(y.untyped_storage(), y.storage_offset(), y.shape, y.stride())
        ctx.save_for_backward(x, weight, mean.view(x.shape[:2]), rstd.view(x.shape[:2]))
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, weight, mean, rstd = ctx.saved_tensors
        rows = to_rows(x)  # (B, voxels, C)
        up = to_rows(gradient).contiguous()
        voxels = rows.shape[1]
        shift = summed(up)  # gradient of the bias, (B, C)
        scale = (summed(up * rows) - shift * mean) * rstd  # gradient of the weight, (B, C)
        # dx = weight rstd (up - shift / voxels - normalised x * scale / voxels)
        gain = weight * rstd
        slope = -gain * rstd * scale / voxels
        down = add_scaled_(scaled(rows, slope, -gain * shift / voxels - slope * mean), up, gain)
        return from_rows(down, x), scale.sum(0).to(weight.dtype), shift.sum(0).to(weight.dtype), None


class GroupNorm(nn.Module):
    """Zero mean and unit variance per sample and group of neighbouring channels (Wu and He 2018).

    Args:
        channels: number of channels, C; groups are the largest of 8, 4, 2, 1 that divides them with two channels or more each.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.epsilon = EPSILON
        self.groups = max(groups for groups in (GROUPS, 4, 2, 1) if groups == 1 or (channels % groups == 0 and channels >= 2 * groups))
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, ...) -> (B, C, ...), same dtype."""
        y: Tensor = group_norm(x, self.groups, self.weight, self.bias, self.epsilon)
        return y


@torch.jit.script_if_tracing
def group_norm(x: Tensor, groups: int, weight: Tensor, bias: Tensor, epsilon: float) -> Tensor:
    """Group normalisation of (B, C, ...); a single voxel of a single channel has no variance and is only scaled and shifted."""
    if not torch.jit.is_scripting():
        exported = exporting()
        if exported:
            return torch.group_norm(x, groups, weight, bias, epsilon)
    if x[0].numel() == 1:
        return scale_shift(x, weight, bias)
    # the kernel's gradient is slow with channels last
    return torch.group_norm(x.contiguous(), groups, weight, bias, epsilon)


class BatchNorm(nn.Module):
    """Zero mean and unit variance per channel over the batch, running statistics in evaluation (Ioffe and Szegedy 2015).

    A batch of one sample with one voxel has no variance: the running statistics stand in, and are left as they are.

    Args:
        channels: number of channels, C.
    """

    running_mean: Tensor  # TorchScript reads these two, so that this file does without postponed annotations
    running_var: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.epsilon = EPSILON
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, ...) -> (B, C, ...), same dtype."""
        measure = self.training and x[:, 0].numel() > 1
        return functional.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, measure, 0.1, self.epsilon)


def scale_shift(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """(B, C, ...) times `weight` (C) plus `bias` (C) for each channel; the dtype of x."""
    shape = [1, -1] + [1] * (x.dim() - 2)
    return (x * weight.view(shape) + bias.view(shape)).to(x.dtype)


NORMS: dict[str, type[nn.Module] | None] = {"instance": InstanceNorm, "batch": BatchNorm, "group": GroupNorm, "none": None}
"""Normalisation by the name that settings use."""


def make_norm(name: str, channels: int) -> nn.Module:
    """The layer of `NORMS`, or the identity for "none"."""
    kind = NORMS[name]
    return nn.Identity() if kind is None else kind(channels)
