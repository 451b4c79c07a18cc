"""Along one axis, each voxel of the scan is decided once, by the block that holds what it lies between."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from segpipe.prepare.way_back import Way

CPU = torch.device("cpu")


@settings(max_examples=200, deadline=None)
@given(
    here=st.integers(1, 14),
    there=st.integers(1, 30),
    nearest=st.booleans(),
    backward=st.booleans(),
    cuts=st.sets(st.integers(1, 13), max_size=13),
    most=st.integers(1, 9),
)
def test_blocks_decide_each_voxel_once_in_either_direction(
    here: int, there: int, nearest: bool, backward: bool, cuts: set[int], most: int
) -> None:
    """Forward a block begins with the last voxel of the one before it; backward it ends with the first."""
    way, values = Way(here, there, nearest), torch.randn(here, generator=torch.Generator().manual_seed(0))
    found, decided = torch.zeros(there), torch.zeros(there, dtype=torch.int32)
    for start, stop in pairwise([0, *sorted(cut for cut in cuts if cut < here), here]):
        first = start - (way.blends and not backward and start > 0)
        end = stop + (way.blends and backward and stop < here)
        part = way.part(first, end, CPU)
        for place in range(0, part.voxels, most):
            source, some = part.some(place, most)
            block = values[first:end][source]
            found[some.out] = block if some.matrix is None else some.matrix @ block
            decided[some.out] += 1
    assert bool((decided == 1).all())
    places = np.clip((np.arange(there) + 0.5) * here / there - 0.5, 0, here - 1)
    nearby = np.minimum(np.floor(places + 0.5).astype(int), here - 1)
    expected = values.numpy()[nearby] if nearest else np.interp(places, np.arange(here), values.numpy())
    assert np.allclose(found.numpy(), expected, atol=1e-5)


def test_a_voxel_by_itself_decides_nothing_unless_it_is_the_whole_axis() -> None:
    assert Way(4, 9, nearest=False).part(3, 4, CPU).empty and Way(4, 9, nearest=False).part(0, 1, CPU).empty
    assert Way(4, 9, nearest=False).part(2, 4, CPU).voxels == 3
    assert Way(1, 9, nearest=False).part(0, 1, CPU).voxels == 9
    assert Way(4, 4, nearest=False).part(3, 4, CPU).voxels == 1  # nothing is blended
