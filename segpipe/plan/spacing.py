"""The spacing of the network's grid: that of the data set, or a coarser one on which a patch sees more of the scan."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from segpipe.dataset.fingerprint import Fingerprint
from segpipe.errors import ConfigError
from segpipe.plan.flips import OR_TWO, along
from segpipe.settings import PlanSettings

ANISOTROPIC = 3.0
"""An axis is anisotropic when its spacing exceeds the next by this factor (Isensee et al. 2021, Suppl. 2)."""
SEEN_SHARE = 0.25
"""Of the median scan, that a patch should see; below it a network on a coarser grid is worth a training (Isensee et al. 2021, Suppl. 2)."""
_STEP = 1.03
"""From one spacing to the next coarser one that is tried."""
_NEAR = 2.0

Spacing = tuple[float, float, float]


def decide_spacing(
    wanted: PlanSettings, data: Fingerprint, dims: int, axes: tuple[int, int, int], reasons: dict[str, str]
) -> tuple[float, float, float] | None:
    """Median spacing an axis; the 10th percentile on a strongly anisotropic one with few slices (Isensee et al. 2021, Suppl. 2)."""
    if data.picture:
        if wanted.spacing_mm:
            raise ConfigError("plan.spacing_mm is set, but pictures have no spacing: remove it")
        reasons["spacing_mm"] = "pictures keep their pixels"
        return None
    all_mm = np.array(data.spacings_mm)
    spacing = np.median(all_mm, axis=0)
    reasons["spacing_mm"] = "median of the data set"
    worst = int(np.argmax(spacing))
    others = np.delete(spacing, worst)
    sizes = np.median(np.array(data.shapes), axis=0)
    if spacing[worst] > ANISOTROPIC * others.max() and ANISOTROPIC * sizes[worst] < np.delete(sizes, worst).min():
        spacing[worst] = max(float(np.percentile(all_mm[:, worst], 10)), float(others.max()))
        reasons["spacing_mm"] += f", 10th percentile along the anisotropic {'xyz'[worst]}"
    if wanted.spacing_mm:
        if len(wanted.spacing_mm) not in (dims, 3) or min(wanted.spacing_mm) <= 0:
            raise ConfigError(f"plan.spacing_mm is {wanted.spacing_mm}; must be three numbers above 0 (x, y, z){OR_TWO[dims]}")
        spacing[list(axes[: len(wanted.spacing_mm)])] = along(axes, wanted.spacing_mm)
        reasons["spacing_mm"] = "set by hand"
    ordered = [float(np.round(spacing[a], 6)) for a in axes]
    if dims == 2:
        ordered[2] = 0.0
        reasons["spacing_mm"] += "; slices stay where they are (0)"
    return (ordered[0], ordered[1], ordered[2])


def median_shape(data: Fingerprint, axes: tuple[int, int, int], spacing: tuple[float, float, float] | None) -> tuple[int, int, int]:
    """Median shape on the network's grid, in prepared axes."""
    shapes = np.array(data.shapes, dtype=np.float64)
    if spacing is not None:
        target = np.empty(3)
        target[list(axes)] = spacing
        own = np.array(data.spacings_mm)
        shapes = np.where(target > 0, shapes * own / np.where(target > 0, target, 1.0), shapes)
    median = np.maximum(1, np.round(np.median(shapes, axis=0)))
    return (int(median[axes[0]]), int(median[axes[1]]), int(median[axes[2]]))


def seen_share(patch: tuple[int, ...], median: tuple[int, ...]) -> float:
    """Share of the median scan's voxels that lie in one patch."""
    return math.prod(min(size, whole) for size, whole in zip(patch, median, strict=True)) / math.prod(median)


def decide_low(full: Spacing, seen: Callable[[Spacing], float], reasons: dict[str, str]) -> Spacing:
    """The finest spacing at which a patch sees `SEEN_SHARE` of the median scan: the finer axes are coarsened first, until all are within
    a factor of two of the coarsest, then all alike (Isensee et al. 2021, Suppl. 2).

    Args:
        seen: share of the median scan in a patch at a spacing.
    """
    share = seen(full)
    spacing = full
    while seen(spacing) < SEEN_SHARE:
        far = [mm * _NEAR < max(spacing) for mm in spacing]
        i, j, k = (mm * _STEP if fine or not any(far) else mm for mm, fine in zip(spacing, far, strict=True))
        spacing = (i, j, k)
    i, j, k = (round(mm, 6) for mm in spacing)
    reasons["spacing_mm"] = f"low resolution, so that a patch sees {100 * SEEN_SHARE:.0f} % of the median scan and not {100 * share:.0f} %"
    return (i, j, k)
