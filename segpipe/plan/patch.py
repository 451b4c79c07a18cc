"""How large a patch is, how it is halved from stage to stage, and how many make a step."""

from __future__ import annotations

import numpy as np

from segpipe.errors import ConfigError
from segpipe.plan.flips import OR_TWO, along
from segpipe.plan.topology import SMALLEST, Strides, Topology, topology
from segpipe.settings import NetworkSettings, PlanSettings

BATCH_VOXELS = 360_000
"""Voxels of one training step: four patches of 40x56x40; more cost steps, fewer cost a steady gradient."""
LARGEST_BATCH = 32
PATCH_VOXELS = {("cpu", 3): 2**17, ("cpu", 2): 2**16, ("cuda", 3): 2**21, ("cuda", 2): 2**18}


def decide_patch(
    wanted: PlanSettings,
    network: NetworkSettings,
    frame: tuple[int, tuple[int, int, int]],
    spacing: tuple[float, float, float] | None,
    size: tuple[tuple[int, int, int], int],
    reasons: dict[str, str],
) -> Topology:
    (dims, axes), (median, limit) = frame, size
    own_mm = tuple(spacing[:dims]) if spacing else (1.0,) * dims
    fixed: tuple[int, ...] | None = None
    if wanted.patch_size:
        if len(wanted.patch_size) not in (dims, 3):
            raise ConfigError(f"plan.patch_size is {wanted.patch_size}; must be three numbers (x, y, z){OR_TWO[dims]}")
        fixed = tuple(along(axes, wanted.patch_size)[:dims])
    strides = _wanted_strides(network, dims)
    result = topology(median[:dims], own_mm, limit, fixed, strides or network.stages)
    patch = "x".join(map(str, result.patch[:dims]))
    if len(result.strides) < network.stages:
        raise ConfigError(
            f"network.stages is {network.stages}; a patch of {patch} allows {len(result.strides)} at most: "
            f"set network.stages={len(result.strides)}, or a larger plan.patch_size"
        )
    divisor = np.prod(np.array(strides), axis=0) if strides else np.ones(dims, dtype=np.int64)
    if (np.array(result.patch[:dims]) % divisor).any():
        near = " or ".join("x".join(map(str, sizes)) for sizes in _multiples(result.patch[:dims], divisor))
        raise ConfigError(
            f"network.strides divides the patch by {'x'.join(map(str, divisor))} in all, and the patch is {patch}: "
            f"take other strides, or a plan.patch_size of multiples, such as {near}"
        )
    reasons["strides"] = "set by hand" if strides else f"an axis is halved while it has at least {2 * SMALLEST} voxels"
    reasons["patch_size"] = "set by hand" if fixed else f"median scan is {'x'.join(map(str, median))} on this grid, at most {limit} voxels"
    return result


def _multiples(patch: tuple[int, ...], divisor: np.ndarray) -> list[list[int]]:
    """The nearest multiples below and above, one only where they are the same."""
    down, up = (np.maximum(divisor, rounding(np.array(patch) / divisor) * divisor).astype(int).tolist() for rounding in (np.floor, np.ceil))
    return [down] if down == up else [down, up]


def _wanted_strides(network: NetworkSettings, dims: int) -> Strides:
    """The strides of the settings, checked; empty where the plan decides."""
    strides = tuple(tuple(stage) for stage in network.strides)
    if not strides:
        return ()
    if any(len(stage) != dims for stage in strides):
        raise ConfigError(f"network.strides is {network.strides}; must have {dims} numbers for each stage, one an axis of the network")
    if max(strides[0]) > 1:
        raise ConfigError(f"network.strides begins with {list(strides[0])}; the first stage has the patch's own grid: begin with ones")
    if network.stages not in (0, len(strides)):
        raise ConfigError(f"network.strides has {len(strides)} stages and network.stages is {network.stages}: leave network.stages out")
    return strides


def decide_batch(wanted: PlanSettings, layout: Topology, reasons: dict[str, str]) -> int:
    if wanted.batch_size:
        reasons["batch_size"] = "set by hand"
        return wanted.batch_size
    voxels = int(np.prod(layout.patch))
    batch = int(np.clip(round(BATCH_VOXELS / voxels), 2, LARGEST_BATCH))
    reasons["batch_size"] = f"about {BATCH_VOXELS} voxels a step, 2 to {LARGEST_BATCH} patches"
    return batch
