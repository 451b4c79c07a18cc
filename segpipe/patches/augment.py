"""Random changes of training patches, where the batch is: `Augment` turns pieces read around patches into augmented patches."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from segpipe.errors import ConfigError
from segpipe.geometry.grid import Shape
from segpipe.patches.intensity import change_values
from segpipe.patches.sampling import has_foreground
from segpipe.patches.spatial import Move, Spacing, draw_move, known_spacing, middle, move_patches, plane_axes, read_size
from segpipe.settings import AugmentSettings, Effect

LIMITS: dict[str, tuple[float, float]] = {
    "rotate": (-180.0, 180.0),
    "translate": (-0.5, 0.5),
    "shear": (-0.4, 0.4),  # beyond 0.5 three shears may fold space onto a plane
    "scale": (0.1, 10.0),
    "elastic": (0.0, 20.0),
    "crop": (-0.5, 0.5),
    "whitening": (-0.9, 10.0),
    "noise": (0.0, 10.0),
    "channel_shift": (-100.0, 100.0),
    "brightness": (0.0, 10.0),
    "contrast": (0.0, 10.0),
    "gamma": (0.05, 20.0),
    "blur": (0.0, 20.0),
    "low_resolution": (0.05, 1.0),
}
"""Range that each effect's `low` and `high` may have, in the unit of its setting."""

REDRAWS = 3
"""Changes of place that are tried anew for a patch that has lost its labelled voxels, before it stays where it was cut."""


def check_augment(settings: AugmentSettings) -> None:
    """Refuse a range that an effect cannot have.

    Raises:
        ConfigError: `low` above `high`, or a value outside `LIMITS`, of an effect with a probability above 0.
    """
    for field in dataclasses.fields(settings):
        effect: Effect = getattr(settings, field.name)
        if not 0 <= effect.probability <= 1:
            raise ConfigError(f"augment.{field.name}.probability is {effect.probability}; must be from 0 to 1")
        if effect.probability == 0 or field.name not in LIMITS:
            continue
        low, high = LIMITS[field.name]
        for end, value in (("low", effect.low), ("high", effect.high)):
            if not low <= value <= high:
                raise ConfigError(f"augment.{field.name}.{end} is {value}; must be from {low:g} to {high:g}")
        if effect.low > effect.high:
            raise ConfigError(f"augment.{field.name}.low is {effect.low}, above high ({effect.high}); must not be: swap them")


class Augment:
    """Every effect of the settings on whole batches, each drawn for each patch on its own.

    The effect `crop` moves the place of the patch within the piece that is read; all other changes of place are fused with it into one
    resampling. A patch for which nothing was drawn comes out bit for bit as it was cut. A patch that was cut with labelled voxels comes
    out with some: the sampler's guarantee holds.

    Args:
        settings: what may happen, how often and how strongly.
        dims: 2 or 3; 2 has patches with one voxel along the last axis.
        flips: whether mirroring is allowed along each axis. Decided by the plan: never along an axis that tells left from right.
        patch_size: voxels of a patch.
        spacing_mm: the plan's, in which rotations keep the shape of structures; 0 along an axis of the network, or none: cubes.

    Attributes:
        patch_size: voxels of a patch, which is what comes out.
        read_size: voxels of the piece to be read around the patch's centre, which goes in; `patch_size` plus an even number.

    Raises:
        ConfigError: a range that the effect cannot have.
    """

    def __init__(
        self,
        settings: AugmentSettings,
        dims: int,
        flips: tuple[bool, bool, bool],
        patch_size: Shape,
        spacing_mm: Spacing | None = None,
    ) -> None:
        check_augment(settings)
        self._settings = settings
        self._flips = flips
        self._spacing = known_spacing(spacing_mm, dims)
        self._plane = plane_axes(patch_size, dims, self._spacing)
        self.patch_size = patch_size
        self.read_size = read_size(settings, patch_size, self._plane, self._spacing)

    def __call__(self, image: Tensor, label: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Augment a batch.

        Args:
            image: (B, C, *read_size) float32, normalised; not changed.
            label: (B, *read_size) class indices, any integer type; not changed.
            generator: on the CPU, the only source of chance: the same state gives the same patches, bit for bit.

        Returns:
            Image (B, C, *patch_size) float32 and label (B, *patch_size), of the same types, on the image's device.

        Raises:
            ValueError: the pieces do not have `read_size`.
        """
        if image.shape[2:] != self.read_size or label.shape != (image.shape[0], *self.read_size):
            raise ValueError(f"batch is {tuple(image.shape)} with labels {tuple(label.shape)}; must have pieces of {self.read_size} voxels")
        with torch.autocast(image.device.type, enabled=False):  # a training step's would round values and displacements to three digits
            new_image, new_label = self._moved(image, label, self._draw(len(image), generator), generator)
            self._keep_foreground(image, label, new_image, new_label, generator)
            change_values(new_image, self._settings, self._plane, generator)
        return new_image, new_label

    def _draw(self, count: int, generator: torch.Generator) -> list[Move]:
        return [draw_move(self._settings, self.patch_size, self._plane, self._flips, generator, self._spacing) for _ in range(count)]

    def _moved(self, image: Tensor, label: Tensor, moves: list[Move], generator: torch.Generator) -> tuple[Tensor, Tensor]:
        return move_patches(image, label, moves, self.patch_size, self._plane, generator)

    def _keep_foreground(self, image: Tensor, label: Tensor, new_image: Tensor, new_label: Tensor, generator: torch.Generator) -> None:
        """Move patches anew, in place, whose labelled voxels were all moved out: a small structure in a scan's corner easily is.

        On a GPU they stay where they were cut at once: to find out how many there are would make the processor wait in every step.
        """
        empty = ~has_foreground(new_label)
        if label.is_cuda:
            lost = (empty & has_foreground(middle(label, self.patch_size))).view(-1, 1, 1, 1)
            new_label.copy_(torch.where(lost, middle(label, self.patch_size), new_label))
            new_image.copy_(torch.where(lost[:, None], middle(image, self.patch_size), new_image))
            return
        if not bool(empty.any()):
            return
        rows = torch.nonzero(empty & has_foreground(middle(label, self.patch_size)))[:, 0]
        for redraw in range(REDRAWS + 1):
            if not len(rows):
                return
            moves = self._draw(len(rows), generator)
            if redraw == REDRAWS:
                moves = [dataclasses.replace(move, crop=(0, 0, 0), resampled=False) for move in moves]
            new_image[rows], new_label[rows] = self._moved(image[rows], label[rows], moves, generator)
            rows = rows[~has_foreground(new_label[rows])]
