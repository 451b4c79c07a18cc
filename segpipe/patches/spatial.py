"""Random changes of place: rotation, shear, zoom, shift, elastic deformation, crop and mirroring, in one resampling.

All that is drawn for a patch becomes one map from the voxels of the patch to the voxels of the larger piece it is read from, so
that values are interpolated once, linearly; labels take the class with the largest linear weight, so that no class is ever invented.
What the map finds outside the piece is 0 in the image and background in the label, as everywhere else where a window reaches
beyond a volume: the network meets the same edge in training and in use.

Rotation and shear act in millimetres: on voxels that are no cubes, a structure is turned and keeps its shape.

Strongly anisotropic 3D patches are changed in the plane of their two finer or longer axes only, and moved by whole slices across it
(after Isensee et al. 2021, supplementary note 4): turning thick slices into one another would mix what lies far apart.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from segpipe.geometry.grid import Shape
from segpipe.patches.chance import happens, strength, strengths
from segpipe.patches.label_vote import vote_labels
from segpipe.patches.upload import chosen, upload
from segpipe.settings import AugmentSettings, Effect

ANISOTROPY = 3.0
"""A patch is treated slice by slice where one axis is coarser than this many times the others, or the longest longer than the shortest."""

CONTROL_SPACING = 8
"""Voxels between the control points of the elastic deformation."""

CPU = torch.device("cpu")

Spacing = tuple[float, float, float]
"""Width of a voxel along each axis, in any unit."""

Matrix = np.ndarray[tuple[int, ...], np.dtype[np.float64]]

CUBES: Spacing = (1.0, 1.0, 1.0)


def known_spacing(spacing_mm: Spacing | None, dims: int) -> Spacing:
    """A plan's spacing as augmentation needs it: cubes where the plan leaves an axis of the network at the scan's own."""
    if spacing_mm is None or min(spacing_mm[:dims]) <= 0:
        return CUBES
    return spacing_mm if dims == 3 else (spacing_mm[0], spacing_mm[1], 1.0)  # slices are never mixed: any width does


def plane_axes(patch_size: Shape, dims: int, spacing: Spacing = CUBES) -> tuple[int, ...]:
    """Axes between which voxels may be mixed: all three, or two of a 2D or strongly anisotropic patch (see `ANISOTROPY`)."""
    if dims == 2:
        return 0, 1
    coarsest = max(range(3), key=lambda axis: spacing[axis])
    shortest = min(range(3), key=lambda axis: patch_size[axis])
    if all(spacing[coarsest] > ANISOTROPY * spacing[axis] for axis in range(3) if axis != coarsest):
        return tuple(axis for axis in range(3) if axis != coarsest)
    if max(patch_size) > ANISOTROPY * patch_size[shortest]:
        return tuple(axis for axis in range(3) if axis != shortest)
    return 0, 1, 2


def read_size(settings: AugmentSettings, patch_size: Shape, plane: Sequence[int], spacing: Spacing = CUBES) -> Shape:
    """Voxels to be read around a patch so that each effect alone, at its strongest, finds real tissue.

    Rotation counts about one axis at a time, and of rotation, shear and zoom the one that reaches farthest; the larger of translation
    and crop is added. Where more coincide, corners of the patch may lie outside and are filled: reading for the worst case of all
    of them would mean several times the voxels for a few corners.

    Returns:
        `patch_size` plus an even number along each axis, so that both have the same middle.
    """
    low, high = settings.scale.low, settings.scale.high
    zoom_out = 1 / min(low, high, 1.0) if _on(settings.scale) else 1.0
    angle = math.radians(_largest(settings.rotate))
    sizes = []
    for axis, size in enumerate(patch_size):
        # how wide the patch is along the other axes, in voxels of this one
        others = [patch_size[a] * (spacing[a] / spacing[axis]) for a in plane if a != axis] if axis in plane else []
        turned = [size * math.cos(a) + other * math.sin(a) for other in others for a in [min(angle, math.atan2(other, size))]]
        sheared = size + _largest(settings.shear) * sum(others)
        reach = max([size * zoom_out if others else size, sheared, *turned]) - size
        shift = size * max(_largest(settings.translate), _largest(settings.crop)) if size > 1 else 0.0
        bend = 2 * _largest(settings.elastic) if others else 0.0
        sizes.append(size + 2 * math.ceil(round(reach / 2 + shift + bend, 6)))
    return sizes[0], sizes[1], sizes[2]


def _on(effect: Effect) -> bool:
    return effect.probability > 0


def _largest(effect: Effect) -> float:
    return max(abs(effect.low), abs(effect.high)) if _on(effect) else 0.0


@dataclass(frozen=True, eq=False)
class Move:
    """What was drawn for one patch, in voxels of the patch, counted from its middle.

    Attributes:
        matrix: (3, 3) float64, where structures go: turned, sheared, enlarged (in millimetres, written for voxels).
        shift: how far structures go along each axis.
        crop: whole voxels by which the patch is cut beside its chosen place.
        bend: standard deviation of the elastic displacement; 0 for none.
        flip: axes to be mirrored, last of all.
        resampled: whether anything but crop and flip was drawn.
    """

    matrix: Tensor
    shift: tuple[float, float, float]
    crop: Shape
    bend: float
    flip: tuple[int, ...]
    resampled: bool


def draw_move(
    settings: AugmentSettings,
    patch_size: Shape,
    plane: Sequence[int],
    flips: Sequence[bool],
    generator: torch.Generator,
    spacing: Spacing = CUBES,
) -> Move:
    """One patch's change of place; each effect with its own probability, mirroring for each allowed axis on its own."""
    pairs = [(a, b) for a, b in ((1, 2), (2, 0), (0, 1)) if a in plane and b in plane]
    matrix = np.eye(3)  # NumPy takes a third of torch's time for so few numbers
    rotated, sheared, scaled = (happens(e, generator) for e in (settings.rotate, settings.shear, settings.scale))
    if scaled:
        zoom = strength(settings.scale, generator)
        matrix = np.diag([zoom if axis in plane else 1.0 for axis in range(3)])
    if sheared:
        matrix = _shear(pairs, strengths(settings.shear, 2 * len(pairs), generator)) @ matrix
    if rotated:
        for pair, degrees in zip(pairs, strengths(settings.rotate, len(pairs), generator), strict=True):
            matrix = _rotation(pair, math.radians(degrees)) @ matrix
    matrix = matrix * (np.array(spacing)[None, :] / np.array(spacing)[:, None])  # from mm to voxels
    moved, bent, cropped = (happens(e, generator) for e in (settings.translate, settings.elastic, settings.crop))
    shift = _voxels(strengths(settings.translate, 3, generator), patch_size) if moved else [0.0, 0.0, 0.0]
    shift = [s if axis in plane else float(round(s)) for axis, s in enumerate(shift)]
    crop = [round(s) for s in _voxels(strengths(settings.crop, 3, generator), patch_size)] if cropped else [0, 0, 0]
    return Move(
        matrix=torch.from_numpy(matrix),
        shift=(shift[0], shift[1], shift[2]),
        crop=(crop[0], crop[1], crop[2]),
        bend=strength(settings.elastic, generator) if bent else 0.0,
        flip=tuple(axis for axis in range(3) if flips[axis] and patch_size[axis] > 1 and happens(settings.flip, generator)),
        resampled=rotated or sheared or scaled or moved or bent,
    )


def _voxels(shares: Sequence[float], patch_size: Shape) -> list[float]:
    return [share * size if size > 1 else 0.0 for share, size in zip(shares, patch_size, strict=True)]


def _rotation(pair: tuple[int, int], angle: float) -> Matrix:
    """Turns axis `pair[0]` towards axis `pair[1]` by `angle` radians."""
    a, b = pair
    matrix = np.eye(3)
    matrix[a, a] = matrix[b, b] = math.cos(angle)
    matrix[b, a], matrix[a, b] = math.sin(angle), -math.sin(angle)
    return matrix


def _shear(pairs: Sequence[tuple[int, int]], factors: Sequence[float]) -> Matrix:
    matrix = np.eye(3)
    for number, (a, b) in enumerate(pairs):
        matrix[a, b], matrix[b, a] = factors[2 * number], factors[2 * number + 1]
    return matrix


def move_patches(
    image: Tensor, label: Tensor, moves: Sequence[Move], patch_size: Shape, plane: Sequence[int], generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Cut the patches out of the pieces that were read around them, each moved as drawn.

    A patch without resampling is copied voxel by voxel; the others share one call of `grid_sample`.

    Args:
        image: (B, C, *read) float32.
        label: (B, *read) integer class indices.
        moves: one a patch.
        plane: axes in which the elastic deformation moves voxels.
        generator: draws the elastic deformation.

    Returns:
        New tensors (B, C, *patch_size) and (B, *patch_size) of the same types on the same device.
    """
    rows = [number for number, move in enumerate(moves) if move.resampled]
    moved: Iterator[tuple[Tensor, Tensor]] = iter(())
    if rows:
        places = _places([moves[row] for row in rows], label.shape[1:], patch_size, plane, generator, image.device)
        moved_image, moved_label = _resampled(chosen(image, rows), chosen(label, rows), places)
        if len(rows) == len(moves) and not any(move.flip for move in moves):
            return moved_image, moved_label
        moved = iter(zip(moved_image, moved_label, strict=True))
    images, labels = [], []
    for number, move in enumerate(moves):
        i, j, k = _place(label.shape[1:], patch_size, move.crop)
        one, its_label = next(moved) if move.resampled else (image[number, :, i, j, k], label[number, i, j, k])
        images.append(one.flip([axis + 1 for axis in move.flip]) if move.flip else one)
        labels.append(its_label.flip(move.flip) if move.flip else its_label)
    return torch.stack(images), torch.stack(labels)


def middle(pieces: Tensor, patch_size: Shape) -> Tensor:
    """(..., *read) -> (..., *patch_size): the patches as they were chosen, a view."""
    i, j, k = _place(pieces.shape[-3:], patch_size, (0, 0, 0))
    return pieces[..., i, j, k]


def _place(read: Sequence[int], patch_size: Shape, crop: Shape) -> list[slice]:
    """The patch within its piece, `crop` voxels beside the middle."""
    starts = [(r - p) // 2 + c for r, p, c in zip(read, patch_size, crop, strict=True)]
    return [slice(start, start + p) for start, p in zip(starts, patch_size, strict=True)]


def _places(
    moves: Sequence[Move], read: Sequence[int], patch_size: Shape, plane: Sequence[int], generator: torch.Generator, device: torch.device
) -> Tensor:
    """Where each voxel of each patch comes from: (3, R, *patch) float32, coordinates `i, j, k` in voxels of the piece."""
    rows = []  # for each axis: how far a step along i, j and k of the patch leads, and where the patch's middle is
    for move in moves:
        back = np.linalg.inv(move.matrix.numpy())  # patch voxels to read voxels
        middles = (np.array(read) - 1) / 2 + np.array(move.crop) - back @ np.array(move.shift)
        rows.append(np.concatenate([back, middles[:, None]], 1))
    table = upload(torch.from_numpy(np.stack(rows, 1)).float(), device)[..., None]  # (3, R, 4, 1)
    i, j, k = (torch.arange(size, device=device) - (size - 1) / 2 for size in patch_size)
    along_i, along_j, along_k = table[:, :, 0] * i + table[:, :, 3], table[:, :, 1] * j, table[:, :, 2] * k
    places = along_i[..., :, None, None] + along_j[..., None, :, None] + along_k[..., None, None, :]
    bent = [(axis, number) for number, move in enumerate(moves) if move.bend for axis in plane]
    for (axis, number), field in zip(bent, smooth_fields(patch_size, len(bent), generator, device), strict=True):
        places[axis, number].add_(field, alpha=moves[number].bend)
    return places


def smooth_fields(shape: Shape, count: int, generator: torch.Generator, device: torch.device = CPU) -> Tensor:
    """(count, *shape): cubic B-splines with a random value every `CONTROL_SPACING` voxels; standard deviation 1 at each voxel."""
    bases = [_spline_basis(size, device) for size in shape]
    fields = upload(torch.randn([count, *(basis.shape[1] for basis in bases)], generator=generator), device)
    for basis in bases if count else ():
        fields = torch.tensordot(fields, basis, dims=([1], [1]))  # the first axis of space goes, the fine one is appended
    return fields


@functools.lru_cache(maxsize=32)
def _spline_basis(size: int, device: torch.device) -> Tensor:
    """(size, control points): cubic B-spline weights of each voxel, scaled to unit square sum."""
    position = torch.arange(size, dtype=torch.float64) / CONTROL_SPACING + 1
    control = torch.arange(int(position[-1]) + 3, dtype=torch.float64)
    distance = (position[:, None] - control[None, :]).abs()
    near = 2 / 3 - distance**2 + distance**3 / 2
    weights = torch.where(distance < 1, near, (2 - distance).clamp_min(0) ** 3 / 6)
    return (weights / weights.square().sum(1, keepdim=True).sqrt()).float().to(device)


def _resampled(image: Tensor, label: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
    """Image (R, C, *read) and label (R, *read) at `places` (3, R, *patch)."""
    flat = label.shape[-1] == 1 and places.shape[-1] == 1
    if flat:  # two dimensions have a much faster routine of their own
        image, label, places = image[..., 0], label[..., 0], places[:2, ..., 0]
    grid = torch.empty((*places.shape[1:], len(places)), device=places.device)  # (R, *patch, axes), last axis first, -1..1 edge to edge
    for axis, size in enumerate(label.shape[1:]):
        grid[..., len(places) - 1 - axis] = places[axis] * (2 / size) + (1 / size - 1)
    new_image = functional.grid_sample(image, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    new_label = vote_labels(label, places)
    return (new_image[..., None], new_label[..., None]) if flat else (new_image, new_label)
