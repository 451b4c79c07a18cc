"""Patch and stages follow the published rules."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segpipe.plan.topology import SMALLEST, topology


def test_the_hippocampus_patch_and_pools_are_those_of_nnunet() -> None:
    """Isensee et al. 2021: median 36x50x35 at 1 mm gives patch 40x56x40 and three pools an axis."""
    result = topology((36, 50, 35), (1.0, 1.0, 1.0), 2**17)
    assert result.patch == (40, 56, 40)
    assert [tuple(np.prod([s[a] for s in result.strides]) for a in range(3))] == [(8, 8, 8)]


def test_an_anisotropic_axis_is_neither_pooled_nor_looked_along_until_the_others_catch_up() -> None:
    result = topology((320, 319, 20), (0.625, 0.625, 3.6), 2**21)
    assert [s[2] for s in result.strides[:3]] == [1, 1, 1]
    assert [w[2] for w in result.wide[:2]] == [False, False]
    assert result.wide[-1] == (True, True, True)
    assert np.prod([s[2] for s in result.strides]) > 1


def test_a_fixed_patch_is_kept_as_it_is() -> None:
    assert topology((100, 100, 100), (1.0, 1.0, 1.0), 10_000, (30, 34, 10)).patch == (30, 34, 10)


def test_stages_can_be_asked_for() -> None:
    assert len(topology((64, 64, 64), (1.0, 1.0, 1.0), 2**18, None, 3).strides) == 3


def test_a_two_dimensional_patch_has_one_voxel_along_the_last_axis() -> None:
    result = topology((512, 512), (1.0, 1.0), 2**16)
    assert result.patch == (256, 256, 1)


@given(
    st.tuples(*[st.integers(1, 600)] * 3),
    st.tuples(*[st.floats(0.2, 8.0)] * 3),
    st.sampled_from([2**13, 2**17, 2**21]),
)
def test_every_patch_is_divisible_by_its_strides_and_near_its_limit(
    median: tuple[int, ...], spacing: tuple[float, ...], limit: int
) -> None:
    result = topology(median, spacing, limit)
    divisor = np.prod(np.array(result.strides), axis=0)
    assert (np.array(result.patch) % divisor == 0).all()
    assert np.prod(result.patch) <= max(1.5 * limit, np.prod(divisor) * 8)
    coarsest = np.array(result.patch) // divisor
    assert (coarsest[divisor > 1] >= SMALLEST).all()


@pytest.mark.parametrize("median", [(1, 1, 1), (3, 400, 2)])
def test_tiny_scans_get_a_network_of_one_stage_or_more(median: tuple[int, int, int]) -> None:
    assert len(topology(median, (1.0, 1.0, 1.0), 2**17).strides) >= 1
