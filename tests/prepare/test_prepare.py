"""Scan grid <-> network grid, both ways."""

from __future__ import annotations

import dataclasses
from itertools import pairwise, permutations, product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from segpipe.errors import DataError, GeometryError
from segpipe.geometry.grid import Grid, Volume
from segpipe.plan.plan import Channel, Label, NetworkPlan, Plan
from segpipe.prepare.labels import to_indices, to_values
from segpipe.prepare.mean import MeanOnScan
from segpipe.prepare.prepare import prepare
from segpipe.prepare.readout import CLASSES
from segpipe.prepare.restore import LabelsOnScan, restore_labels, restore_probabilities
from segpipe.prepare.way_back import blended

PLAN = Plan(
    task="test",
    dims=3,
    channels=(Channel("T2", "none"),),
    labels=(Label(0, 0, "background"), Label(1, 10, "organ"), Label(2, 255, "tumour")),
    orient=True,
    axes=(0, 1, 2),
    spacing_mm=None,
    patch_size=(8, 8, 8),
    batch_size=1,
    nonzero=False,
    flips=(True, True, True),
    network=NetworkPlan("unet", (4,), ((3, 3, 3),), ((1, 1, 1),)),
)
ORIENTATIONS = [(axes, signs) for axes in permutations(range(3)) for signs in product((1, -1), repeat=3)]


def grid_of(
    shape: tuple[int, int, int], axes: tuple[int, ...], signs: tuple[int, ...], spacing: tuple[float, ...], angle: float = 0
) -> Grid:
    """Volume axis a runs along world axis axes[a] with signs[a]; the whole is turned by `angle` about an oblique axis."""
    linear = np.zeros((3, 3))
    for a in range(3):
        linear[axes[a], a] = signs[a] * spacing[a]
    x, y, z = np.array([1.0, 2.0, 3.0]) / np.sqrt(14)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    affine = np.eye(4)
    affine[:3, :3] = (np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross) @ linear
    affine[:3, 3] = (12.5, -80.0, 33.0)
    return Grid(shape, affine)


def random_case(grid: Grid, channels: int = 1, seed: int = 0, zeros: bool = False) -> tuple[Volume, Volume]:
    rng = np.random.default_rng(seed)
    image = rng.normal(100, 20, (channels, *grid.shape)).astype(np.float32)
    if zeros:
        image[:, :2] = 0
        image[:, :, -1:] = 0
    labels = to_values(rng.integers(0, 3, (1, *grid.shape)), PLAN.labels)
    if zeros:
        labels[(image == 0).all(axis=0)[None]] = 0
    return Volume(image, grid), Volume(labels, grid)


def one_hot(label: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.one_hot(label.long(), 3).permute(3, 0, 1, 2).float()


@pytest.mark.parametrize("orient", [True, False])
@pytest.mark.parametrize("nonzero", [True, False])
def test_restoring_what_was_prepared_is_the_identity_in_all_48_orientations(orient: bool, nonzero: bool) -> None:
    for (axes, signs), plan_axes in product(ORIENTATIONS, [(0, 1, 2), (1, 2, 0)]):
        plan = dataclasses.replace(PLAN, orient=orient, axes=plan_axes, nonzero=nonzero)
        volume, label = random_case(grid_of((5, 6, 7), axes, signs, (1, 2, 3)), zeros=True)
        prepared = prepare(volume, plan, label)
        assert prepared.label is not None
        restored = restore_labels(one_hot(prepared.label), prepared.trace)
        assert np.array_equal(to_values(restored, plan.labels), label.array[0])
        probabilities = restore_probabilities(one_hot(prepared.label) * 100, prepared.trace)
        assert np.allclose(probabilities, np.moveaxis(np.eye(3)[to_indices(label.array[0], plan.labels)], -1, 0), atol=1e-6)


@settings(deadline=None, max_examples=60)
@given(
    orientation=st.sampled_from(ORIENTATIONS),
    plan_axes=st.sampled_from(list(permutations(range(3)))),
    shape=st.tuples(*[st.integers(1, 9)] * 3),
    spacing=st.tuples(*[st.floats(0.3, 6)] * 3),
    angle=st.floats(-3, 3),
    nonzero=st.booleans(),
)
def test_restoring_is_the_identity_on_oblique_grids_and_pictures_too(
    orientation: tuple[tuple[int, ...], tuple[int, ...]],
    plan_axes: tuple[int, int, int],
    shape: tuple[int, int, int],
    spacing: tuple[float, ...],
    angle: float,
    nonzero: bool,
) -> None:
    plan = dataclasses.replace(PLAN, axes=plan_axes, nonzero=nonzero)
    volume, label = random_case(grid_of(shape, *orientation, spacing, angle), zeros=min(shape) > 3)
    prepared = prepare(volume, plan, label)
    assert prepared.label is not None
    restored = restore_labels(one_hot(prepared.label), prepared.trace)
    assert np.array_equal(to_values(restored, plan.labels), label.array[0])


def test_the_scan_is_read_in_ras_order_whatever_its_orientation() -> None:
    """Every orientation of one and the same patient gives the same prepared volume."""
    reference = None
    for axes, signs in ORIENTATIONS:
        shape = tuple({0: 4, 1: 5, 2: 6}[axis] for axis in axes)
        grid = grid_of(shape, axes, signs, (1, 1, 1))  # type: ignore[arg-type]
        world = np.round(grid.world(np.moveaxis(np.indices(shape), 0, -1)), 6)
        low = world.reshape(-1, 3).min(axis=0)
        array = ((world - low) @ [1.0, 10.0, 100.0]).astype(np.float32)  # a value that tells the place in the patient
        image = prepare(Volume(array[None], grid), PLAN).image
        reference = image if reference is None else reference
        assert torch.allclose(image, reference)


def ball_depth_mm(grid: Grid, centre: NDArray[np.float64], radius: float) -> NDArray[np.float64]:
    """How deep each voxel centre lies inside a ball; negative outside."""
    world = grid.world(np.moveaxis(np.indices(grid.shape), 0, -1))
    depth: NDArray[np.float64] = radius - np.linalg.norm(world - centre, axis=-1)
    return depth


@pytest.mark.parametrize("spacing_mm", [(1.0, 1.0, 1.0), (2.0, 1.5, 3.0), (0.7, 2.2, 1.3)])
@pytest.mark.parametrize("orientation", [ORIENTATIONS[0], ORIENTATIONS[13], ORIENTATIONS[47]])
def test_a_ball_stays_where_it_is_in_the_patient_after_resampling_there_and_back(
    spacing_mm: tuple[float, float, float], orientation: tuple[tuple[int, ...], tuple[int, ...]]
) -> None:
    grid = grid_of((30, 34, 26), *orientation, (1.0, 1.3, 1.9), angle=0.2)
    depth = ball_depth_mm(grid, grid.world(np.array([14.2, 18.7, 11.9])), 9.0)
    label = Volume((depth > 0).astype(np.uint8)[None] * 10, grid)
    prepared = prepare(Volume(depth.astype(np.float32)[None], grid), dataclasses.replace(PLAN, spacing_mm=spacing_mm), label)
    soft = torch.cat([torch.zeros_like(prepared.image), prepared.image, torch.full_like(prepared.image, -99)])
    assert prepared.label is not None
    for logits, tolerance_mm, least_dice in ((soft, 0.1, 0.97), (one_hot(prepared.label), 0.4, 0.93)):
        found = restore_labels(logits, prepared.trace) == 1
        away = grid.world(np.argwhere(found)).mean(axis=0) - grid.world(np.argwhere(depth > 0)).mean(axis=0)
        assert np.linalg.norm(away) < tolerance_mm
        assert 2 * (found & (depth > 0)).sum() / (found.sum() + (depth > 0).sum()) > least_dice


def test_resampling_label_maps_moves_structures_in_no_direction_on_average() -> None:
    plan = dataclasses.replace(PLAN, spacing_mm=(2.0, 1.5, 3.0))
    grid = grid_of((26, 28, 20), (0, 1, 2), (1, 1, 1), (1.0, 1.3, 1.9))
    away = []
    for shift in np.random.default_rng(0).uniform(-1.5, 1.5, (40, 3)):
        depth = ball_depth_mm(grid, grid.world(np.array([12.5, 13.5, 9.5])) + shift, 8.0)
        label = Volume((depth > 0).astype(np.uint8)[None] * 10, grid)
        prepared = prepare(Volume(depth.astype(np.float32)[None], grid), plan, label)
        assert prepared.label is not None
        found = restore_labels(one_hot(prepared.label), prepared.trace) == 1
        away.append(grid.world(np.argwhere(found)).mean(axis=0) - grid.world(np.argwhere(depth > 0)).mean(axis=0))
    assert np.abs(np.mean(away, axis=0)).max() < 0.04


def test_resampled_logits_come_back_as_a_loop_over_voxels_interpolates_them() -> None:
    grid = grid_of((5, 4, 6), (0, 1, 2), (1, 1, 1), (1.0, 1.0, 1.0))
    plan = dataclasses.replace(PLAN, spacing_mm=(0.6, 1.7, 1.0))
    trace = prepare(random_case(grid)[0], plan).trace
    logits = torch.from_numpy(np.random.default_rng(1).normal(size=(3, *trace.shape)).astype(np.float32))
    expected = np.zeros((3, *grid.shape))
    for at in np.ndindex(*grid.shape):
        total = np.zeros(3)
        for corner in product((0, 1), repeat=3):
            weight, place = 1.0, []
            for axis in range(3):
                position = np.clip((at[axis] + 0.5) * trace.shape[axis] / grid.shape[axis] - 0.5, 0, trace.shape[axis] - 1)
                low = int(np.floor(position))
                weight *= position - low if corner[axis] else 1 - (position - low)
                place.append(min(low + corner[axis], trace.shape[axis] - 1))
            total += weight * logits[(slice(None), *place)].numpy()
        expected[(slice(None), *at)] = total
    softmax = np.exp(expected) / np.exp(expected).sum(axis=0)
    assert np.allclose(restore_probabilities(logits, trace), softmax, atol=1e-5)
    assert np.array_equal(restore_labels(logits, trace), expected.argmax(axis=0))


@settings(max_examples=40, deadline=None)
@given(
    spacing=st.tuples(*[st.sampled_from([0.4, 0.6, 1.0, 1.7, 3.1])] * 3),
    nearest=st.tuples(st.booleans(), st.booleans(), st.booleans()),
    cuts=st.tuples(*[st.integers(1, 30)] * 3),
)
def test_blocks_give_what_the_whole_gives(spacing: tuple, nearest: tuple, cuts: tuple) -> None:
    grid = grid_of((9, 8, 7), (2, 0, 1), (-1, 1, -1), (1.0, 1.0, 1.0))
    trace = prepare(random_case(grid)[0], dataclasses.replace(PLAN, spacing_mm=spacing, nearest=nearest)).trace
    logits = torch.randn(3, *trace.shape, generator=torch.Generator().manual_seed(0))
    labels, shares = LabelsOnScan(trace, CLASSES, 3), MeanOnScan([trace], (1.0,), CLASSES, 3, 1, keep=True)
    ends = [[0, *([cut] if cut < n else []), n] for cut, n in zip(cuts, trace.shape, strict=True)]
    for block in product(*(list(pairwise(each)) for each in ends)):
        box = [(start - (lead and start > 0), stop) for (start, stop), lead in zip(block, blended(trace), strict=True)]
        part = logits[(slice(None), *(slice(*each) for each in box))].contiguous()
        labels.put((box[0], box[1], box[2]), part)
        shares.put(0, (box[0], box[1], box[2]), part)
    assert np.array_equal(labels.array(), restore_labels(logits, trace))
    assert np.allclose(shares.probabilities(), restore_probabilities(logits, trace), atol=1e-6)


def test_logits_are_interpolated_as_torch_does_it() -> None:
    grid = grid_of((31, 40, 22), (0, 1, 2), (1, 1, 1), (1.0, 1.0, 1.0))
    trace = prepare(random_case(grid)[0], dataclasses.replace(PLAN, spacing_mm=(1.9, 0.7, 1.3))).trace
    logits = torch.randn(4, *trace.shape, generator=torch.Generator().manual_seed(0))
    expected = torch.nn.functional.interpolate(logits[None], size=grid.shape, mode="trilinear")[0].softmax(0)
    assert np.allclose(restore_probabilities(logits, trace), expected, atol=1e-5)


def test_a_spacing_that_is_equal_already_leaves_every_voxel_alone() -> None:
    volume, label = random_case(grid_of((5, 6, 7), (0, 1, 2), (1, 1, 1), (1.00005, 0.9, 2.0)))
    prepared = prepare(volume, dataclasses.replace(PLAN, spacing_mm=(1.0, 0.9, 2.0)), label)
    assert torch.equal(prepared.image, torch.from_numpy(volume.array))
    assert prepared.trace.shape == (5, 6, 7)


def test_spacing_0_keeps_the_slices_of_a_2d_plan_where_they_are() -> None:
    volume, _ = random_case(grid_of((5, 6, 7), (0, 1, 2), (1, 1, 1), (1.0, 1.0, 4.0)))
    assert prepare(volume, dataclasses.replace(PLAN, spacing_mm=(0.5, 0.5, 0.0))).image.shape == (1, 10, 12, 7)


def test_outside_the_crop_all_is_background() -> None:
    grid = grid_of((6, 6, 6), (0, 1, 2), (1, 1, 1), (1.0, 1.0, 1.0))
    image = np.zeros((2, 6, 6, 6), dtype=np.int16)
    image[0, 2:4, 1:5, 3] = 5
    image[1, 1, 2, 2] = 7
    plan = dataclasses.replace(PLAN, nonzero=True, channels=(Channel("a", "none"), Channel("b", "none")))
    prepared = prepare(Volume(image, grid), plan)
    assert prepared.trace.box == ((1, 4), (1, 5), (2, 4))
    logits = torch.zeros(3, 3, 4, 2)
    logits[2] = 9
    restored = restore_labels(logits, prepared.trace)
    assert (restored[1:4, 1:5, 2:4] == 2).all()
    assert (restored == 2).sum() == 3 * 4 * 2
    probabilities = restore_probabilities(logits, prepared.trace)
    assert np.allclose(probabilities.sum(axis=0), 1)
    assert probabilities[0, 0, 0, 0] == 1


def test_an_empty_scan_is_kept_whole() -> None:
    grid = grid_of((4, 5, 6), (0, 1, 2), (1, 1, 1), (1.0, 1.0, 1.0))
    prepared = prepare(Volume(np.zeros((1, 4, 5, 6), dtype=np.int16), grid), dataclasses.replace(PLAN, nonzero=True))
    assert prepared.image.shape == (1, 4, 5, 6)


def test_the_scan_itself_is_never_written_to() -> None:
    volume, label = random_case(grid_of((5, 6, 7), (0, 1, 2), (1, 1, 1), (1.0, 1.0, 1.0)))
    volume.array.setflags(write=False)
    label.array.setflags(write=False)
    kept = volume.array.copy()
    prepared = prepare(volume, dataclasses.replace(PLAN, channels=(Channel("CT", "ct", 0, 1, 0, 1),)), label)
    prepared.image.zero_()
    assert np.array_equal(volume.array, kept)


def test_a_wrong_number_of_channels_names_those_that_the_model_needs() -> None:
    volume, _ = random_case(grid_of((4, 4, 4), (0, 1, 2), (1, 1, 1), (1.0, 1.0, 1.0)), channels=3)
    plan = dataclasses.replace(PLAN, channels=(Channel("T2", "none"), Channel("ADC", "none")))
    with pytest.raises(DataError, match=r"scan has 3 channel\(s\); the model needs 2 \(T2, ADC\): give one file a channel"):
        prepare(volume, plan)


def test_a_label_map_on_another_grid_is_refused_with_the_distance() -> None:
    volume, label = random_case(grid_of((4, 4, 4), (0, 1, 2), (1, 1, 1), (1.0, 1.0, 1.0)))
    affine = volume.grid.affine.copy()
    affine[0, 3] += 2
    with pytest.raises(GeometryError, match="2 mm away at a corner"):
        prepare(volume, PLAN, Volume(label.array, Grid((4, 4, 4), affine)))
    with pytest.raises(GeometryError, match=r"\(4, 4, 3\) for \(4, 4, 4\) voxels"):
        prepare(volume, PLAN, Volume(label.array[..., :3], Grid((4, 4, 3), affine)))


def test_an_absurd_spacing_is_refused_before_memory_is_taken() -> None:
    volume, _ = random_case(grid_of((30, 30, 30), (0, 1, 2), (1, 1, 1), (1000.0, 1000.0, 1000.0)))
    with pytest.raises(DataError, match="correct the spacing in the header"):
        prepare(volume, dataclasses.replace(PLAN, spacing_mm=(1.0, 1.0, 1.0)))


def test_logits_of_another_shape_than_prepared_are_refused() -> None:
    volume, _ = random_case(grid_of((4, 4, 4), (0, 1, 2), (1, 1, 1), (1.0, 1.0, 1.0)))
    with pytest.raises(GeometryError, match="must be"):
        restore_labels(torch.zeros(3, 4, 4, 5), prepare(volume, PLAN).trace)


def test_thick_slices_go_there_and_back_whole() -> None:
    grid = grid_of((12, 10, 9), (0, 1, 2), (1, -1, 1), (1.0, 1.0, 4.0))
    volume, label = random_case(grid)
    plan = dataclasses.replace(PLAN, spacing_mm=(1.0, 1.0, 5.0), nearest=(False, False, True))
    prepared = prepare(volume, plan, label)
    assert prepared.image.shape == (1, 12, 10, 7) and prepared.trace.nearest == plan.nearest
    slices = {tuple(np.flip(volume.array[0], 1)[:, :, k].ravel()) for k in range(9)}
    assert all(tuple(prepared.image[0, :, :, k].flatten().tolist()) in slices for k in range(7)), "each is one of the scan's"
    assert prepared.label is not None
    logits = torch.nn.functional.one_hot(prepared.label.long(), 3).movedim(-1, 0).float()
    restored = restore_labels(logits, prepared.trace)
    for k in range(9):
        nearest = int(np.floor((k + 0.5) * 7 / 9))
        assert (np.flip(restored[:, :, k], 1) == prepared.label[:, :, nearest].numpy()).all()
