"""Resampling equals SciPy's at the stated positions, and world positions of a linear field survive."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates

from segpipe.geometry.resample import nearest_voxels, resample, resample_axis, resampled_shape

sizes = st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 9))


def positions(n_in, n_out):
    return (np.arange(n_out) + 0.5) * n_in / n_out - 0.5


def scipy_reference(array, shape, order):
    where = np.meshgrid(*[positions(n, m) for n, m in zip(array.shape[1:], shape, strict=True)], indexing="ij")
    return np.stack([map_coordinates(channel, where, order=order, mode="nearest") for channel in array])


@settings(max_examples=60, deadline=None)
@given(source=sizes, target=sizes, seed=st.integers(0, 99))
def test_linear_equals_scipy_at_the_stated_positions(source, target, seed):
    array = np.random.default_rng(seed).normal(size=(2, *source))
    ours = resample(torch.from_numpy(array), target)
    assert ours.shape == (2, *target)
    assert np.allclose(ours.numpy(), scipy_reference(array, target, order=1), atol=1e-9)


def test_linear_in_float32_is_right_to_a_ten_thousandth_of_a_voxel():
    ramp = torch.arange(1000, dtype=torch.float32).view(1, 1000, 1, 1)
    got = resample(ramp, (773, 1, 1)).flatten().numpy()
    assert np.abs(got - positions(1000, 773).clip(0, 999)).max() < 1e-4


@settings(max_examples=60, deadline=None)
@given(shape=sizes, axis=st.integers(1, 3), where=st.lists(st.floats(-3, 12), min_size=1, max_size=12))
def test_one_axis_equals_scipy_at_any_positions(shape, axis, where):
    array = np.random.default_rng(0).normal(size=(1, *shape))
    ours = resample_axis(torch.from_numpy(array), axis, torch.tensor(where, dtype=torch.float64)).numpy()
    full = [np.arange(n, dtype=float) for n in shape]
    full[axis - 1] = np.array(where)
    expected = map_coordinates(array[0], np.meshgrid(*full, indexing="ij"), order=1, mode="nearest")
    assert np.allclose(ours[0], expected, atol=1e-9)


def test_three_passes_along_axes_equal_one_linear_resampling():
    t = torch.randn(2, 7, 9, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    target = (10, 4, 8)
    one = resample(t, target)
    for axis, (n, m) in enumerate(zip(t.shape[1:], target, strict=True), start=1):
        t = resample_axis(t, axis, torch.from_numpy(positions(n, m)))
    assert torch.allclose(t, one, atol=1e-12)


def test_the_same_shape_is_handed_back_as_it_is():
    t = torch.randn(1, 3, 4, 5)
    assert resample(t, (3, 4, 5)) is t


def test_an_axis_of_one_voxel_spreads_its_value():
    assert (resample(torch.full((1, 1, 1, 1), 3.0), (4, 5, 6)) == 3).all()


def test_the_transposed_view_of_a_numpy_array_is_resampled_like_its_copy():
    view = torch.from_numpy(np.random.default_rng(0).normal(size=(6, 5, 4, 1)).T)
    assert torch.equal(resample(view, (3, 7, 9)), resample(view.contiguous(), (3, 7, 9)))


@given(sizes, st.floats(0.1, 10), st.floats(0.1, 10))
def test_the_resampled_shape_keeps_the_extent_to_half_a_voxel(shape, old, new):
    result = resampled_shape(shape, (old,) * 3, (new,) * 3)
    for n, m in zip(shape, result, strict=True):
        assert m >= 1
        assert m == 1 or abs(m * new - n * old) <= new / 2 * (1 + 1e-9)


def test_a_half_voxel_is_rounded_up():
    assert resampled_shape((5, 3, 1), (0.5, 0.5, 0.1), (1.0, 1.0, 1.0)) == (3, 2, 1)


@settings(max_examples=60, deadline=None)
@given(source=st.integers(1, 40), target=st.integers(1, 40))
def test_the_nearest_voxel_is_the_one_whose_centre_is_nearest(source, target):
    found = nearest_voxels(source, target).tolist()
    for output, place in enumerate(positions(source, target)):
        distances = np.abs(np.arange(source) - place)
        assert distances[found[output]] <= distances.min() + 1e-9


@settings(max_examples=30, deadline=None)
@given(source=sizes, target=sizes, axis=st.integers(0, 2))
def test_along_a_thick_axis_no_value_is_blended_and_along_the_others_all_are(source, target, axis):
    array = torch.from_numpy(np.random.default_rng(0).normal(size=(2, *source)))
    nearest = tuple(number == axis for number in range(3))
    picked = array.index_select(axis + 1, nearest_voxels(source[axis], target[axis]))
    assert torch.equal(resample(array, target, nearest), resample(picked, target))
    kept = tuple(target[axis] if number == axis else source[number] for number in range(3))
    assert set(resample(array, kept, nearest).flatten().tolist()) <= set(array.flatten().tolist())
