"""Orientation: nearest axes agree with nibabel, and no voxel changes its place in the patient."""

from itertools import permutations, product

import nibabel as nib
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from segpipe.geometry.grid import Grid
from segpipe.geometry.orient import closest_axes, permute_flip, permuted_grid, undo_permute_flip

SHAPE = (4, 3, 2)
ORIENTATIONS = [(p, s) for p in permutations(range(3)) for s in product((1, -1), repeat=3)]

angles = st.floats(-180, 180)
spacings = st.lists(st.floats(0.2, 8.0), min_size=3, max_size=3)


def affine_of(permutation, signs, spacing=(0.5, 1.0, 3.0), origin=(-10.0, 20.0, 30.0)):
    affine = np.eye(4)
    affine[:3, :3] = 0
    for volume_axis, world_axis in enumerate(permutation):
        affine[world_axis, volume_axis] = signs[volume_axis] * spacing[volume_axis]
    affine[:3, 3] = origin
    return affine


def oblique(euler, spacing):
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", euler, degrees=True).as_matrix() * spacing
    affine[:3, 3] = (5, -7, 11)
    return affine


def test_there_are_48_orientations():
    assert len(ORIENTATIONS) == 48


@pytest.mark.parametrize(("permutation", "signs"), ORIENTATIONS)
def test_each_orientation_is_turned_to_ras_with_each_voxel_in_its_place(permutation, signs):
    grid = Grid(SHAPE, affine_of(permutation, signs))
    world = grid.world(np.moveaxis(np.indices(SHAPE), 0, -1))  # (I, J, K, 3)
    axes, flipped = closest_axes(grid)
    turned = permuted_grid(grid, axes, flipped)
    assert (np.diag(turned.affine)[:3] > 0).all()
    assert np.count_nonzero(turned.affine[:3, :3]) == 3
    moved = permute_flip(np.moveaxis(world, -1, 0), axes, flipped)  # (3, ...) each voxel carries its position
    assert moved.shape[1:] == turned.shape
    for index in np.ndindex(turned.shape):
        assert np.allclose(turned.world(np.array(index)), moved[(slice(None), *index)])


@settings(max_examples=200, deadline=None)
@given(euler=st.tuples(angles, angles, angles), spacing=spacings)
def test_an_oblique_grid_keeps_each_voxel_in_its_place(euler, spacing):
    grid = Grid(SHAPE, oblique(euler, spacing))
    world = np.moveaxis(grid.world(np.moveaxis(np.indices(SHAPE), 0, -1)), -1, 0)
    axes, flipped = closest_axes(grid)
    turned = permuted_grid(grid, axes, flipped)
    expected = np.moveaxis(turned.world(np.moveaxis(np.indices(turned.shape), 0, -1)), -1, 0)
    assert np.allclose(permute_flip(world, axes, flipped), expected, atol=1e-9)
    assert turned.spacing_mm == pytest.approx([grid.spacing_mm[a] for a in axes])


@settings(max_examples=200, deadline=None)
@given(euler=st.tuples(angles, angles, angles), spacing=spacings)
def test_the_closest_axes_have_the_largest_sum_of_cosines(euler, spacing):
    grid = Grid(SHAPE, oblique(euler, spacing))
    cosines = np.abs(grid.affine[:3, :3] / grid.spacing_mm)
    axes, _ = closest_axes(grid)
    best = max(sum(cosines[a, p[a]] for a in range(3)) for p in permutations(range(3)))
    assert sum(cosines[a, axes[a]] for a in range(3)) == pytest.approx(best, abs=1e-5)


@settings(max_examples=200, deadline=None)
@given(orientation=st.sampled_from(ORIENTATIONS), tilt=st.tuples(*[st.floats(-20, 20)] * 3), spacing=spacings)
def test_the_closest_axes_are_nibabels_up_to_20_degrees_of_obliquity(orientation, tilt, spacing):
    base = affine_of(*orientation, spacing=spacing)
    base[:3, :3] = Rotation.from_euler("xyz", tilt, degrees=True).as_matrix() @ base[:3, :3]
    axes, flipped = closest_axes(Grid(SHAPE, base))
    for volume_axis, (world_axis, sign) in enumerate(nib.orientations.io_orientation(base)):
        assert axes[int(world_axis)] == volume_axis
        assert flipped[int(world_axis)] == (sign < 0)


def test_header_noise_does_not_decide_at_exactly_45_degrees():
    plain = closest_axes(Grid(SHAPE, oblique((0, 0, 45), (1, 1, 2))))
    for noise in (-1e-9, 1e-9):
        assert closest_axes(Grid(SHAPE, oblique((0, 0, 45 + noise), (1, 1, 2)))) == plain


@pytest.mark.parametrize("axes", list(permutations(range(3))))
@pytest.mark.parametrize("flipped", list(product((False, True), repeat=3)))
def test_undo_is_the_inverse_for_arrays_and_tensors_alike(axes, flipped):
    array = np.random.default_rng(0).integers(0, 1000, (2, *SHAPE))
    moved = permute_flip(array, axes, flipped)
    assert np.array_equal(undo_permute_flip(moved, axes, flipped), array)
    tensor = permute_flip(torch.from_numpy(array), axes, flipped)
    assert np.array_equal(tensor.numpy(), moved)
    assert np.array_equal(undo_permute_flip(tensor, axes, flipped).numpy(), array)
    back = permuted_grid(permuted_grid(Grid(SHAPE, np.eye(4)), axes, flipped), tuple(axes.index(a) for a in range(3)), (False,) * 3)
    assert back.shape == SHAPE


def test_a_numpy_array_is_not_copied():
    array = np.zeros((1, *SHAPE))
    assert np.shares_memory(array, permute_flip(array, (2, 0, 1), (True, False, True)))
