"""What a step of training will take in memory, told from the plan alone, so that a patch and a batch can be chosen for a budget."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import replace

import psutil

from segpipe.errors import ConfigError
from segpipe.plan.plan import NetworkPlan, Plan
from segpipe.settings import Settings

log = logging.getLogger(__name__)

PROCESS_GB = 0.7
"""Python, torch and the other libraries, with nothing learnt yet."""
SHARE_OF_MACHINE = 0.7
"""Of the machine's memory, where no budget is given: scans and other programs want some, too."""
_COPIES = {"unet": 3.3, "vnet": 6.5}
"""Numbers held at a time for each number that a convolution puts out: kept for the gradient, and passing. Measured with torch 2.13 on a
processor for 2D and 3D networks of 8 to 32 features, in bf16 and fp32 (3.0 to 3.4, and 6.4 to 6.6); more where a step is small."""
_BYTES_A_WEIGHT = 20
"""Weight, gradient, two moments of AdamW and the average, four bytes each."""
_SHRINK = 0.8
"""Of a patch's voxels, from one try to the next."""
_SMALLEST_PATCH = 16**3
"""Voxels; a network learns little from less."""
_VNET_CONVOLUTIONS = 3
"""V-Net stages have 1, 2, 3, 3 ... convolutions (Milletari et al. 2016)."""


def within_memory(make: Callable[[int], Plan], limit: int, settings: Settings, device: str) -> Plan:
    """The first plan whose step fits: fewer patches a step first, down to two, then smaller ones, and one alone at last.

    What was set by hand stays as it is, with a warning where it does not fit. On a GPU only a budget that is given counts.

    Args:
        make: the plan with a patch of so many voxels at most.
        limit: voxels of the patch to begin with.

    Raises:
        ConfigError: nothing was set by hand, and not even the smallest patch fits.
    """
    wanted = settings.plan
    by_hand = bool(wanted.batch_size), bool(wanted.patch_size or settings.network.strides)
    budget = _budget_gb(settings, device)
    said = f"{budget:.3g} GB ({'plan.memory_gb' if wanted.memory_gb else f'{100 * SHARE_OF_MACHINE:.0f} % of this machine'})"
    needed = 0.0
    for plan in _ever_smaller(make, limit, by_hand):
        needed = plan_gb(plan, settings.training.precision == "bf16")
        if needed <= budget:
            return replace(plan, reasons=plan.reasons | {"memory": f"within {said}"})
    if not any(by_hand):
        raise ConfigError(f"a step takes {needed:.2g} GB at least; must be within {said}: give more, or a narrower network.features")
    log.warning("a step may take more than %s, and what was set by hand stays: lower plan.patch_size or plan.batch_size", said)
    plan = make(limit)
    return replace(plan, reasons=plan.reasons | {"memory": f"above {said}, by hand"})


def _budget_gb(settings: Settings, device: str) -> float:
    return settings.plan.memory_gb or (SHARE_OF_MACHINE * psutil.virtual_memory().total / 1e9 if device == "cpu" else math.inf)


def _ever_smaller(make: Callable[[int], Plan], limit: int, by_hand: tuple[bool, bool]) -> Iterator[Plan]:
    """Plans from the one that is wanted to the smallest; `by_hand` says whether batch and patch stay."""
    plan = make(limit)
    while True:
        yield plan
        if not by_hand[0]:
            yield from (_with_batch(plan, batch) for batch in range(plan.batch_size - 1, 1, -1))
        limit = int(_SHRINK * min(limit, math.prod(plan.patch_size)))
        if by_hand[1] or limit < _SMALLEST_PATCH:
            break
        plan = make(limit)
    if not by_hand[0]:
        yield _with_batch(plan, 1)


def _with_batch(plan: Plan, batch: int) -> Plan:
    return replace(plan, batch_size=batch, reasons=plan.reasons | {"batch_size": "as many as fit into the memory"})


def plan_gb(plan: Plan, bf16: bool = False) -> float:
    """Memory of a training process while it takes steps, in GB; without bf16, which not every machine has, twice as much."""
    return step_gb(plan.network, plan.patch_size, plan.batch_size, bf16)


def step_gb(network: NetworkPlan, patch: tuple[int, int, int], batch: int, bf16: bool) -> float:
    """Memory of a training process while it takes steps, in GB, prepared scans not counted.

    Args:
        patch: voxels of a patch; the last is 1 for a 2D network.
        batch: patches a step.
    """
    maps = batch * map_numbers(network, patch) * _COPIES[network.name] * (2 if bf16 else 4)
    return PROCESS_GB + (maps + _BYTES_A_WEIGHT * weight_numbers(network)) / 1e9


def map_numbers(network: NetworkPlan, patch: tuple[int, int, int]) -> int:
    """Numbers in the outputs of all convolutions for one patch; heads are left out."""
    total, here = 0.0, float(math.prod(patch))
    voxels: list[float] = []
    for stage, (features, step) in enumerate(zip(network.features, network.strides, strict=True)):
        here /= math.prod(step)
        voxels.append(here)
        more = stage > 0 if network.name == "vnet" else network.block == "residual"  # the step down; the shortcut
        total += (_convolutions(network, stage) + more) * features * here
    for stage, features in enumerate(network.features[:-1]):
        wide = 2 if network.name == "vnet" else 1  # a V-Net's decoder works on both halves of the concatenation
        total += (1 + wide * _convolutions(network, stage)) * features * voxels[stage]
    return round(total)


def weight_numbers(network: NetworkPlan) -> int:
    """Weights of the convolutions, within a quarter: steps, shortcuts and heads are left out."""
    total = 0
    for stage, (features, kernel) in enumerate(zip(network.features, network.kernels, strict=True)):
        square = features * features * math.prod(kernel)
        total += _convolutions(network, stage) * square
        if stage < len(network.features) - 1:
            # of the U-Net's decoder the first convolution reads both halves of the concatenation, of the V-Net's all do, and write both
            total += square * (4 * _convolutions(network, stage) if network.name == "vnet" else 1 + network.convolutions)
    return total


def _convolutions(network: NetworkPlan, stage: int) -> int:
    """Of one stage on one side."""
    return min(stage + 1, _VNET_CONVOLUTIONS) if network.name == "vnet" else network.convolutions
