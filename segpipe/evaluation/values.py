"""Label values as the files hold them: whole numbers with gaps, stored in any type."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segpipe.errors import DataError

_CHUNK = 1 << 22
_SPAN = 1 << 16
_MOST = 256
"""A label map with more values than this is taken for a scan given by mistake."""


def label_map(array: NDArray[Any]) -> NDArray[Any]:
    """The label map (I, J, K) of integers in a volume's array (C, I, J, K).

    Floats that are whole numbers pass, and so do several channels with the same content (a grey picture saved as RGB).

    Raises:
        DataError: when channels differ, or a value is no finite whole number; the text lacks the file's name.
    """
    grey = array[0]
    if any(not np.array_equal(grey, other) for other in array[1:]):
        raise DataError(f"holds {array.shape[0]} different channels; must be one label map: give the file with label values")
    if grey.dtype.kind == "b":
        return np.asarray(grey.view(np.uint8))
    if grey.dtype.kind in "iu":
        return np.asarray(grey)
    low, high = (float(grey.min()), float(grey.max()))
    if not np.isfinite([low, high]).all() or max(-low, high) >= 2**31:
        raise DataError(f"holds values from {low:g} to {high:g}; must be whole label values: repair or leave out the file")
    whole = grey.astype(np.int32)  # (I, J, K)
    if not np.array_equal(whole, grey):
        raise DataError("holds fractions; must be whole label values: is it a scan or a probability map?")
    return np.asarray(whole)


def values_in(labels: NDArray[Any]) -> tuple[int, ...]:
    """The different values of a label map of integers, ascending.

    Raises:
        DataError: when there are so many that it cannot be a label map.
    """
    low, high = int(labels.min()), int(labels.max())
    if high - low < _SPAN:
        seen = np.zeros(high - low + 1, dtype=np.bool_)
        flat = labels.reshape(-1)
        for start in range(0, flat.size, _CHUNK):
            seen[flat[start : start + _CHUNK].astype(np.int64) - low] = True
        found = np.flatnonzero(seen) + low
    else:
        found = np.unique(labels)
    if found.size > _MOST:
        raise DataError(f"holds {found.size} different values; a label map has at most {_MOST}: is it a scan?")
    return tuple(int(value) for value in found)


def indices_of(labels: NDArray[Any], values: Sequence[int]) -> NDArray[Any]:
    """Place of each voxel's value in `values` (any order, each value of `labels` among them), in the smallest unsigned type."""
    order = np.argsort(np.asarray(values, dtype=np.int64))
    ascending = np.asarray(values, dtype=np.int64)[order]
    dtype = np.min_scalar_type(len(values) - 1)
    low, span = int(ascending[0]), int(ascending[-1] - ascending[0]) + 1
    table = np.zeros(span, dtype=dtype) if span <= _SPAN else None
    if table is not None:
        table[ascending - low] = order
    flat = labels.reshape(-1)
    result = np.empty(flat.size, dtype=dtype)
    for start in range(0, flat.size, _CHUNK):
        piece = flat[start : start + _CHUNK].astype(np.int64)
        result[start : start + _CHUNK] = table[piece - low] if table is not None else order[np.searchsorted(ascending, piece)]
    return result.reshape(labels.shape)
