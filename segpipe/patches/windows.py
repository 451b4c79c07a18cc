"""Where the windows of a sliding window lie, how they are weighted, and how many go together."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from segpipe.errors import ConfigError
from segpipe.geometry.grid import Shape

SIGMA_SHARE = 0.125
"""Standard deviation of the weights as a share of the window (Isensee et al. 2021, supplementary note 2)."""

SMALLEST_WEIGHT = 1e-3
"""Weight of a window's corners, which the Gaussian alone would bring to 0; the middle has about 1."""

VOXELS_AT_ONCE = 2**18
NUMBERS_AT_ONCE = 3 * 2**20
"""Measured in bf16 on two cores, networks of 8 to 32 features, windows of 64^2 to 64^3: the quickest batches put out 1 to 4 million numbers
in their first stage, those of twice as many take up to a fifth longer."""
MOST_WINDOWS = 64


def windows_at_once(window: Shape, features: int = 0) -> int:
    """Windows a forward pass: small ones together, because each pass has a cost of its own, large ones alone.

    Args:
        features: of the network's first stage, where it computes on a processor, which is quickest while that stage's numbers are few;
            0: by the voxels alone.
    """
    most = NUMBERS_AT_ONCE // features if features else VOXELS_AT_ONCE
    return max(1, min(MOST_WINDOWS, most // math.prod(window)))


def even_batch(windows: int, most: int) -> int:
    """Windows a forward pass, such that passes are as few as they can and as alike: 5 windows in passes of at most 4 go 3 and 2."""
    return math.ceil(windows / math.ceil(windows / most)) if windows else 1


def window_starts(size: int, window: int, overlap: float) -> list[int]:
    """First voxel of each window along an axis that is no shorter than one: as many as the overlap needs, spread evenly over the axis.

    So do Isensee et al. (2021): where the last one is shifted back to the edge instead, two of them overlap far more than the others, and
    all that overlaps must be kept in memory.
    """
    step = max(int(window * (1 - overlap)), 1)
    most = size - window
    count = math.ceil(most / step) + 1 if most > 0 else min(size, 1)
    return [(2 * number * most + count - 1) // (2 * (count - 1)) for number in range(count)] if count > 1 else [0] * count


def gaussian_weights(window: Shape) -> Tensor:
    """Weight of each voxel of a window, `window` float32: a Gaussian around the middle, at least `SMALLEST_WEIGHT`."""
    lines = []
    for size in window:
        distance = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
        lines.append(torch.exp(-0.5 * (distance / (SIGMA_SHARE * size)) ** 2))
    product = lines[0][:, None, None] * lines[1][None, :, None] * lines[2][None, None, :]
    return product.clamp_min(SMALLEST_WEIGHT).float()


def check_windows(window: Shape, overlap: float, batch: int) -> None:
    """Raises:
    ConfigError: one of them is out of range.
    """
    if not 0 <= overlap < 1:
        raise ConfigError(f"inference.overlap is {overlap}; must be at least 0 and below 1")
    if len(window) != 3 or min(window) < 1:
        raise ConfigError(f"window is {window}; must have at least one voxel along each of three axes")
    if batch < 0:
        raise ConfigError(f"inference.batch is {batch}; must be at least 1, or 0 to let the window's size decide")
