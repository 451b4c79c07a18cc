"""Groups of networks with different plans take a scan side by side: the same result, in the memory of a few planes."""

from __future__ import annotations

import dataclasses
import gc
import itertools
from collections.abc import Iterator
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from segpipe.geometry.grid import Grid, Volume
from segpipe.inference.air import empty_windows
from segpipe.inference.clock import Clock
from segpipe.inference.predictor import Predictor
from segpipe.inference.walk import Lockstep, Seen, Walk, choose_walk, most_planes, numbers_held
from segpipe.package.model_file import Model
from segpipe.package.precision import Compute, on_windows
from segpipe.patches.sliding_window import sliding_blocks
from segpipe.plan.plan import Channel, Label, Plan, Region
from segpipe.prepare.prepare import prepare
from segpipe.prepare.prepared import Trace
from segpipe.prepare.readout import Readout
from tests.prepare.test_mean import check_labels, plain_probabilities
from tests.prepare.test_prepare import ORIENTATIONS, PLAN, grid_of

CPU = torch.device("cpu")
CT = (Channel("CT", "ct", -1000.0, 1000.0, 0.0, 300.0),)
REGIONS = (Region("both", (1, 2), 1), Region("organ", (1,), 2), Region("tumour", (2,), 1))


def model_of(plan: Plan, number: int, outputs: int = 3) -> Model:
    """One convolution, whose zeros around each window make it differ at its border, so that blending shows."""
    torch.manual_seed(number)
    network = (nn.Conv3d if plan.dims == 3 else nn.Conv2d)(1, outputs, 3, padding=1).requires_grad_(False)
    network.weight *= 4
    return Model(plan, {}, network, f"{number:064x}", Path(f"{number}.ts"))


def plan_of(dims: int, axes: tuple, spacing: tuple | None, nearest: tuple, window: tuple, nonzero: bool) -> Plan:
    window = (*window[:2], 1) if dims == 2 else window
    return dataclasses.replace(
        PLAN, dims=dims, axes=axes, spacing_mm=spacing, nearest=nearest, patch_size=window, nonzero=nonzero, channels=CT
    )


PLANS = st.builds(
    plan_of,
    st.sampled_from([2, 3]),
    st.sampled_from(list(permutations(range(3)))),
    st.none() | st.tuples(*[st.sampled_from([0.0, 0.6, 1.0, 1.7])] * 3),
    st.tuples(st.booleans(), st.booleans(), st.booleans()),
    st.tuples(*[st.integers(2, 20)] * 3),
    st.booleans(),
)

PLAN_LISTS = st.lists(
    PLANS, min_size=2, max_size=3, unique_by=lambda plan: (plan.axes, plan.spacing_mm, plan.nearest, plan.nonzero, plan.patch_size)
)
"""Of models that do not see the same windows."""


def body(shape: tuple[int, int, int], grid: Grid, seed: int) -> Volume:
    """Noise with zeros around it, which are cropped, and air in half of it, which is skipped."""
    array = np.random.default_rng(seed).normal(0, 300, (1, *shape)).astype(np.float32)
    array[:, shape[0] // 2 :] = -1500.0
    if min(shape) > 3:
        array[:, :1], array[:, :, :, -2:] = 0.0, 0.0
    return Volume(array, grid)


def whole_mean(models: list[Model], volume: Volume, overlap: float, readout: Readout) -> np.ndarray:
    """(N, I, J, K): each model on its own over the whole volume, then the mean."""
    total = np.zeros((3, *volume.grid.shape))
    for model in models:
        prepared, empty = prepare(volume, model.plan), empty_windows(model.plan, readout)
        network = on_windows(model.network, model.plan.dims, Compute("cpu", False))
        logits = torch.empty(3, *prepared.trace.shape)
        for box, block in sliding_blocks(prepared.image, network, model.plan.patch_size, overlap, 8, empty=empty):
            logits[(slice(None), *(slice(*ends) for ends in box))] = block
        total += plain_probabilities(logits.numpy(), prepared.trace, bool(readout.paint)) / len(models)
    return total


@settings(max_examples=50, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 24), st.integers(1, 24), st.integers(1, 24)),
    orientation=st.sampled_from(ORIENTATIONS),
    plans=PLAN_LISTS,
    overlap=st.sampled_from([0.0, 0.3, 0.5]),
    regions=st.booleans(),
    skip=st.booleans(),
    offsets=st.sampled_from([(), (0.0, 0.6, -0.5)]),
    seed=st.integers(0, 2**16),
)
def test_models_with_different_plans_give_the_mean_of_whole_volumes(
    shape: tuple, orientation: tuple, plans: list, overlap: float, regions: bool, skip: bool, offsets: tuple, seed: int
) -> None:
    plans = [dataclasses.replace(plan, regions=REGIONS if regions else (), skip_empty=skip) for plan in plans]
    models = [model_of(plan, number) for number, plan in enumerate(plans)]
    volume = body(shape, grid_of(shape, *orientation, (1.0, 1.3, 0.8)), seed)
    predictor = Predictor(models, overlap=overlap, batch=8, offsets=offsets)
    readout = Readout(tuple(region.paints for region in REGIONS) if regions else (), offsets)
    expected = whole_mean(models, volume, overlap, readout)
    told: list[tuple[int, int]] = []
    found = predictor.predict(volume, probabilities=True, told=lambda *both: told.append(both))
    assert found.probabilities is not None and np.abs(found.probabilities - expected).max() < 5e-6
    values = np.array([label.value for label in PLAN.labels])
    for labels in (found.labels, predictor.predict(volume).labels):
        check_labels(np.searchsorted(values, labels), expected, readout)
    done = [windows / total for windows, total in told]
    assert done == sorted(done) and (not done or done[-1] == 1.0)


def rows_begun(shape: tuple[int, int, int], plans: list[Plan], orientation: tuple) -> tuple[int, int, Walk]:
    """Most planes of a scan that are ever begun and not ended, as counted and as foretold."""
    volume = body(shape, grid_of(shape, *orientation, (1.0, 1.3, 0.8)), 0)
    predictor = Predictor([model_of(plan, number) for number, plan in enumerate(plans)])
    ready = predictor.preparation.prepare(volume, probabilities=False)
    restoration, most = predictor.restoration(ready), 0
    for part in predictor.parts(ready, Clock(CPU)):
        restoration.put(*part)
        assert restoration._mean is not None
        most = max(most, restoration._mean.planes)
    assert ready.walk is not None
    traces = [prepared.trace for prepared in ready.prepared]
    seen = [Seen(trace, plan.patch_size, 0.5, 3) for trace, plan in zip(traces, plans, strict=True)]
    return most, most_planes(seen, ready.walk), ready.walk


@settings(max_examples=30, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 40), st.integers(1, 24), st.integers(1, 24)),
    orientation=st.sampled_from(ORIENTATIONS),
    plans=PLAN_LISTS,
)
def test_no_more_planes_are_begun_than_was_foretold(shape: tuple, orientation: tuple, plans: list) -> None:
    counted, foretold, walk = rows_begun(shape, plans, orientation)
    assert counted <= foretold <= shape[walk.along]


@pytest.mark.parametrize("orientation", [ORIENTATIONS[0], ORIENTATIONS[13], ORIENTATIONS[47]])
def test_a_2d_and_a_3d_model_keep_a_few_planes_whatever_the_length_of_the_scan(orientation: tuple) -> None:
    """The slices of the 2D model lie across z, which is any axis of the scan, in any direction."""
    solid = plan_of(3, (0, 1, 2), (1.3, 1.3, 1.3), (False,) * 3, (16, 16, 16), False)
    flat = plan_of(2, (1, 0, 2), (0.9, 0.9, 0.0), (False,) * 3, (24, 24, 1), False)
    z = orientation[0].index(2)
    most = []
    for length in (60, 120):
        shape = [20, 20, 20]
        shape[z] = length
        counted, foretold, walk = rows_begun((shape[0], shape[1], shape[2]), [solid, flat], orientation)
        assert walk.along == z and counted <= foretold
        most.append(counted)
    assert max(most) < 20


def trace_of(shape: tuple[int, int, int], flipped: bool = False, size: int = 0) -> Trace:
    """Cropped by ten voxels before and twenty behind along k, perhaps reversed, on another number of voxels."""
    box = ((0, shape[0]), (0, shape[1]), (20, shape[2] - 10) if flipped else (10, shape[2] - 20))
    return Trace(Grid(shape, np.eye(4)), (0, 1, 2), (False, False, flipped), box, (shape[0], shape[1], size or shape[2] - 30))


@pytest.mark.parametrize("backward", [False, True])
def test_the_group_that_is_behind_goes_on(backward: bool) -> None:
    steps = Lockstep([trace_of((8, 8, 90)), trace_of((8, 8, 90), True, 30)], Walk(2, backward))
    begin = 20.0 if backward else 10.0
    assert steps.fronts == [begin, begin] and steps.turn() == 0
    ends = (40, 60) if backward else (0, 20)
    steps.came(0, ((0, 8), (0, 4), ends))
    assert steps.fronts[0] == begin  # blocks beside it are to come
    steps.came(0, ((0, 8), (4, 8), ends))
    assert steps.fronts[0] == begin + 20 and steps.turn() == 1
    steps.came(1, ((0, 8), (0, 8), (0, 15) if backward else (15, 30)))  # reversed, and half as many voxels
    assert steps.fronts[1] == begin + 30 and steps.turn() == 0
    steps.ended(0)
    assert steps.turn() == 1
    steps.ended(1)
    assert steps.turn() is None


def test_without_a_walk_one_group_comes_after_the_other() -> None:
    steps = Lockstep([trace_of((8, 8, 90)), trace_of((8, 8, 90), True)], None)
    steps.came(0, ((0, 8), (0, 8), (0, 20)))
    assert steps.turn() == 0
    steps.ended(0)
    assert steps.turn() == 1


def test_the_walk_is_the_one_that_takes_least() -> None:
    grid = Grid((60, 50, 40), np.eye(4))
    whole = ((0, 60), (0, 50), (0, 40))
    across = [Trace(grid, (0, 1, 2), (False,) * 3, whole, (60, 50, 40)), Trace(grid, (2, 1, 0), (True,) * 3, whole[::-1], (40, 50, 60))]
    flat = [Seen(across[0], (60, 50, 1), 0.5, 9), Seen(across[1], (8, 8, 8), 0.5, 9)]
    assert choose_walk(flat, 9) == Walk(2, False)  # slices across k: along any other axis the whole 2D answer would wait
    assert choose_walk(flat[::-1], 9) == Walk(2, True)  # from where the first group's prepared axis begins
    for seen in (flat, [Seen(across[0], (60, 50, 1), 0.5, 9), Seen(across[1], (40, 50, 1), 0.5, 9)]):
        chosen = choose_walk(seen, 9)
        every = [numbers_held(seen, 9, Walk(axis, back)) for axis, back in itertools.product(range(3), (False, True))]
        assert numbers_held(seen, 9, chosen) <= min(every) * 1.05


@pytest.fixture
def only_new_objects() -> Iterator[None]:
    """`gc.get_objects` tells of what the test makes alone, and quickly."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("only_new_objects")
def test_what_is_in_memory_while_networks_compute_is_what_was_foretold() -> None:
    """Every float32 tensor with as many planes as there are classes, counted at each pass of a network."""
    classes, most = 11, 0
    labels = tuple(Label(index, index, f"label {index}") for index in range(classes))
    flat = plan_of(2, (0, 1, 2), (1.0, 1.3, 0.0), (False,) * 3, (32, 32, 1), False)
    solid = plan_of(3, (2, 0, 1), (1.1, 1.1, 1.1), (False,) * 3, (16, 16, 16), False)
    plans = [dataclasses.replace(plan, labels=labels) for plan in (flat, solid)]
    models = [model_of(plan, number, classes) for number, plan in enumerate(plans)]

    def counting(model: Model) -> Model:
        def network(windows: torch.Tensor) -> torch.Tensor:
            nonlocal most
            alive = [one for one in gc.get_objects() if type(one) is torch.Tensor and one.ndim in (3, 4) and one.shape[0] == classes]
            storages = {one.untyped_storage().data_ptr(): one.untyped_storage().nbytes() // 4 for one in alive}
            most = max(most, sum(storages.values()))
            return model.network(windows)

        return dataclasses.replace(model, network=network)

    held = []
    for length in (70, 110):
        shape, most = (32, 28, length), 0
        predictor = Predictor([counting(model) for model in models], batch=1)
        volume = body(shape, grid_of(shape, *ORIENTATIONS[0], (1.0, 1.3, 1.0)), 1)
        predictor.predict(volume)
        seen = [Seen(prepare(volume, plan).trace, plan.patch_size, 0.5, classes) for plan in plans]
        foretold = numbers_held(seen, classes, choose_walk(seen, classes))
        assert 0.5 * foretold < most < 1.1 * foretold < 0.7 * classes * volume.array.size  # ends of blocks that lie in two are extra
        held.append(most)
    assert held[1] < 1.2 * held[0]
