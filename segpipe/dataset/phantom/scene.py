"""The scanner of the phantoms: grids of varied orientation, and shapes painted at world positions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from segpipe.dataset.phantom.draws import Array, Draws, Points, soft
from segpipe.geometry.grid import Grid, Shape, Volume

Size = Literal["small", "demo"]

Orientation = Literal["RAS", "LPS", "LAS", "SPL", "PSR"]
_AXES = {"R": (0, 1.0), "L": (0, -1.0), "A": (1, 1.0), "P": (1, -1.0), "S": (2, 1.0), "I": (2, -1.0)}


@dataclass(frozen=True)
class Frame:
    """How a scan is taken.

    Attributes:
        voxels: number of voxels along the patient's left-right, back-front, foot-head direction.
        spacing_mm: their spacing, in the same order.
        orientation: direction in which the array's axes i, j, k run.
        tilt: (b, c, d) of the quaternion (1, b, c, d), before normalisation, that turns the scan against the patient.
        offset_mm: where the middle of the scan lies in scanner coordinates.
    """

    voxels: Shape
    spacing_mm: tuple[float, float, float]
    orientation: Orientation
    tilt: tuple[float, float, float]
    offset_mm: tuple[float, float, float]

    def grid(self) -> Grid:
        """The grid; its affine holds only numbers that a NIfTI header (float32) keeps exactly."""
        turn = _rotation(self.tilt)
        affine = np.eye(4)
        shape = [1, 1, 1]
        for axis, letter in enumerate(self.orientation):
            world, sign = _AXES[letter]
            shape[axis] = self.voxels[world]
            for row in range(3):
                affine[row, axis] = np.float32(turn[row][world] * sign * self.spacing_mm[world])
        for row in range(3):
            middle = [float(affine[row, axis]) * (shape[axis] - 1) / 2.0 for axis in range(3)]
            affine[row, 3] = np.float32(self.offset_mm[row] - (middle[0] + middle[1] + middle[2]))
        return Grid((shape[0], shape[1], shape[2]), affine)

    def points(self, grid: Grid) -> Points:
        """World positions of the grid's voxels relative to the middle of the scan, in mm."""
        i, j, k = (np.arange(n, dtype=np.float64) for n in grid.shape)
        a = grid.affine
        x, y, z = (
            (a[row, 0] * i)[:, None, None]
            + (a[row, 1] * j)[None, :, None]
            + (a[row, 2] * k)[None, None, :]
            + (a[row, 3] - self.offset_mm[row])
            for row in range(3)
        )
        return x, y, z

    def thick_axis(self) -> int:
        """The array axis along which slices are stacked (foot-head)."""
        return next(axis for axis, letter in enumerate(self.orientation) if letter in "SI")


def _rotation(tilt: tuple[float, float, float]) -> list[list[float]]:
    """Rotation matrix of the quaternion (1, b, c, d) / norm, without sine or cosine."""
    b, c, d = tilt
    n = 1.0 + b * b + c * c + d * d
    return [
        [(1.0 + b * b - c * c - d * d) / n, 2.0 * (b * c - d) / n, 2.0 * (b * d + c) / n],
        [2.0 * (b * c + d) / n, (1.0 + c * c - b * b - d * d) / n, 2.0 * (c * d - b) / n],
        [2.0 * (b * d - c) / n, 2.0 * (c * d + b) / n, (1.0 + d * d - b * b - c * c) / n],
    ]


def draw_tilt(draws: Draws, oblique: bool) -> tuple[float, float, float]:
    """No tilt, or one of up to about 12 degrees about each axis."""
    low, high = (-0.1, 0.1) if oblique else (0.0, 0.0)
    return draws.uniform(low, high), draws.uniform(low, high), draws.uniform(low, high)


def draw_offset(draws: Draws) -> tuple[float, float, float]:
    """A scanner position in -60..60 mm, on a lattice of 1/8 mm."""
    x, y, z = (draws.integer(-480, 480) / 8.0 for _ in range(3))
    return x, y, z


def ellipsoid(at: Points, centre: tuple[float, float, float], radii: tuple[Array | float, float, float]) -> Array:
    """Depth in mm below the surface of an ellipsoid (negative outside), about right near the surface where the radii are alike."""
    x, y, z = ((axis - c) / r for axis, c, r in zip(at, centre, radii, strict=True))
    return (1.0 - np.sqrt(x * x + y * y + z * z)) * ((radii[0] + radii[1] + radii[2]) / 3.0)


def paint(image: Array, depth_mm: Array, value: Array | float, width_mm: float = 1.2) -> Array:
    """Lay a shape over an image, its rim softened over `width_mm` like the partial volume of a scan."""
    share = soft(depth_mm, width_mm)
    return image + (value - image) * share


def as_volume(array: Array, dtype: type[np.generic], grid: Grid) -> Volume:
    """Round to integers, keep within the type's range, and put on a grid: (1, I, J, K)."""
    limits = np.iinfo(dtype)  # type: ignore[type-var]
    return Volume(np.clip(np.rint(array), limits.min, limits.max).astype(dtype)[None], grid)
