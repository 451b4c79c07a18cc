"""Where bf16 pays: the one place that knows which hardware computes it fast."""

from __future__ import annotations

import torch

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
