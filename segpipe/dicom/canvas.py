"""A label map in the making: structures painted one after the other, what they have in common counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_LARGEST_SMALL = 255


class Canvas:
    """Zeros at first. Where two labels meet the higher value stays, whatever the order of painting.

    Attributes:
        array: (I, J, P) uint8, or uint16 for more than 255 labels.
        overlaps: pair of label values, the lower one first, to the number of voxels that both have.
        outside: voxels of structures that lie beyond the scan.
    """

    def __init__(self, shape: Sequence[int], largest: int) -> None:
        self.array: NDArray[Any] = np.zeros(tuple(shape), dtype=np.uint8 if largest <= _LARGEST_SMALL else np.uint16)
        self.overlaps: Counter[tuple[int, int]] = Counter()
        self.outside = 0

    def paint(self, where: Any, values: NDArray[Any]) -> None:
        """Args:
        where: what indexes `array`; no voxel twice.
        values: label values, 0 where nothing is painted; of the shape that `where` gives.
        """
        there = self.array[where]
        both = (there > 0) & (values > 0) & (there != values)
        if both.any():
            pairs = np.stack([np.minimum(there, values)[both], np.maximum(there, values)[both]], axis=1)  # (n, 2)
            for pair, count in zip(*np.unique(pairs, axis=0, return_counts=True), strict=True):
                self.overlaps[int(pair[0]), int(pair[1])] += int(count)
        self.array[where] = np.maximum(there, values)
