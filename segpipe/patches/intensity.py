"""Random changes of value, patch by patch: scanner noise, blur and resolution, then brightness, contrast and normalisation.

Each function takes one patch (C, I, J, K) float32, one effect and the generator, and returns a new patch. Strengths are drawn once a
patch and shared by its channels unless the docstring says otherwise; statistics (mean, range) are those of each channel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from segpipe.patches.chance import happens, strength, strengths
from segpipe.settings import AugmentSettings, Effect

_TINY = 1e-7
"""Keeps divisions by the range or the deviation of a constant channel finite."""

Change = Callable[[Tensor, Effect, torch.Generator, Sequence[int]], Tensor]


def noise(patch: Tensor, effect: Effect, generator: torch.Generator, plane: Sequence[int]) -> Tensor:
    """Gaussian noise, on its own for each voxel and channel; the strength is its standard deviation."""
    sigma = strength(effect, generator)
    return patch + sigma * torch.randn(patch.shape, generator=generator).to(patch.device)


def blur(patch: Tensor, effect: Effect, generator: torch.Generator, plane: Sequence[int]) -> Tensor:
    """Gaussian blur along the axes of `plane`; the strength is sigma in voxels. At the border the weights that remain are scaled up."""
    sigma = strength(effect, generator)
    if sigma <= 0:
        return patch
    for axis in plane:
        patch = _along(patch, _gaussian(patch.shape[axis + 1], sigma).to(patch.device), axis)
    return patch


def _gaussian(size: int, sigma: float) -> Tensor:
    """(size, size): row `o` holds the weights of all voxels in the blurred voxel `o`, sum 1."""
    distance = torch.arange(size, dtype=torch.float32)[:, None] - torch.arange(size, dtype=torch.float32)[None, :]
    return torch.softmax(-0.5 * (distance / sigma) ** 2, dim=1)


def _along(patch: Tensor, matrix: Tensor, axis: int) -> Tensor:
    """Multiply each line of (C, I, J, K) along `axis` by a square matrix; faster than a convolution at the size of patches."""
    if axis == 0:
        return torch.matmul(matrix, patch.flatten(2)).reshape(patch.shape)
    return torch.matmul(matrix, patch) if axis == 1 else torch.matmul(patch, matrix.T)


def low_resolution(patch: Tensor, effect: Effect, generator: torch.Generator, plane: Sequence[int]) -> Tensor:
    """Shrink to a share of the voxels along the axes of `plane` (nearest voxel), then enlarge again (linear)."""
    zoom = strength(effect, generator)
    full = list(patch.shape[1:])
    small = [max(round(size * zoom), 1) if axis in plane else size for axis, size in enumerate(full)]
    shrunk = functional.interpolate(patch[None], size=small, mode="nearest-exact")
    return functional.interpolate(shrunk, size=full, mode="trilinear", align_corners=False)[0]


def brightness(patch: Tensor, effect: Effect, generator: torch.Generator, plane: Sequence[int]) -> Tensor:
    """Multiply all values by the strength."""
    return patch * strength(effect, generator)


def contrast(patch: Tensor, effect: Effect, generator: torch.Generator, plane: Sequence[int]) -> Tensor:
    """Multiply the distance from the channel's mean by the strength; the channel's range stays."""
    low, high, mean = _statistics(patch)
    return ((patch - mean) * strength(effect, generator) + mean).clamp(low, high)


def gamma(patch: Tensor, effect: Effect, generator: torch.Generator, plane: Sequence[int]) -> Tensor:
    """Raise values, scaled to 0..1 by the channel's range, to the strength; then restore the channel's mean and standard deviation.

    Every second draw works on the inverted image, so that dark and bright values are both spread (Isensee et al. 2021, suppl. note 4).
    """
    exponent = strength(effect, generator)
    sign = -1.0 if float(torch.rand(1, generator=generator)) < 0.5 else 1.0
    low, high, mean = _statistics(patch * sign)
    curved = ((patch * sign - low) / (high - low).clamp_min(_TINY)) ** exponent
    centred = curved - curved.mean((1, 2, 3), keepdim=True)
    scale = _deviation(patch) / _deviation(centred).clamp_min(_TINY)
    return (centred * scale + mean) * sign


def _statistics(patch: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Minimum, maximum and mean of each channel, (C, 1, 1, 1)."""
    axes = (1, 2, 3)
    return patch.amin(axes, keepdim=True), patch.amax(axes, keepdim=True), patch.mean(axes, keepdim=True)


def _deviation(patch: Tensor) -> Tensor:
    return patch.std((1, 2, 3), keepdim=True, correction=0)


def channel_shift(patch: Tensor, effect: Effect, generator: torch.Generator, plane: Sequence[int]) -> Tensor:
    """Add a value to each channel, drawn for each channel on its own."""
    return patch + _for_channels(strengths(effect, patch.shape[0], generator), patch)


def whitening(patch: Tensor, effect: Effect, generator: torch.Generator, plane: Sequence[int]) -> Tensor:
    """Normalise again with a wrong mean and a wrong deviation, both drawn for each channel on its own: `(x - m) / (1 + s)`."""
    drawn = strengths(effect, 2 * patch.shape[0], generator)
    mean, deviation = _for_channels(drawn[::2], patch), _for_channels(drawn[1::2], patch)
    return (patch - mean) / (1 + deviation)


def _for_channels(values: Sequence[float], patch: Tensor) -> Tensor:
    return torch.tensor(values, dtype=patch.dtype, device=patch.device)[:, None, None, None]


ORDER: dict[str, Change] = {
    "noise": noise,
    "blur": blur,
    "brightness": brightness,
    "contrast": contrast,
    "low_resolution": low_resolution,
    "gamma": gamma,
    "channel_shift": channel_shift,
    "whitening": whitening,
}
"""The effects by the name of their setting, in the order in which they are applied (that of nnU-Net's default training)."""


def change_values(image: Tensor, settings: AugmentSettings, plane: Sequence[int], generator: torch.Generator) -> None:
    """Apply each effect, with its probability for each patch, to (B, C, I, J, K) in place; other patches are not touched."""
    for name, change in ORDER.items():
        effect: Effect = getattr(settings, name)
        for patch in image:
            if happens(effect, generator):
                patch.copy_(change(patch, effect, generator, plane))
