"""Where training patches are cut: at a labelled voxel for a guaranteed share, anywhere in the volume for the rest.

A patch of `size` around `centre` starts at `centre - size // 2`, along each axis; reading a larger patch around the same centre
keeps the smaller one in its middle as long as the two sizes differ by an even number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from segpipe.geometry.grid import Shape
from segpipe.imports import without
from segpipe.plan.plan import IGNORED

with without("mlflow"):  # which MONAI imports for handlers that are not used: a second
    from monai.transforms.utils import correct_crop_centers

JUDGED = -1
"""Key of the voxels that somebody has judged, where others are ignored."""
MAX_POSITIONS = 20_000
"""Voxels kept for each class: enough that no structure is left out, little enough to be stored beside each case (160 kB a class)."""


def positions(label: Tensor) -> dict[int, Tensor]:
    """Where each class lies, found once so that drawing a patch needs no search.

    Args:
        label: (I, J, K) integer class indices.

    Returns:
        For each class above 0 that is present, its ascending flat indices into `label` (int64); a class with more than
        `MAX_POSITIONS` voxels is thinned evenly. The same label gives the same positions. Where some voxels are `IGNORED`, those
        of all others stand under `JUDGED`.
    """
    flat = label.reshape(-1)
    judged = flat != IGNORED
    if not bool(judged.all()):
        found = positions(torch.where(judged, flat, flat.new_zeros(())))
        return {JUDGED: _thinned(torch.nonzero(judged).squeeze(1))} | found if bool(judged.any()) else {}
    foreground = torch.nonzero(flat).squeeze(1)
    classes, order = torch.sort(flat[foreground], stable=True)
    values, counts = torch.unique_consecutive(classes, return_counts=True)
    groups = torch.split(foreground[order], counts.tolist())
    return {int(value): _thinned(group) for value, group in zip(values.tolist(), groups, strict=True)}


def _thinned(indices: Tensor) -> Tensor:
    if len(indices) <= MAX_POSITIONS:
        return indices.clone()
    kept = torch.linspace(0, len(indices) - 1, MAX_POSITIONS, dtype=torch.float64).round().long()
    return indices[kept]


def has_foreground(label: Tensor) -> Tensor:
    """(B, *patch) class indices -> (B,), whether any voxel holds a class above 0 that is not `IGNORED`."""
    if label.is_cuda:  # not waited for
        return ((label > 0) & (label != IGNORED)).flatten(1).any(1)
    highest = label.flatten(1).amax(1)  # a hundredth of the time that looking at each voxel takes
    if bool((highest == IGNORED).any()):
        highest = (label * (label != IGNORED)).flatten(1).amax(1)
    return highest > 0


def draw_centre(shape: Sequence[int], positions: Mapping[int, Tensor], foreground: bool, size: Shape, generator: torch.Generator) -> Shape:
    """The voxel `(i, j, k)` around which the next patch is cut.

    Args:
        shape: of the volume.
        positions: flat indices by class, as the function `positions` found them.
        foreground: true: a random voxel of a random present class, each class as likely as the other; the centre is then moved
            just so far that the patch stays inside, and the voxel in it. False, or no class present: any voxel of the volume
            (that is judged, where some are not), each as likely, moved inside likewise. Drawing uniformly among the patches inside
            instead would hardly ever reach the volume's borders and corners, where every sliding window at an end lies: the
            network then finds structures there.
        size: of the patch; an axis shorter than it has its centre in the middle of the volume.
        generator: on the CPU; the only source of chance.
    """
    classes = sorted(index for index in positions if index > 0)
    if (foreground and classes) or JUDGED in positions:
        chosen = positions[classes[_draw(len(classes), generator)] if foreground and classes else JUDGED]
        centre = _unravel(int(chosen[_draw(len(chosen), generator)]), shape)
    else:
        centre = (_draw(shape[0], generator), _draw(shape[1], generator), _draw(shape[2], generator))
    inside: tuple[int, ...] = correct_crop_centers(list(centre), size, shape, allow_smaller=True)
    return inside[0], inside[1], inside[2]


def _draw(count: int, generator: torch.Generator) -> int:
    return int(torch.randint(count, (1,), generator=generator))


def _unravel(index: int, shape: Sequence[int]) -> Shape:
    rest, k = divmod(index, shape[2])
    i, j = divmod(rest, shape[1])
    return i, j, k


def cut(image: Tensor, label: Tensor, centre: Shape, size: Shape) -> tuple[Tensor, Tensor]:
    """Copy one patch out of a volume; what lies outside the volume is 0 in the image and background in the label.

    Args:
        image: (C, I, J, K).
        label: (I, J, K).
        centre: voxel of the volume, as drawn by `draw_centre`.
        size: voxels of the patch, or of the larger piece that augmentation reads.

    Returns:
        Image patch (C, *size) and label patch (*size), of the same types, never views of the volume.
    """
    inside, outside = [], []
    for n, c, s in zip(label.shape, centre, size, strict=True):
        start = c - s // 2
        first, last = min(max(start, 0), n), max(min(start + s, n), 0)
        outside.append(slice(first, max(first, last)))
        inside.append(slice(first - start, max(first, last) - start))
    image_patch = image.new_zeros((image.shape[0], *size))
    label_patch = label.new_zeros(size)
    image_patch[:, inside[0], inside[1], inside[2]] = image[:, outside[0], outside[1], outside[2]]
    label_patch[inside[0], inside[1], inside[2]] = label[outside[0], outside[1], outside[2]]
    return image_patch, label_patch
