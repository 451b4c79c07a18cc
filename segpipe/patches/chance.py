"""Whether an effect happens, and how strongly: the only place where augmentation rolls dice, always on the CPU."""

from __future__ import annotations

import torch

from segpipe.settings import Effect


def happens(effect: Effect, generator: torch.Generator) -> bool:
    """True with the effect's probability."""
    return float(torch.rand(1, generator=generator)) < effect.probability


def happening(effect: Effect, count: int, generator: torch.Generator) -> list[int]:
    """Which of `count` patches it happens to, each with the effect's probability."""
    return [row for row, share in enumerate(torch.rand(count, generator=generator).tolist()) if share < effect.probability]


def strengths(effect: Effect, count: int, generator: torch.Generator) -> list[float]:
    """`count` numbers, each uniform in the effect's range and drawn on its own."""
    return [effect.low + (effect.high - effect.low) * share for share in torch.rand(count, generator=generator).tolist()]


def strength(effect: Effect, generator: torch.Generator) -> float:
    """One number, uniform in the effect's range."""
    return strengths(effect, 1, generator)[0]
