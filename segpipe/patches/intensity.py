"""Random changes of value: scanner noise, blur and resolution, then brightness, contrast and normalisation.

Each function takes the patches that it happens to (R, C, I, J, K) float32, one effect and the generator, and returns new patches.
Strengths are drawn once a patch and shared by its channels unless the docstring says otherwise; statistics (mean, range) are those of
each patch and channel. The patches go together, because a GPU takes each small operation in less time than a processor needs to ask
for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from segpipe.patches.chance import happening, strengths
from segpipe.patches.upload import chosen, upload
from segpipe.settings import AugmentSettings, Effect

_TINY = 1e-7
"""Keeps divisions by the range or the deviation of a constant channel finite."""

_SHARP = 1e-3
"""Least sigma of a blur, in voxels: neighbours have no weight left."""

_SPACE = (-3, -2, -1)
"""Axes of a channel's statistics."""

Change = Callable[[Tensor, Effect, torch.Generator, Sequence[int]], Tensor]


def noise(patches: Tensor, effect: Effect, generator: torch.Generator, plane: Sequence[int]) -> Tensor:
    """Gaussian noise, on its own for each voxel and channel; the strength is its standard deviation.

    On a GPU it is drawn there, from a seed of the generator's: so many numbers take a processor longer than all the rest of a step.
    """
    sigma = _drawn(patches, effect, generator)
    if patches.is_cuda:
        own = torch.Generator(patches.device)
        own.manual_seed(int(torch.randint(2**62, (1,), generator=generator)))
        return patches + sigma * torch.randn(patches.shape, generator=own, device=patches.device)
    return patches + sigma * torch.randn(patches.shape, generator=generator)


def blur(patches: Tensor, effect: Effect, generator: torch.Generator, plane: Sequence[int]) -> Tensor:
    """Gaussian blur along the axes of `plane`; the strength is sigma in voxels. At the border the weights that remain are scaled up."""
    sigma = _drawn(patches, effect, generator).view(-1, 1, 1)
    for axis in plane:
        matrices = _gaussian(patches.shape[axis + 2], sigma)
        patches = torch.stack([_along(patch, matrix, axis) for patch, matrix in zip(patches, matrices, strict=True)])
    return patches


def _gaussian(size: int, sigma: Tensor) -> Tensor:
    """(R, size, size) of sigma (R, 1, 1): row `o` holds the weights of all voxels in the blurred voxel `o`, sum 1."""
    voxels = torch.arange(size, dtype=torch.float32, device=sigma.device)
    distance = voxels[:, None] - voxels[None, :]
    return torch.softmax(-0.5 * (distance / sigma.clamp_min(_SHARP)) ** 2, dim=2)


def _along(patch: Tensor, matrix: Tensor, axis: int) -> Tensor:
    """Multiply each line of (C, I, J, K) along `axis` by a square matrix; faster than a convolution at the size of patches."""
    if axis == 0:
        return torch.matmul(matrix, patch.flatten(2)).reshape(patch.shape)
    return torch.matmul(matrix, patch) if axis == 1 else torch.matmul(patch, matrix.T)


def low_resolution(patches: Tensor, effect: Effect, generator: torch.Generator, plane: Sequence[int]) -> Tensor:
    """Shrink to a share of the voxels along the axes of `plane` (nearest voxel), then enlarge again (linear)."""
    full = list(patches.shape[2:])
    found = []
    for patch, zoom in zip(patches.split(1), strengths(effect, len(patches), generator), strict=True):
        small = [max(round(size * zoom), 1) if axis in plane else size for axis, size in enumerate(full)]
        shrunk = functional.interpolate(patch, size=small, mode="nearest-exact")
        found.append(functional.interpolate(shrunk, size=full, mode="trilinear", align_corners=False))
    return torch.cat(found)


def brightness(patches: Tensor, effect: Effect, generator: torch.Generator, plane: Sequence[int]) -> Tensor:
    """Multiply all values by the strength."""
    return patches * _drawn(patches, effect, generator)


def contrast(patches: Tensor, effect: Effect, generator: torch.Generator, plane: Sequence[int]) -> Tensor:
    """Multiply the distance from the channel's mean by the strength; the channel's range stays."""
    low, high, mean = _statistics(patches)
    return ((patches - mean) * _drawn(patches, effect, generator) + mean).clamp(low, high)


def gamma(patches: Tensor, effect: Effect, generator: torch.Generator, plane: Sequence[int]) -> Tensor:
    """Raise values, scaled to 0..1 by the channel's range, to the strength; then restore the channel's mean and standard deviation.

    Every second draw works on the inverted image, so that dark and bright values are both spread (Isensee et al. 2021, suppl. note 4).
    """
    exponent = _drawn(patches, effect, generator)
    signs = torch.where(torch.rand(len(patches), generator=generator) < 0.5, -1.0, 1.0)
    sign = upload(signs, patches.device).view(-1, 1, 1, 1, 1)
    signed = patches * sign
    low, high, mean = _statistics(signed)
    curved = ((signed - low) / (high - low).clamp_min(_TINY)) ** exponent
    centred = curved - curved.mean(_SPACE, keepdim=True)
    scale = _deviation(patches) / _deviation(centred).clamp_min(_TINY)
    return (centred * scale + mean) * sign


def _statistics(patches: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Minimum, maximum and mean of each channel, (R, C, 1, 1, 1)."""
    return patches.amin(_SPACE, keepdim=True), patches.amax(_SPACE, keepdim=True), patches.mean(_SPACE, keepdim=True)


def _deviation(patches: Tensor) -> Tensor:
    return patches.std(_SPACE, keepdim=True, correction=0)


def channel_shift(patches: Tensor, effect: Effect, generator: torch.Generator, plane: Sequence[int]) -> Tensor:
    """Add a value to each channel, drawn for each channel on its own."""
    return patches + _drawn(patches, effect, generator, patches.shape[1])


def whitening(patches: Tensor, effect: Effect, generator: torch.Generator, plane: Sequence[int]) -> Tensor:
    """Normalise again with a wrong mean and a wrong deviation, both drawn for each channel on its own: `(x - m) / (1 + s)`."""
    mean = _drawn(patches, effect, generator, patches.shape[1])
    return (patches - mean) / (1 + _drawn(patches, effect, generator, patches.shape[1]))


def _drawn(patches: Tensor, effect: Effect, generator: torch.Generator, channels: int = 1) -> Tensor:
    """Strengths of each patch, or of each of its channels, (R, channels, 1, 1, 1)."""
    values = torch.tensor(strengths(effect, len(patches) * channels, generator), dtype=patches.dtype)
    return upload(values, patches.device).view(-1, channels, 1, 1, 1)


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
        rows = happening(effect, len(image), generator)
        if rows:
            # row by row: of an assignment to several rows a GPU asked to repeat itself makes a sort
            for row, patch in zip(rows, change(chosen(image, rows), effect, generator, plane), strict=True):
                image[row].copy_(patch)
