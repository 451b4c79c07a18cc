"""Memory that a scan takes to segment, told before the work begins."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from segpipe.errors import DataError
from segpipe.geometry.grid import Volume
from segpipe.inference.walk import Seen, Walk, choose_walk, numbers_held
from segpipe.patches.windows import window_starts, windows_at_once
from segpipe.plan.memory import weight_numbers
from segpipe.plan.plan import Plan
from segpipe.prepare.mean import AT_ONCE
from segpipe.prepare.prepare import uncropped
from segpipe.prepare.prepared import Trace

PROCESS_GB = 0.5
"""Python, torch and the other libraries, with nothing read yet."""
_OPENVINO_GB = 0.15
_COPIES = {"unet": 7.5, "vnet": 14.0}
"""Numbers that a network holds at a time for each that its first stage puts out, what its convolutions work in included. Measured with
torch 2.13 and OpenVINO 2026.4 on a processor, for windows of 64 to 128 voxels along each axis: 5.2 to 7.4, and 13.8 to 16.6."""
_BF16_VNET = 4
"""Times as much as its bf16 numbers take: its kernels of 5 x 5 x 5 are unfolded."""
_WRITTEN = 4
"""Bytes for each voxel of a label map that is written: class indices, values, and what is compressed of them."""
_PREPARING = 1.5
"""Copies of a scan in float32 while it is prepared: its own, and what is being computed."""
_RESTORING = 4
"""Copies of the few planes that are interpolated at a time, steps between included."""


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
        leaning: whether probabilities are laid back onto tilted slices, so that they are there twice.
    """

    batch: int
    overlap: float
    bf16: bool
    probabilities: bool
    passes: bool = False
    openvino: bool = False
    limit_gb: float = 0.0
    leaning: bool = False


@dataclass(frozen=True)
class Need:
    """Attributes:
    gb: most memory of the process, in GB (10^9 bytes).
    batch: windows a forward pass that it is told for.
    beside_gb: what comes on top at most while the next scan, one like it, is read and the one before is written.
    """

    gb: float
    batch: int
    beside_gb: float


def need_of(groups: Sequence[Sequence[Plan]], scan: Volume, asked: Asked) -> Need:
    """The memory of a scan, with as many windows a pass as are wanted, or as fit.

    Args:
        groups: plans of the models, those that see the same windows together.

    Raises:
        DataError: a limit is given, and not even one window at a time fits into it.
    """
    wanted = asked.batch or max(map(_at_once, groups))
    needed = _gb(groups, scan, asked, wanted)
    if asked.limit_gb and needed > asked.limit_gb:
        while wanted > 1 and needed > asked.limit_gb:
            wanted = math.ceil(wanted / 2)
            needed = _gb(groups, scan, asked, wanted)
        if needed > asked.limit_gb:
            cure = "leave out --probabilities, or " if asked.probabilities else ""
            raise DataError(f"takes about {needed:.2g} GB to segment, and --memory-gb is {asked.limit_gb:g}: {cure}give more")
    return Need(needed, wanted, _beside_gb(groups, scan, asked))


def walk_of(groups: Sequence[Sequence[Plan]], traces: Sequence[Trace], asked: Asked) -> Walk | None:
    """The way through a scan on which least of it is in memory; None: one group of models that is asked for labels alone needs none.

    Args:
        groups: as `need_of`.
        traces: of the scan as prepared for each group.
    """
    if len(groups) == 1 and not asked.probabilities:
        return None
    return choose_walk(_seen(groups, traces, asked), groups[0][0].outputs)


def _gb(groups: Sequence[Sequence[Plan]], scan: Volume, asked: Asked, batch: int) -> float:
    voxels, outputs = math.prod(scan.grid.shape), groups[0][0].outputs
    weights = sum(weight_numbers(plan.network) for group in groups for plan in group) * (6 if asked.bf16 else 4)
    always = PROCESS_GB * 1e9 + (_OPENVINO_GB * 1e9 + weights if asked.openvino else 0) + weights + scan.array.nbytes
    preparing = _PREPARING * 4 * scan.channels * voxels
    traces = [uncropped(scan.grid, group[0]) for group in groups]
    walk = walk_of(groups, traces, asked)
    prepared = 4 * scan.channels * sum(math.prod(trace.shape) for trace in traces)
    shares = 4 * outputs * (2 if asked.leaning else 1) if asked.probabilities else 0
    on_scan = voxels * (1 + shares) + (4 * _RESTORING * AT_ONCE if walk is not None else 0)
    held = 4 * numbers_held(_seen(groups, traces, asked), outputs, walk)
    most = [min(batch, asked.batch or _at_once(group), _count(trace, group[0], asked)) for group, trace in zip(groups, traces, strict=True)]
    windows = [_windows(group, asked, size) for group, size in zip(groups, most, strict=True)]
    return (always + max(preparing, prepared + on_scan + held + (sum(windows) if asked.openvino else max(windows)))) / 1e9


def _beside_gb(groups: Sequence[Sequence[Plan]], scan: Volume, asked: Asked) -> float:
    """The next scan as it is prepared, the label map that is written, and a block of logits more that is restored and one that waits."""
    plan, voxels = groups[0][0], math.prod(scan.grid.shape)
    block = math.prod(math.ceil(size * (1 - asked.overlap)) for size in plan.patch_size)
    return (scan.array.nbytes + _PREPARING * 4 * scan.channels * voxels + _WRITTEN * voxels + 2 * 4 * plan.outputs * block) / 1e9


def _seen(groups: Sequence[Sequence[Plan]], traces: Sequence[Trace], asked: Asked) -> list[Seen]:
    return [Seen(trace, group[0].patch_size, asked.overlap, _numbers(group)) for group, trace in zip(groups, traces, strict=True)]


def _numbers(group: Sequence[Plan]) -> int:
    """That a group's networks give for each voxel."""
    return min(group[0].outputs, group[0].network.features[0]) if len(group) == 1 else group[0].outputs  # see `package.trunk`


def _at_once(group: Sequence[Plan]) -> int:
    """Windows a pass where nobody asks for another number; each group of networks has its own."""
    return windows_at_once(group[0].patch_size, group[0].network.features[0])


def _count(trace: Trace, plan: Plan, asked: Asked) -> int:
    """Windows of the whole scan: a pass never holds more."""
    sizes = zip(trace.shape, plan.patch_size, strict=True)
    return math.prod(len(window_starts(max(size, window), window, asked.overlap)) for size, window in sizes)


def _windows(group: Sequence[Plan], asked: Asked, batch: int) -> float:
    """Bytes of a batch of windows in the networks of a group."""
    window = batch * math.prod(group[0].patch_size)
    number = 2 if asked.bf16 else 4
    maps = max(_maps(one, window, number) for one in group)
    answers = _numbers(group) * window * (number + 4 * (2 if len(group) > 1 else 1))
    return maps + answers if asked.passes or asked.openvino else max(maps, answers)


def _maps(plan: Plan, voxels: int, number: int) -> float:
    vnet = plan.network.name == "vnet"
    return _COPIES[plan.network.name] * plan.network.features[0] * voxels * (number * _BF16_VNET if vnet and number == 2 else number)
