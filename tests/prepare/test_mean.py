"""What several groups of networks say of a scan meets plane by plane, and is what the whole volumes' mean is."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from itertools import pairwise, permutations, product
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from segpipe.errors import GeometryError
from segpipe.geometry.grid import Box, Grid
from segpipe.prepare import mean as module
from segpipe.prepare.mean import MeanOnScan
from segpipe.prepare.prepare import prepare
from segpipe.prepare.prepared import Trace
from segpipe.prepare.readout import CLASSES, Readout
from segpipe.prepare.way_back import blended
from tests.prepare.test_prepare import ORIENTATIONS, PLAN, grid_of, random_case

TIE = 1e-6


def plain_probabilities(logits: NDArray[Any], trace: Trace, paint: bool) -> NDArray[np.float64]:
    """(N, I, J, K) on the scan's grid of a whole volume of logits, in float64: axis by axis, put into the crop, turned back."""
    values = logits.astype(np.float64)
    for axis in range(3):
        here, there = trace.shape[axis], trace.box[axis][1] - trace.box[axis][0]
        places = np.clip((np.arange(there) + 0.5) * here / there - 0.5, 0, here - 1)
        if trace.nearest[axis]:
            values = values.take(np.minimum(np.floor(places + 0.5).astype(int), here - 1), 1 + axis)
            continue
        low = np.floor(places).astype(int)
        weight = (places - low).reshape([-1 if other == axis else 1 for other in range(3)])
        values = values.take(low, 1 + axis) * (1 - weight) + values.take(np.minimum(low + 1, here - 1), 1 + axis) * weight
    inside = 1 / (1 + np.exp(-values)) if paint else np.exp(values) / np.exp(values).sum(axis=0)
    whole = np.zeros((len(logits), *(trace.scan_grid.shape[axis] for axis in trace.axes)))
    whole[0] = 0.0 if paint else 1.0
    whole[(slice(None), *(slice(*ends) for ends in trace.box))] = inside
    whole = np.flip(whole, [1 + axis for axis in range(3) if trace.flipped[axis]])
    return np.moveaxis(whole, [1, 2, 3], [1 + axis for axis in trace.axes])


def check_labels(found: NDArray[Any], mean: NDArray[np.float64], readout: Readout) -> None:
    """They are those of the mean of probabilities (N, I, J, K), but where two of them are as good to 1e-6."""
    offsets = np.array(readout.offsets or [0.0] * len(mean)).reshape(-1, 1, 1, 1)
    if readout.paint:
        sure = np.clip(mean, 1e-20, 1 - 1e-7)
        scores = np.log(sure / (1 - sure)) + offsets
        expected = np.zeros(mean.shape[1:], dtype=int)
        for region, paints in zip(scores, readout.paint, strict=True):
            expected[region > 0] = paints
        doubtful = (np.abs(scores) < 4 * TIE).any(axis=0)
    else:
        weighted = np.clip(mean, 1e-20, None) * np.exp(offsets)
        expected = weighted.argmax(axis=0)
        doubtful = weighted.max(axis=0) - np.take_along_axis(weighted, found[None].astype(int), 0)[0] < TIE
    assert ((found == expected) | doubtful).all()


def blocks_of(trace: Trace, cuts: Sequence[int]) -> list[Box]:
    """Of the whole prepared grid, cut once along each axis; two beside each other have a voxel in common where it blends."""
    ends = [[0, *([cut] if cut < n else []), n] for cut, n in zip(cuts, trace.shape, strict=True)]
    boxes = []
    for block in product(*(list(pairwise(each)) for each in ends)):
        i, j, k = ((start - (lead and start > 0), stop) for (start, stop), lead in zip(block, blended(trace), strict=True))
        boxes.append((i, j, k))
    return boxes


def part_of(logits: Tensor, box: Box) -> Tensor:
    return logits[(slice(None), *(slice(*ends) for ends in box))].contiguous()


PLANS = st.builds(
    lambda axes, spacing, nearest, nonzero: dataclasses.replace(PLAN, axes=axes, spacing_mm=spacing, nearest=nearest, nonzero=nonzero),
    st.sampled_from(list(permutations(range(3)))),
    st.none() | st.tuples(*[st.sampled_from([0.0, 0.4, 0.6, 1.0, 1.7, 3.1])] * 3),
    st.tuples(st.booleans(), st.booleans(), st.booleans()),
    st.booleans(),
)


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(*[st.integers(1, 12)] * 3),
    orientation=st.sampled_from(ORIENTATIONS),
    plans=st.lists(PLANS, min_size=1, max_size=3),
    readout=st.sampled_from([CLASSES, Readout(offsets=(0.0, 0.7, -0.4)), Readout((2, 1, 3)), Readout((2, 1, 3), (0.3, -0.2, 0.0))]),
    along=st.integers(0, 2),
    cuts=st.tuples(*[st.integers(1, 20)] * 3),
    at_once=st.sampled_from([1, 200, 2**20]),
    seed=st.integers(0, 2**16),
)
def test_blocks_of_several_groups_in_any_order_give_the_mean_of_whole_volumes(
    shape: tuple, orientation: tuple, plans: list, readout: Readout, along: int, cuts: tuple, at_once: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    volume, _ = random_case(grid_of(shape, *orientation, (1.0, 1.3, 0.8)), zeros=min(shape) > 3)
    traces = [prepare(volume, plan).trace for plan in plans]
    shares = rng.dirichlet([2.0] * len(plans)).tolist()
    logits = [torch.from_numpy(rng.normal(0, 2, (3, *trace.shape)).astype(np.float32)) for trace in traces]
    blocks = [(group, box) for group, trace in enumerate(traces) for box in blocks_of(trace, cuts)]
    expected = np.zeros((3, *shape))
    for share, each, trace in zip(shares, logits, traces, strict=True):
        expected += share * plain_probabilities(each.numpy(), trace, bool(readout.paint))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "AT_ONCE", at_once)
        for keep in (False, True):
            mean = MeanOnScan(traces, shares, readout, 3, along, keep)
            for number in rng.permutation(len(blocks)):
                group, box = blocks[number]
                mean.put(group, box, part_of(logits[group], box))
            assert mean.planes == 0
            check_labels(mean.labels(), expected, readout)
            assert mean.labels().dtype == np.uint8 and mean.labels().shape == shape
            if keep:
                assert np.abs(mean.probabilities() - expected).max() < 2e-6
    assert all(torch.isfinite(each).all() for each in logits)


def test_planes_are_kept_until_every_group_has_decided_them_and_no_longer() -> None:
    grid = grid_of((6, 5, 12), (0, 1, 2), (1, 1, -1), (1.0, 1.0, 1.0))
    volume, _ = random_case(grid)
    plans = [PLAN, dataclasses.replace(PLAN, spacing_mm=(1.0, 1.0, 2.0), axes=(1, 0, 2))]
    fine, coarse = (prepare(volume, plan).trace for plan in plans)
    assert fine.flipped[2] and coarse.shape == (5, 6, 6)
    mean = MeanOnScan([fine, coarse], (0.5, 0.5), CLASSES, 3, 2)
    for first in range(0, 12, 4):
        mean.put(0, ((0, 6), (0, 5), (first, first + 4)), torch.zeros(3, 6, 5, 4))
    assert mean.planes == 12  # nothing of the other group yet
    mean.put(1, ((0, 5), (0, 3), (0, 4)), torch.zeros(3, 5, 3, 4))
    assert mean.planes == 12  # only half of the rows of some planes
    with pytest.raises(GeometryError, match="12 planes of the scan are not decided by all networks"):
        mean.labels()
    mean.put(1, ((0, 5), (3, 6), (0, 4)), torch.zeros(3, 5, 3, 4))
    assert mean.planes == 12 - 7  # the coarse grid's first four slices lie at 0.5 to 6.5 of the scan's planes, from its end
    mean.put(1, ((0, 5), (0, 6), (3, 6)), torch.zeros(3, 5, 6, 3))
    assert mean.planes == 0
    assert not mean.labels().any()


def test_outside_of_all_crops_all_is_background_and_no_block_is_waited_for() -> None:
    grid = grid_of((8, 7, 6), (0, 1, 2), (1, 1, 1), (1.0, 1.0, 1.0))
    inner: Box = ((2, 5), (1, 4), (3, 6))
    traces = [Trace(grid, (0, 1, 2), (False,) * 3, inner, (3, 3, 3)), Trace(grid, (2, 1, 0), (False,) * 3, inner[::-1], (3, 3, 3))]
    for readout, outside in ((CLASSES, 1.0), (Readout((2, 1, 3)), 0.0)):
        mean = MeanOnScan(traces, (0.5, 0.5), readout, 3, 0, keep=True)
        for group in range(2):
            mean.put(group, ((0, 3), (0, 3), (0, 3)), torch.stack([torch.zeros(3, 3, 3), torch.full((3, 3, 3), 9.0), torch.zeros(3, 3, 3)]))
        inside = np.zeros((8, 7, 6), dtype=bool)
        inside[2:5, 1:4, 3:6] = True
        assert np.array_equal(mean.labels() > 0, inside)
        assert (mean.probabilities()[:, ~inside] == np.array([[outside], [0.0], [0.0]])).all()


def test_more_than_256_classes_take_16_bits() -> None:
    trace = Trace(Grid((2, 1, 1), np.eye(4)), (0, 1, 2), (False,) * 3, ((0, 2), (0, 1), (0, 1)), (2, 1, 1))
    logits = torch.zeros(300, 2, 1, 1)
    logits[299, 1] = 5.0
    mean = MeanOnScan([trace], (1.0,), CLASSES, 300, 0)
    mean.put(0, ((0, 2), (0, 1), (0, 1)), logits)
    assert mean.labels().dtype == np.uint16 and mean.labels().ravel().tolist() == [0, 299]
