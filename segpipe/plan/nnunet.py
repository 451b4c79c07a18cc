"""nnU-Net's own rules for patch, stages and batch, so that its plans can be reproduced and compared (`plan.rules=nnunet`).

Source: Isensee et al. 2021 (Nature Methods 18), Suppl. 2, with the numbers of nnU-Net 2: the patch starts as large as the median scan,
and the axis that covers most of it is shortened until the network's feature maps fit into the memory of an 8 GB GPU.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from segpipe.dataset.fingerprint import Fingerprint
from segpipe.errors import ConfigError
from segpipe.plan.topology import SMALLEST, Strides, Topology
from segpipe.settings import Settings

FIRST_FEATURES = 32
MOST_FEATURES = {2: 512, 3: 320}
_START_VOXELS = {2: 2048**2, 3: 256**3}
"""Voxels of the patch before it is cut to the median scan."""
_REFERENCE = {2: (85e6, 12), 3: (560e6, 2)}
"""Numbers in the feature maps that fit, and the batch that they are for."""
_LONE_AXIS = 3 * SMALLEST
"""An axis that would be halved alone must have this many voxels."""
_LARGEST_SHARE = 0.05
"""Of the data set's voxels in one batch."""
_SMALLEST_BATCH = 2
_NEAR = 2.0


def decide_nnunet(
    settings: Settings,
    data: Fingerprint,
    spacing: tuple[float, ...],
    median: tuple[int, int, int],
    reasons: dict[str, str],
) -> tuple[Topology, int]:
    """Patch, stages and batch by nnU-Net's rules, which leave nothing of these to be set by hand but the batch."""
    by_hand = {
        "plan.patch_size": settings.plan.patch_size,
        "plan.patch_voxels": settings.plan.patch_voxels,
        "network.stages": settings.network.stages,
        "network.strides": settings.network.strides,
    }
    for key, value in by_hand.items():
        if value:
            raise ConfigError(f"{key} is {value}, and plan.rules is nnunet, which decides it: leave one of them out")
    if settings.network.name != "unet":
        raise ConfigError(f"network.name is {settings.network.name}; plan.rules=nnunet plans a U-Net: leave one of them out")
    layout, batch = nnunet_layout(median, spacing, data.cases, len(data.label_values))
    reasons["patch_size"] = f"nnU-Net's rule: what fits into 8 GB; the median scan is {'x'.join(map(str, median))} on this grid"
    reasons["strides"] = "nnU-Net's rule"
    reasons["batch_size"] = (
        "set by hand" if settings.plan.batch_size else "nnU-Net's rule: what fits into 8 GB, 5 % of the data set at most"
    )
    return layout, settings.plan.batch_size or batch


def nnunet_layout(median: tuple[int, ...], spacing_mm: tuple[float, ...], cases: int, classes: int) -> tuple[Topology, int]:
    """Topology and batch size.

    Args:
        median: median shape on the network's grid (2 or 3 axes); a 2D network's third axis counts for the batch's share alone.
        spacing_mm: spacing of that grid along the network's axes (2 or 3 numbers).
        cases: of the data set.
        classes: outputs of the network, background included.
    """
    dims = len(spacing_mm)
    spacing, scan = np.array(spacing_mm, dtype=np.float64), np.array(median[:dims])
    shares = 1.0 / spacing
    start = np.round(shares * (_START_VOXELS[dims] / shares.prod()) ** (1 / dims)).astype(int)
    strides = _strides(np.minimum(start, scan), spacing)
    patch = _padded(np.minimum(start, scan), strides)
    reference, reference_batch = _REFERENCE[dims]
    while _feature_maps(patch, strides, classes) / reference_batch * 2 > reference:
        axis = int(np.argmax(patch / scan))  # of equal ones the first: nnU-Net orders its axes z, y, x and takes the last
        shorter = patch.copy()
        shorter[axis] -= _divisor(strides)[axis]
        patch[axis] -= _divisor(_strides(shorter, spacing))[axis]
        strides = _strides(patch, spacing)
        patch = _padded(patch, strides)
    batch = round(reference / _feature_maps(patch, strides, classes) * reference_batch)
    largest = round(_LARGEST_SHARE * math.prod(median) * cases / int(patch.prod()))
    size = [int(n) for n in patch] + [1] * (3 - dims)
    return Topology((size[0], size[1], size[2]), strides, _wide(strides, spacing)), max(min(batch, largest), _SMALLEST_BATCH)


def nnunet_features(stages: int, dims: int) -> tuple[int, ...]:
    """Channels of each stage, finest first."""
    return tuple(min(FIRST_FEATURES * 2**stage, MOST_FEATURES[dims]) for stage in range(stages))


def _strides(patch: NDArray[np.int_], spacing: NDArray[np.float64]) -> Strides:
    """Axes of 8 voxels or more whose spacing is within a factor of two of the finest of these are halved."""
    size, mm = patch.copy(), spacing.copy()
    strides: list[tuple[int, ...]] = [(1,) * len(size)]
    while True:
        long_enough = size >= 2 * SMALLEST
        if not long_enough.any():
            break
        halved = long_enough & (mm / mm[long_enough].min() < _NEAR)
        if halved.sum() == 1 and size[halved][0] < _LONE_AXIS:
            break
        step = np.where(halved, 2, 1)
        size, mm = np.ceil(size / step).astype(int), mm * step
        strides.append(tuple(int(s) for s in step))
    return tuple(strides)


def _wide(strides: Strides, spacing: NDArray[np.float64]) -> tuple[tuple[bool, ...], ...]:
    """A kernel looks along an axis from the stage on at which its spacing is within a factor of two; at the coarsest along all."""
    wide, mm, looks = [], spacing.copy(), np.zeros(len(spacing), dtype=bool)
    for step in strides[:-1]:
        mm = mm * np.array(step)
        looks |= mm / mm.min() < _NEAR
        wide.append(tuple(bool(look) for look in looks))
    return (*wide, (True,) * len(spacing))


def _divisor(strides: Strides) -> NDArray[np.int_]:
    return np.asarray(np.prod(np.array(strides), axis=0), dtype=np.int_)


def _padded(patch: NDArray[np.int_], strides: Strides) -> NDArray[np.int_]:
    divisor = _divisor(strides)
    return np.asarray(np.ceil(patch / divisor) * divisor, dtype=np.int_)


def _feature_maps(patch: NDArray[np.int_], strides: Strides, classes: int) -> int:
    """Numbers in the outputs of all convolutions for one patch: two a stage on the way down, two and the step on the way up, a head."""
    features = nnunet_features(len(strides), len(patch))
    size, total, voxels = patch.astype(np.float64), 0, []
    for step, channels in zip(strides, features, strict=True):
        size = size / np.array(step)
        voxels.append(int(np.ceil(size).prod()))
        total += 2 * channels * voxels[-1]
    for channels, here in zip(features[:-1], voxels[:-1], strict=True):
        total += (2 + 1) * channels * here
    return total + classes * voxels[0]
