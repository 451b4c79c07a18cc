"""A network of any window size over a volume of any size: overlapping windows, blended with Gaussian weights.

Takes any callable, so that training validates on whole volumes with the very code that inference uses. Accumulates in float32
whatever the predictor computes in, and never writes into the volume or into what the predictor returned.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from segpipe.errors import ConfigError, ModelError
from segpipe.geometry.grid import Shape
from segpipe.progress import Told

SIGMA_SHARE = 0.125
"""Standard deviation of the weights as a share of the window (Isensee et al. 2021, supplementary note 2)."""

SMALLEST_WEIGHT = 1e-3
"""Weight of a window's corners, which the Gaussian alone would bring to 0; the middle has about 1."""

VOXELS_AT_ONCE = 2**18
MOST_WINDOWS = 64

Predictor = Callable[[Tensor], Tensor]


@torch.no_grad()
def sliding_window(image: Tensor, predict: Predictor, window: Shape, overlap: float, batch: int, told: Told | None = None) -> Tensor:
    """Predict a whole volume window by window.

    Windows start every `window * (1 - overlap)` voxels, rounded down; the last one along an axis is shifted back to the edge.
    A volume smaller than the window is padded with zeros on both sides. The result depends on nothing but the arguments.

    Args:
        image: (C, I, J, K), on the device where the result is gathered.
        predict: logits (B, N, i, j, k) of windows (B, C, i, j, k), of any floating type, on any device. Called once a batch.
        window: voxels `i, j, k`; k is 1 for a 2D network.
        overlap: share of the window, 0 <= overlap < 1.
        batch: most windows in one call; 0: as `windows_at_once` says.
        told: called after each batch with the windows done and the windows in all.

    Returns:
        (N, I, J, K) float32 logits.

    Raises:
        ConfigError: overlap, window or batch out of range.
        ModelError: the predictor returns another batch or spatial size than it was given.
    """
    _check(window, overlap, batch)
    batch = batch or windows_at_once(window)
    shape = image.shape[1:]
    before = [max(w - n, 0) // 2 for w, n in zip(window, shape, strict=True)]
    padded = _padded(image, window, before)
    places = window_places(padded.shape[1:], window, overlap)
    weights = gaussian_weights(window).to(image.device)
    total = torch.zeros(padded.shape[1:], device=image.device)
    logits: Tensor | None = None
    for first in range(0, len(places), batch):
        some = places[first : first + batch]
        windows = torch.stack([padded[(slice(None), *place)] for place in some])  # (B, C, i, j, k), a copy
        predicted = _checked(predict(windows), windows)  # (B, N, i, j, k)
        if logits is None:
            logits = torch.zeros((predicted.shape[1], *total.shape), device=image.device)
        for place, one in zip(some, predicted, strict=True):
            logits[(slice(None), *place)] += one.to(image.device, torch.float32) * weights
            total[place] += weights
        if told is not None:
            told(first + len(some), len(places))
    if logits is None:
        raise ModelError(f"volume has {tuple(shape)} voxels; must have at least one along each axis")
    inner = tuple(slice(b, b + n) for b, n in zip(before, shape, strict=True))
    return logits.div_(total)[(slice(None), *inner)].contiguous()  # (N, I, J, K)


def windows_at_once(window: Shape) -> int:
    """Windows a forward pass: small ones together, because each pass has a cost of its own, large ones alone."""
    return max(1, min(MOST_WINDOWS, VOXELS_AT_ONCE // math.prod(window)))


def window_places(shape: Sequence[int], window: Shape, overlap: float) -> list[tuple[slice, ...]]:
    """Where the windows lie in a volume that is nowhere smaller than one, the last axis fastest."""
    starts = [_starts(n, w, overlap) for n, w in zip(shape, window, strict=True)]
    return [tuple(slice(s, s + w) for s, w in zip(start, window, strict=True)) for start in itertools.product(*starts)]


def gaussian_weights(window: Shape) -> Tensor:
    """Weight of each voxel of a window, `window` float32: a Gaussian around the middle, at least `SMALLEST_WEIGHT`."""
    lines = []
    for size in window:
        distance = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
        lines.append(torch.exp(-0.5 * (distance / (SIGMA_SHARE * size)) ** 2))
    product = lines[0][:, None, None] * lines[1][None, :, None] * lines[2][None, None, :]
    return product.clamp_min(SMALLEST_WEIGHT).float()


def _starts(size: int, window: int, overlap: float) -> list[int]:
    step = max(int(window * (1 - overlap)), 1)
    count = math.ceil((size - window) / step) + 1 if size > window else min(size, 1)
    return [min(number * step, size - window) for number in range(count)]


def _padded(image: Tensor, window: Shape, before: Sequence[int]) -> Tensor:
    """Zeros around (C, I, J, K) so that no axis is shorter than the window; the image itself where none is."""
    after = [max(w - n, 0) - b for w, n, b in zip(window, image.shape[1:], before, strict=True)]
    if not any(after) or min(image.shape[1:]) == 0:
        return image
    pairs = [amount for b, a in zip(reversed(before), reversed(after), strict=True) for amount in (b, a)]
    return functional.pad(image, pairs)


def _checked(predicted: Tensor, windows: Tensor) -> Tensor:
    if predicted.ndim != 5 or predicted.shape[0] != windows.shape[0] or predicted.shape[2:] != windows.shape[2:]:
        raise ModelError(f"network turned {tuple(windows.shape)} into {tuple(predicted.shape)}; must keep batch and spatial size")
    return predicted


def _check(window: Shape, overlap: float, batch: int) -> None:
    if not 0 <= overlap < 1:
        raise ConfigError(f"inference.overlap is {overlap}; must be at least 0 and below 1")
    if len(window) != 3 or min(window) < 1:
        raise ConfigError(f"window is {window}; must have at least one voxel along each of three axes")
    if batch < 0:
        raise ConfigError(f"inference.batch is {batch}; must be at least 1, or 0 to let the window's size decide")
