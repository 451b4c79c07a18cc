"""Label maps: the user's values <-> class indices 0..n, which the network counts in."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from segpipe.errors import DataError
from segpipe.geometry.grid import Shape
from segpipe.geometry.resample import BLENDED, Flags, resample
from segpipe.plan.plan import IGNORED, Label

_MOST_CLASSES = 255
"""Class indices of training labels are uint8, and one of them means that nobody has judged the voxel."""
_INTEGERS = (np.uint8, np.int8, np.uint16, np.int16, np.uint32, np.int32)
_CHUNK = 2**22
"""Voxels that are mapped at a time: bounds the int64 intermediates."""


def to_indices(values: NDArray[Any], labels: tuple[Label, ...], ignore: tuple[int, ...] = ()) -> NDArray[np.uint8]:
    """Class indices of the user's label values; floats that are whole numbers are taken.

    Args:
        values: any shape, any real dtype.
        labels: at most 255 classes.
        ignore: values whose voxels nobody has judged: they become `IGNORED`.

    Raises:
        DataError: a value that is no whole number or belongs to no label, or too many labels.
    """
    if len(labels) > _MOST_CLASSES:
        raise DataError(f"there are {len(labels)} labels; at most {_MOST_CLASSES} can be trained")
    known = np.array([*(label.value for label in labels), *ignore], dtype=np.int64)
    order = np.argsort(known)
    index = np.array([*range(len(labels)), *(IGNORED for _ in ignore)], dtype=np.uint8)[order]
    flat = values.reshape(-1)
    indices = np.empty(flat.shape, dtype=np.uint8)
    for start in range(0, flat.size, _CHUNK):
        chunk = flat[start : start + _CHUNK]
        ranks = np.searchsorted(known[order], chunk).clip(max=len(known) - 1)
        strange = chunk[known[order][ranks] != chunk]
        if strange.size:
            raise DataError(_unknown(strange, labels))
        indices[start : start + _CHUNK] = index[ranks]
    return indices.reshape(values.shape)


def _unknown(values: NDArray[Any], labels: tuple[Label, ...]) -> str:
    shown = ", ".join(str(value) for value in np.unique(values)[:5])
    allowed = ", ".join(f"{label.value} ({label.name})" for label in labels)
    return f"label map holds the value(s) {shown}; known are {allowed}: correct the label map, or plan again with this value"


def to_values(indices: NDArray[Any], labels: tuple[Label, ...]) -> NDArray[Any]:
    """The user's label values of class indices, in the smallest integer type that holds every value of `labels`.

    Args:
        indices: any shape, integers below `len(labels)`.
    """
    values = [label.value for label in labels]
    fitting = (kind for kind in _INTEGERS if np.iinfo(kind).min <= min(values) and max(values) <= np.iinfo(kind).max)
    result: NDArray[Any] = np.array(values, dtype=next(fitting, np.int64))[indices]
    return result


def ignore_empty_slices(indices: NDArray[np.uint8], axis: int) -> NDArray[np.uint8]:
    """Slices across `axis` in which no voxel has a class above the background become `IGNORED` as a whole."""
    others = tuple(other for other in range(indices.ndim) if other != axis)
    judged = ((indices > 0) & (indices != IGNORED)).any(axis=others, keepdims=True)
    return np.where(judged, indices, np.uint8(IGNORED))


def resample_label(label: torch.Tensor, shape: Shape, nearest: Flags = BLENDED) -> torch.Tensor:
    """Resample class indices without inventing a class: each class's mask linearly, then the class with the largest share.

    Nearest neighbour would move surfaces by up to half a voxel and leave steps in them; this keeps a surface at the place at
    which a linear interpolation has it. Where two classes are equal, the lower index wins.

    Args:
        label: (I, J, K) uint8.
        nearest: axes along which the nearest voxel is taken all the same.

    Returns:
        `shape` uint8.
    """
    if tuple(label.shape) == tuple(shape):
        return label
    whole = tuple(there if take else here for here, there, take in zip(label.shape, shape, nearest, strict=True))
    label = resample(label[None], (whole[0], whole[1], whole[2]), nearest)[0]
    classes = [int(value) for value in torch.unique(label)]
    result = torch.full(shape, classes[0], dtype=torch.uint8)
    best = torch.full(shape, 0.0)
    for value in classes:
        share = resample((label == value).float()[None], shape)[0]
        wins = share > best
        result[wins] = value
        best = torch.where(wins, share, best)
    return result
