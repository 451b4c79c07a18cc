"""A volume on the network's grid, with the trace that leads back."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from segpipe.geometry.grid import Box, Grid, Shape
from segpipe.geometry.resample import BLENDED, Flags


@dataclass(frozen=True, eq=False)
class Trace:
    """How a scan became a prepared volume; `restore` walks it backwards.

    Attributes:
        scan_grid: the scan's own grid.
        axes: prepared axis `a` came from scan axis `axes[a]`.
        flipped: prepared axis `a` was reversed.
        box: crop, in voxels after permuting and flipping, before resampling.
        shape: shape after resampling to the plan's spacing.
        nearest: prepared axes along which the nearest voxel was taken.
    """

    scan_grid: Grid
    axes: tuple[int, int, int]
    flipped: tuple[bool, bool, bool]
    box: Box
    shape: Shape
    nearest: Flags = BLENDED


@dataclass(frozen=True, eq=False)
class Prepared:
    """What the network sees of one case.

    Attributes:
        image: (C, I, J, K) float32, normalised.
        label: (I, J, K) uint8 class indices, or None.
        trace: the way back to the scan.
    """

    image: torch.Tensor
    label: torch.Tensor | None
    trace: Trace
