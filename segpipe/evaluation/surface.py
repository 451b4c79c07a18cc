"""Distances between the surfaces of two masks, in millimetres.

A surface voxel belongs to the mask and has a face neighbour that does not (outside the image counts as "does not"); an axis of
one voxel has no neighbours, so that a 2D picture has an outline and not a filled surface. Distances are Euclidean, between voxel
centres, on the grid's own axes: anisotropic, oblique and sheared grids are exact.

A k-d tree over the few surface voxels takes the place of a distance transform over all voxels of the bounding box: the same
distances to 1e-13 mm in a tenth (a large smooth organ) to all (a small rough one) of its time, also on sheared grids, and without
memory that grows with the box (`benchmarks/evaluation.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

Mask = NDArray[np.bool_]

TIE_MM = 1e-4
"""A distance equal to the tolerance counts as within it; this much more is allowed for spacings that the header holds as float32."""


@dataclass(frozen=True, eq=False)
class SurfaceDistances:
    """Distance of each surface voxel to the nearest one of the other surface, in no particular order; both are non-empty.

    Attributes:
        to_truth: (n,) mm, from the prediction's surface to the truth's.
        to_prediction: (m,) mm, from the truth's surface to the prediction's.
    """

    to_truth: NDArray[np.float64]
    to_prediction: NDArray[np.float64]

    def hausdorff_mm(self, percentile: float = 95.0) -> float:
        """The larger of the two directed percentiles (linear between ranks); 100 gives the Hausdorff distance itself."""
        return float(max(np.percentile(self.to_truth, percentile), np.percentile(self.to_prediction, percentile)))

    def average_mm(self) -> float:
        """Average symmetric surface distance: the mean over the voxels of both surfaces together (Heimann et al. 2009)."""
        total = self.to_truth.sum() + self.to_prediction.sum()
        return float(total / (self.to_truth.size + self.to_prediction.size))

    def dice(self, tolerance_mm: float) -> float:
        """Share of both surfaces that lies within `tolerance_mm` of the other, 0..1 (normalised surface Dice, Nikolov et al. 2018)."""
        limit = tolerance_mm + TIE_MM
        near = np.count_nonzero(self.to_truth <= limit) + np.count_nonzero(self.to_prediction <= limit)
        return float(near / (self.to_truth.size + self.to_prediction.size))


def surface(mask: Mask, axes: tuple[int, ...] = (0, 1, 2)) -> Mask:
    """The surface voxels of a mask (I, J, K), looking for neighbours along `axes` only."""
    inside = mask.copy()
    for axis in axes:
        rows = np.moveaxis(mask, axis, 0)
        kept = np.moveaxis(inside, axis, 0)
        kept[1:] &= rows[:-1]
        kept[:-1] &= rows[1:]
        kept[0] = kept[-1] = False
    return mask & ~inside


def surface_distances(prediction: Mask, truth: Mask, matrix: NDArray[np.float64], axes: tuple[int, ...] = (0, 1, 2)) -> SurfaceDistances:
    """Distances between the surfaces of two masks on one grid; both may be cropped to the box that holds them.

    Args:
        prediction: (I, J, K) mask with at least one voxel.
        truth: the same shape, at least one voxel.
        matrix: (3, 3) of the grid's affine: its columns are one voxel's step along i, j, k in mm.
        axes: axes along which the whole grid has more than one voxel.
    """
    predicted, true = surface(prediction, axes), surface(truth, axes)
    shared = int(np.count_nonzero(predicted & true))
    return SurfaceDistances(_nearest(predicted, true, matrix, shared), _nearest(true, predicted, matrix, shared))


def _nearest(source: Mask, target: Mask, matrix: NDArray[np.float64], shared: int) -> NDArray[np.float64]:
    """Distances from `source` voxels to `target` voxels; the `shared` ones are zero without a search."""
    distances = np.zeros(int(np.count_nonzero(source)), dtype=np.float64)
    if distances.size > shared:
        tree = KDTree(np.argwhere(target) @ matrix.T)
        distances[shared:] = tree.query(np.argwhere(source & ~target) @ matrix.T)[0]
    return distances
