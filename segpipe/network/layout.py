"""Maps with the channels last in memory, and arithmetic on them at the speed of memory.

Convolutions on a CPU read and write this layout without reordering (oneDNN: a fifth less time than with channels first for the
3D U-Net with 16 to 128 features, more with matrix units). What torch does to such a map with one number a channel is slow,
though: its inner loop is as long as there are channels. Here several voxels make one long row, so that it is some 1000 numbers.

What looks at a map's size or layout to choose its way stands, throughout this package, in functions under `script_if_tracing`: a
trace would else keep the way that the traced map took, and fail or go wrong on maps of other sizes.
"""

from __future__ import annotations

import torch
from torch import Tensor

ROW = 1024
"""Numbers in the inner loop, at most; from 128 on, time no longer depends on it."""


def channels_last(x: Tensor) -> Tensor:
    """(B, C, *sizes) -> the same shape and values, channels last in memory; a copy only where needed. Not for `torch.export`."""
    if not torch.jit.is_scripting():
        exported = exporting()  # TorchScript leaves the branch out only where its condition stands alone
        if exported:
            return x
    if x.shape[1] == 1:  # the strides of a single channel are ambiguous: rebuild them
        return x.squeeze(1).contiguous().unsqueeze(-1).movedim(-1, 1)
    return x.movedim(1, -1).contiguous().movedim(-1, 1)


def is_channels_last(x: Tensor) -> bool:
    """Whether (B, C, *sizes) has its channels last in memory, and not first as well (one channel, one voxel).

    Never while `torch.export` or `torch.compile` looks on: what is quick in one layout is theirs to find, from plain operators.
    """
    if not torch.jit.is_scripting():
        plain = exporting() or compiling()
        if plain:
            return False
    return not x.is_contiguous() and x.movedim(1, -1).is_contiguous()


def to_rows(x: Tensor) -> Tensor:
    """(B, C, *sizes), channels last -> (B, voxels, C), a view."""
    return x.movedim(1, -1).flatten(1, -2)


def from_rows(rows: Tensor, like: Tensor) -> Tensor:
    """(B, voxels, C) -> (B, C, *sizes), a view with the shape of `like`."""
    return rows.movedim(-1, 1).view_as(like)


def voxels_a_row(voxels: int, channels: int, longest: int = ROW) -> int:
    """How many voxels fill one row: a divisor of `voxels`."""
    count = max(1, min(voxels, longest // channels))
    while voxels % count != 0:
        count -= 1
    return count


def widened(values: Tensor, count: int, like: Tensor) -> Tensor:
    """(B or 1, C) -> (B or 1, 1, count C) in the dtype of `like`: the values of `count` neighbouring voxels."""
    return values.to(like.dtype).repeat(1, count).unsqueeze(1)


def scaled(rows: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """rows * scale + shift: (B, voxels, C) with two (B or 1, C) -> (B, voxels, C)."""
    count = voxels_a_row(rows.shape[1], rows.shape[2])
    wide = rows.view(rows.shape[0], -1, count * rows.shape[2])
    return torch.addcmul(widened(shift, count, rows), wide, widened(scale, count, rows)).view_as(rows)


def add_scaled_(total: Tensor, rows: Tensor, scale: Tensor) -> Tensor:
    """total + rows * scale into `total`: (B, voxels, C) each, scale (B or 1, C)."""
    count = voxels_a_row(rows.shape[1], rows.shape[2])
    wide = rows.view(rows.shape[0], -1, count * rows.shape[2])
    total.view_as(wide).addcmul_(wide, widened(scale, count, rows))
    return total


def summed(rows: Tensor) -> Tensor:
    """Sum over the voxels, (B, voxels, C) -> (B, C) float32 (float64 of float64).

    Each partial sum runs in float32 and is rounded to the dtype of `rows`; there are many, so that the roundings even out.
    """
    parts = voxels_a_row(rows.shape[1], rows.shape[2])
    partial = rows.view(rows.shape[0], parts, -1, rows.shape[2]).sum(2)  # (B, parts, C)
    return exact(partial).sum(1)


def exact(x: Tensor) -> Tensor:
    """In float32, or in float64 where x is."""
    return x if x.dtype == torch.float64 else x.float()


def learning() -> bool:
    """Whether gradients may be asked for: not while a network is traced, nor under `no_grad`."""
    return torch.is_grad_enabled() and torch._C._get_tracing_state() is None and not exporting()


def exporting() -> bool:
    """Whether `torch.export` looks on.

    What it writes is one way through the network for all sizes and all runtimes: plain operators with the channels first, which every
    runtime lays out as it likes. Branches on a map's size would narrow the sizes that the file takes.
    """
    return bool(torch.compiler.is_exporting())


def compiling() -> bool:
    """Whether `torch.compile` looks on.

    It writes loops of its own from plain operators. Our ways around torch's slow ones it could only follow in pieces: they look at numbers
    and move memory.
    """
    return bool(torch.compiler.is_compiling())
