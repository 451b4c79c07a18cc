"""Memory that a scan takes to segment, told before the work begins."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from segpipe.errors import DataError
from segpipe.geometry.grid import Shape, Volume
from segpipe.patches.sliding_window import most_kept
from segpipe.patches.windows import windows_at_once
from segpipe.plan.memory import weight_numbers
from segpipe.plan.plan import Plan
from segpipe.prepare.prepare import network_shape

PROCESS_GB = 0.5
"""Python, torch and the other libraries, with nothing read yet."""
_OPENVINO_GB = 0.15
_COPIES = {"unet": 7.5, "vnet": 14.0}
"""Numbers that a network holds at a time for each that its first stage puts out, what its convolutions work in included. Measured with
torch 2.13 and OpenVINO 2026.4 on a processor, for windows of 64 to 128 voxels along each axis: 5.2 to 7.4, and 13.8 to 16.6."""
_BF16_VNET = 4
"""Times as much as its bf16 numbers take: its kernels of 5 x 5 x 5 are unfolded."""
_PREPARING = 1.5
"""Copies of a scan in float32 while it is prepared: its own, and what is being computed."""


@dataclass(frozen=True)
class Asked:
    """What the memory depends on besides scan and models.

    Attributes:
        batch: windows a forward pass; 0: by their size.
        overlap: of neighbouring windows.
        bf16: whether the networks compute in it.
        probabilities: whether they are asked for.
        passes: whether a window goes through networks more than once, so that one answer waits while the next is computed.
        openvino: whether it computes, or compiled code does; both may keep a copy of the weights of their own, and OpenVINO keeps
            the memory of a window from one to the next.
        limit_gb: most that may be taken; 0: no limit.
    """

    batch: int
    overlap: float
    bf16: bool
    probabilities: bool
    passes: bool = False
    openvino: bool = False
    limit_gb: float = 0.0


@dataclass(frozen=True)
class Need:
    """Attributes:
    gb: most memory of the process, in GB (10^9 bytes).
    batch: windows a forward pass that it is told for.
    """

    gb: float
    batch: int


def need_of(groups: Sequence[Sequence[Plan]], scan: Volume, asked: Asked) -> Need:
    """The memory of a scan, with as many windows a pass as are wanted, or as fit.

    Args:
        groups: plans of the models, those that see the same windows together.

    Raises:
        DataError: a limit is given, and not even one window at a time fits into it.
    """
    wanted = asked.batch or max(windows_at_once(group[0].patch_size) for group in groups)
    needed = _gb(groups, scan, asked, wanted)
    if asked.limit_gb and needed > asked.limit_gb:
        while wanted > 1 and needed > asked.limit_gb:
            wanted = math.ceil(wanted / 2)
            needed = _gb(groups, scan, asked, wanted)
        if needed > asked.limit_gb:
            cure = "leave out --probabilities, or " if asked.probabilities else ""
            raise DataError(f"takes about {needed:.2g} GB to segment, and --memory-gb is {asked.limit_gb:g}: {cure}give more")
    return Need(needed, wanted)


def _gb(groups: Sequence[Sequence[Plan]], scan: Volume, asked: Asked, batch: int) -> float:
    voxels = math.prod(scan.grid.shape)
    weights = sum(weight_numbers(plan.network) for group in groups for plan in group) * (6 if asked.bf16 else 4)
    always = PROCESS_GB * 1e9 + (_OPENVINO_GB * 1e9 + weights if asked.openvino else 0) + weights + scan.array.nbytes
    preparing = _PREPARING * 4 * scan.channels * voxels
    outputs = groups[0][0].outputs
    on_scan = 4 * outputs * voxels * (1 if len(groups) == 1 else 2) if asked.probabilities or len(groups) > 1 else voxels
    computing = max(_computing(group, scan, asked, batch) for group in groups)
    return (always + max(preparing, on_scan + computing)) / 1e9


def _computing(group: Sequence[Plan], scan: Volume, asked: Asked, batch: int) -> float:
    """Bytes of the prepared scan, of the logits that are kept, and of a batch of windows in the network."""
    plan = group[0]
    shape: Shape = network_shape(scan.grid, plan)
    window = batch * math.prod(plan.patch_size)
    number = 2 if asked.bf16 else 4
    maps = max(_maps(one, window, number) for one in group)
    numbers = min(plan.outputs, plan.network.features[0]) if len(group) == 1 else plan.outputs  # see `package.trunk`
    answers = numbers * window * (number + 4 * (2 if len(group) > 1 else 1))
    kept = 4 * numbers * most_kept(shape, plan.patch_size, asked.overlap)
    at_once = maps + answers if asked.passes or asked.openvino else max(maps, answers)
    return float(4 * scan.channels * math.prod(shape) + kept + at_once)


def _maps(plan: Plan, voxels: int, number: int) -> float:
    vnet = plan.network.name == "vnet"
    return _COPIES[plan.network.name] * plan.network.features[0] * voxels * (number * _BF16_VNET if vnet and number == 2 else number)
