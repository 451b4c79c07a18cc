"""Where the structures of a label map lie and how many parts they have, and which of them are each other's mirror image."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from segpipe.dataset.facts import LabelFacts, Three
from segpipe.geometry.grid import Grid
from segpipe.geometry.orient import closest_axes

_SPAN = 2**16
APART, ALIKE, FACTOR = 0.1, 0.1, 2.0
"""Mirror images lie at least this share of the scan apart along x, at most this share along y and z, and differ this much in volume."""
SHARE = 0.8
"""Of the cases that show one of the two, so many show both."""


def structures(labels: NDArray[np.integer], values: Iterable[int], grid: Grid) -> tuple[dict[int, Three], dict[int, int]]:
    """Centre along x, y, z (share of the scan) and number of parts of each value but 0.

    Args:
        labels: (I, J, K).
        values: that occur in it.
    """
    from scipy import ndimage  # a tenth of a second, which a prediction need not wait for

    wanted = sorted(value for value in values if value != 0)
    if not wanted:
        return {}, {}
    ranks = _ranks(labels, wanted)
    axes, flipped = closest_axes(grid)
    centres: dict[int, Three] = {}
    components: dict[int, int] = {}
    for value, box in zip(wanted, ndimage.find_objects(ranks, len(wanted)), strict=True):
        if box is None:
            continue
        mask = ranks[box] == wanted.index(value) + 1
        inside = [float(where.mean()) + side.start for where, side in zip(np.nonzero(mask), box, strict=True)]
        shares = [(inside[axis] + 0.5) / grid.shape[axis] for axis in axes]
        x, y, z = (1.0 - share if against else share for share, against in zip(shares, flipped, strict=True))
        centres[value] = (x, y, z)
        components[value] = int(ndimage.label(mask, structure=np.ones((3, 3, 3)))[1])
    return centres, components


def _ranks(labels: NDArray[np.integer], wanted: Sequence[int]) -> NDArray[np.int32]:
    """Place of each voxel's value in `wanted`, counted from 1; 0 for all others."""
    low, high = wanted[0], wanted[-1]
    if high - low < _SPAN:
        table = np.zeros(high - low + 3, dtype=np.int32)  # one more on each side, for all values outside
        table[np.array(wanted) - low + 1] = np.arange(1, len(wanted) + 1)
        return np.asarray(table[np.clip(labels.astype(np.int64) - low + 1, 0, high - low + 2)])
    places = np.searchsorted(wanted, labels).clip(max=len(wanted) - 1)
    return np.where(np.array(wanted)[places] == labels, places + 1, 0).astype(np.int32)


def mirrored_pairs(maps: Sequence[LabelFacts], values: Sequence[int]) -> list[tuple[int, int]]:
    """Label values that lie left and right of each other in every case, level with each other and of like size: kidneys, eyes, lungs.

    Args:
        maps: of the data set.
        values: labels that are asked about.
    """
    found = []
    for number, one in enumerate(values):
        for other in values[number + 1 :]:
            both = [label for label in maps if one in label.centres and other in label.centres]
            either = sum(one in label.centres or other in label.centres for label in maps)
            if both and len(both) >= SHARE * either and _mirrored(both, one, other):
                found.append((one, other))
    return found


def _mirrored(maps: Sequence[LabelFacts], one: int, other: int) -> bool:
    gaps = np.array([label.centres[one] for label in maps]) - np.array([label.centres[other] for label in maps])  # (cases, 3)
    ratio = np.median([label.voxels[one] / label.voxels[other] for label in maps])
    beside = (gaps[:, 0] > APART).all() or (gaps[:, 0] < -APART).all()
    level = (np.abs(np.median(gaps[:, 1:], axis=0)) < ALIKE).all()
    return bool(beside and level and 1 / FACTOR <= ratio <= FACTOR)
