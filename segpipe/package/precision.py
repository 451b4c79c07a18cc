"""Where a network computes and in what precision: the one place that knows which hardware is fast at bf16."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

_AMPERE = (8, 0)
"""First compute capability of NVIDIA GPUs with bf16 matrix units."""


def fast_bf16(device: torch.device | str) -> bool:
    """Whether `device` multiplies bf16 matrices faster than fp32 ones: AMX or AVX512-BF16 on a CPU, Ampere or newer on CUDA."""
    kind = torch.device(device)
    if kind.type == "cuda":
        return torch.cuda.is_available() and torch.cuda.get_device_capability(kind) >= _AMPERE
    if kind.type != "cpu":
        return False
    probes = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")  # private in torch, so that either may go
    return any(bool(getattr(torch.cpu, probe, _no)()) for probe in probes)


def _no() -> bool:
    return False


@dataclass(frozen=True)
class Compute:
    """Device, as torch spells it, and whether convolutions run in bf16."""

    device: str
    bf16: bool


def on_windows(network: Callable[[Tensor], Tensor], dims: int, compute: Compute) -> Callable[[Tensor], Tensor]:
    """(B, C, i, j, k) windows -> (B, N, i, j, k) logits, float32 or bfloat16; a 2D network sees (B, C, i, j) where k is 1."""
    kind = torch.device(compute.device).type

    def predict(windows: Tensor) -> Tensor:
        with torch.autocast(kind, torch.bfloat16, enabled=compute.bf16):
            return network(windows) if dims == 3 else network(windows.squeeze(-1)).unsqueeze(-1)

    return predict


def lay_out(network: object, dims: int, device: torch.device | str) -> None:
    """Put the weights of a torch network into the order in memory that a processor's convolutions are quick in, where it is one.

    With channels last in the weights, too, a network of 32 to 320 features takes two thirds of the time in fp32, and 60 % in bf16.
    """
    if not isinstance(network, nn.Module) or torch.device(device).type != "cpu":
        return
    form = torch.channels_last_3d if dims == 3 else torch.channels_last
    for weight in network.parameters():
        if weight.ndim == dims + 2:
            weight.data = weight.data.contiguous(memory_format=form)
