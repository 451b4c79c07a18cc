"""Overlap of two label maps: everything that follows from one table of voxel counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segpipe.errors import DataError, GeometryError

_CHUNK = 1 << 22
"""Voxels counted at a time, so that the 64-bit copy inside `bincount` stays at some 30 MB."""

_LARGEST = 65536


def confusion(prediction: Any, truth: Any, classes: int) -> NDArray[np.int64]:
    """Counts of voxels by true and predicted class.

    Args:
        prediction: array or tensor of class indices 0..classes-1, any shape, any integer type.
        truth: the same shape.
        classes: number of classes, the background 0 included.

    Returns:
        (classes, classes): row = truth, column = prediction; the sum is the number of voxels.

    Raises:
        GeometryError: when the shapes differ.
        DataError: when an index lies outside 0..classes-1.
    """
    predicted, true = _flat(prediction), _flat(truth)
    if np.shape(prediction) != np.shape(truth):
        raise GeometryError(f"prediction has {tuple(np.shape(prediction))} voxels, truth {tuple(np.shape(truth))}; must be the same shape")
    if not 1 <= classes <= _LARGEST:
        raise DataError(f"number of classes is {classes}; must be 1 to {_LARGEST}")
    counts = np.zeros(classes * classes, dtype=np.int64)
    for start in range(0, true.size, _CHUNK):
        rows, columns = true[start : start + _CHUNK], predicted[start : start + _CHUNK]
        if min(rows.min(), columns.min()) < 0 or max(rows.max(), columns.max()) >= classes:
            raise DataError(f"label maps hold indices outside 0 to {classes - 1}; must be class indices: map the values first")
        counts += np.bincount(rows.astype(np.int64) * classes + columns, minlength=classes * classes)
    return counts.reshape(classes, classes)


def dice_per_class(prediction: Any, truth: Any, classes: int) -> list[float]:
    """Dice coefficient of each class but the background, in order of the index 1..classes-1 (Dice 1945).

    NaN where both are empty (nothing to measure), 0 where only one of them is. Arguments and errors as in `confusion`.
    """
    table = confusion(prediction, truth, classes)
    return [overlap(table, index).dice for index in range(1, classes)]


def pixel_error(table: NDArray[np.int64]) -> float:
    """Share of voxels whose class differs, background included, 0..1 (Arganda-Carreras et al. 2015)."""
    return 1.0 - float(np.trace(table)) / max(float(table.sum()), 1.0)


@dataclass(frozen=True)
class Overlap:
    """Voxel counts of one class; the ratios are NaN where truth and prediction are both empty."""

    truth: int
    prediction: int
    shared: int

    @property
    def dice(self) -> float:
        """2 |A and B| / (|A| + |B|), 0..1."""
        total = self.truth + self.prediction
        return 2.0 * self.shared / total if total else float("nan")

    @property
    def iou(self) -> float:
        """|A and B| / |A or B|, 0..1 (Jaccard 1901)."""
        union = self.truth + self.prediction - self.shared
        return self.shared / union if union else float("nan")


def overlap(table: NDArray[np.int64], index: int) -> Overlap:
    """Counts of class `index` from a table of `confusion`."""
    return Overlap(int(table[index].sum()), int(table[:, index].sum()), int(table[index, index]))


def _flat(labels: Any) -> NDArray[Any]:
    """One axis, as an array on the processor; a copy only where memory order or device asks for it."""
    array = labels.detach().cpu().numpy() if hasattr(labels, "detach") else np.asarray(labels)
    if array.dtype.kind not in "biu":
        raise DataError(f"label map is {array.dtype}; must hold integers: map the values to class indices first")
    return np.asarray(array).reshape(-1)
