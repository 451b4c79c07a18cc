"""Where voxels lie in the patient: `Grid` (shape + affine) and `Volume` (array on a grid)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segpipe.errors import GeometryError

Shape = tuple[int, int, int]
Box = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
"""Half-open voxel ranges `((i0, i1), (j0, j1), (k0, k1))`."""

CORNER_TOLERANCE_MM = 1e-3
"""Two grids are the same when no corner voxel's centre lies farther apart than this: header noise passes, a real shift does not."""

_SMALLEST_SPACING_MM = 1e-6


@dataclass(frozen=True, eq=False)
class Grid:
    """A regular, possibly oblique or sheared, lattice of voxel centres.

    Attributes:
        shape: number of voxels along `i, j, k`, each at least 1.
        affine: (4, 4) float64; voxel centre index `(i, j, k, 1)` to world `(x, y, z, 1)` in millimetres, RAS+.

    Raises:
        GeometryError: when the shape has an empty axis, or the affine is not finite or not invertible.
    """

    shape: Shape
    affine: NDArray[np.float64]

    def __post_init__(self) -> None:
        shape = tuple(int(n) for n in self.shape)
        affine = np.array(self.affine, dtype=np.float64)
        if len(shape) != 3 or min(shape) < 1:
            raise GeometryError(f"grid shape is {self.shape}; must be three axes of at least one voxel")
        if affine.shape != (4, 4) or not np.isfinite(affine).all():
            raise GeometryError("grid affine must be a finite 4x4 matrix; the header holds NaN, Inf or another shape")
        lengths = np.linalg.norm(affine[:3, :3], axis=0)
        if (lengths < _SMALLEST_SPACING_MM).any():
            raise GeometryError(f"voxel spacing is {tuple(lengths.tolist())} mm; must be positive along each axis: repair the header")
        if abs(np.linalg.det(affine[:3, :3] / lengths)) < 1e-3:
            raise GeometryError("grid axes are parallel; the affine must span three dimensions: repair the header")
        affine.setflags(write=False)
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "affine", affine)

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance between neighbouring voxel centres along `i, j, k`."""
        i, j, k = (float(s) for s in np.linalg.norm(self.affine[:3, :3], axis=0))
        return i, j, k

    @property
    def voxel_volume_ml(self) -> float:
        """Volume of one voxel in millilitres (1 ml = 1000 mm3)."""
        return float(abs(np.linalg.det(self.affine[:3, :3]))) / 1000.0

    def world(self, index: NDArray[Any]) -> NDArray[np.float64]:
        """World positions (..., 3) in mm of voxel indices (..., 3), fractional ones too."""
        points = np.asarray(index, dtype=np.float64)
        return points @ self.affine[:3, :3].T + self.affine[:3, 3]

    def corners_mm(self) -> NDArray[np.float64]:
        """World positions (8, 3) of the centres of the eight corner voxels."""
        last = np.array(self.shape) - 1
        index = np.array([[a * last[0], b * last[1], c * last[2]] for a in (0, 1) for b in (0, 1) for c in (0, 1)])
        return self.world(index)

    def distance_mm(self, other: Grid) -> float:
        """Largest distance between corresponding corners; infinite when the shapes differ."""
        if self.shape != other.shape:
            return float("inf")
        return float(np.linalg.norm(self.corners_mm() - other.corners_mm(), axis=1).max())

    def same_as(self, other: Grid, tolerance_mm: float = CORNER_TOLERANCE_MM) -> bool:
        """Whether both grids put every voxel at the same place, to `tolerance_mm` at the corners."""
        return self.distance_mm(other) <= tolerance_mm

    def cropped(self, box: Box) -> Grid:
        """The grid of the sub-array `array[i0:i1, j0:j1, k0:k1]`."""
        start = np.array([b[0] for b in box], dtype=np.float64)
        affine = self.affine.copy()
        affine[:3, 3] = self.world(start)
        return Grid((box[0][1] - box[0][0], box[1][1] - box[1][0], box[2][1] - box[2][0]), affine)


@dataclass(frozen=True, eq=False)
class Volume:
    """An array on a grid.

    Attributes:
        array: (C, I, J, K), any real dtype; a 2D picture has K = 1, a label map has C = 1.
        grid: where the voxels lie; `grid.shape == array.shape[1:]`.

    Raises:
        GeometryError: when array and grid do not fit.
    """

    array: NDArray[Any]
    grid: Grid

    def __post_init__(self) -> None:
        if self.array.ndim != 4 or self.array.shape[1:] != self.grid.shape:
            raise GeometryError(f"array is {self.array.shape}; must be (channels, {', '.join(map(str, self.grid.shape))}) to fit its grid")

    @classmethod
    def of(cls, array: NDArray[Any], affine: NDArray[Any]) -> Volume:
        """A volume of arrays alone, as other libraries hold it.

        Args:
            array: (I, J, K), or (C, I, J, K) with several channels.
            affine: (4, 4), voxel index to world millimetres, RAS+ (nibabel's; of ITK and DICOM, which are LPS, the first two rows negated).

        Raises:
            GeometryError: another number of axes, or no usable affine.
        """
        array = np.asarray(array)
        if array.ndim not in (3, 4):
            raise GeometryError(f"array is {array.shape}; must be (I, J, K), or (C, I, J, K) with the channels first")
        array = array[None] if array.ndim == 3 else array
        return cls(array, Grid(array.shape[1:], affine))

    @property
    def channels(self) -> int:
        return int(self.array.shape[0])
