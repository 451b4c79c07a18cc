"""V_rand: whether the same pixels belong together in two segmentations of touching cells (Arganda-Carreras et al. 2015)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage


def v_rand(predicted: NDArray[np.bool_], true: NDArray[np.bool_]) -> float:
    """Foreground-restricted Rand F-score of the connected cells, 0 to 1; cells merged by a gap in a membrane cost most.

    Of two pixels drawn from the true cells: the share that lies together in both, over the mean of the shares that lie together in one
    (alpha 1/2 of Arganda-Carreras et al. 2015, Frontiers in Neuroanatomy 9:142). Cells are what hangs together by faces. A pixel of a
    true cell that was predicted as membrane belongs to no other. Membranes are not thinned first.

    Args:
        predicted, true: where cells are, and not the membranes between them; the same shape, any number of axes.

    Returns:
        NaN where there is no true cell.
    """
    ours, theirs = ndimage.label(predicted)[0][true], ndimage.label(true)[0][true]  # one number a pixel of the true cells
    if ours.size == 0:
        return math.nan
    lone = int(np.count_nonzero(ours == 0))
    inside = ours > 0
    pairs = np.unique(np.stack([ours[inside], theirs[inside]]), axis=1, return_counts=True)[1]
    together = _squares(pairs) + lone
    predicted_together = _squares(np.bincount(ours[inside])) + lone
    return 2.0 * together / (predicted_together + _squares(np.bincount(theirs)))


def _squares(counts: NDArray[np.int64]) -> float:
    return float(np.square(counts.astype(np.float64)).sum())
