"""The user's label values <-> class indices."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from segpipe.errors import DataError
from segpipe.plan.plan import IGNORED, Label
from segpipe.prepare.labels import ignore_empty_slices, resample_label, to_indices, to_values


def labels_of(*values: int) -> tuple[Label, ...]:
    return tuple(Label(index, value, f"label {value}") for index, value in enumerate(values))


@given(st.lists(st.integers(-3000, 70_000), min_size=2, max_size=30, unique=True), st.integers(0, 2**32 - 1))
def test_indices_lead_back_to_the_users_values(values: list[int], seed: int) -> None:
    labels = labels_of(*values)
    indices = np.random.default_rng(seed).integers(0, len(values), (3, 4, 5)).astype(np.uint8)
    mapped = to_values(indices, labels)
    assert all(mapped[at] == values[indices[at]] for at in np.ndindex(3, 4, 5))
    assert np.array_equal(to_indices(mapped, labels), indices)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64, np.uint64, np.float32, np.float64])
def test_masks_of_0_and_255_become_0_and_1_whatever_their_type(dtype: type) -> None:
    assert to_indices(np.array([[0, 255], [255, 0]], dtype=dtype), labels_of(0, 255)).tolist() == [[0, 1], [1, 0]]


@pytest.mark.parametrize(("values", "dtype"), [((0, 255), np.uint8), ((0, 1000), np.uint16), ((0, 70_000), np.uint32), ((-1, 1), np.int8)])
def test_the_smallest_type_that_holds_all_values_is_taken(values: tuple[int, ...], dtype: type) -> None:
    assert to_values(np.zeros((2, 2, 2), dtype=np.uint8), labels_of(*values)).dtype == dtype


@pytest.mark.parametrize("bad", [3.0, 0.5, float("nan"), -7.0, 300.0])
def test_a_value_of_no_label_is_refused_and_named(bad: float) -> None:
    with pytest.raises(DataError, match=rf"{bad}; known are 0 \(label 0\), 255 \(label 255\)"):
        to_indices(np.array([0.0, 255.0, bad]), labels_of(0, 255))


def test_more_classes_than_uint8_holds_are_refused() -> None:
    with pytest.raises(DataError, match="257 labels; at most 255"):
        to_indices(np.zeros(3), labels_of(*range(257)))


def test_resampling_a_label_map_invents_no_class_between_two_others() -> None:
    label = torch.zeros(4, 4, 9, dtype=torch.uint8)
    label[..., 3:6] = 2
    label[..., 6:] = 7
    result = resample_label(label, (7, 3, 20))
    assert result.shape == (7, 3, 20)
    assert result.dtype == torch.uint8
    assert set(result.unique().tolist()) == {0, 2, 7}


def test_a_flat_surface_keeps_its_place_when_a_label_map_is_resampled() -> None:
    label = torch.zeros(1, 1, 40, dtype=torch.uint8)
    label[..., 15:] = 1
    for voxels in (10, 27, 64, 200):
        share = float((resample_label(label, (1, 1, voxels)) == 1).float().mean())
        assert share == pytest.approx(25 / 40, abs=0.5 / voxels + 1e-6)


def test_a_label_map_of_the_right_shape_is_left_as_it_is() -> None:
    label = torch.randint(0, 3, (3, 4, 5), dtype=torch.uint8)
    assert resample_label(label, (3, 4, 5)) is label


def test_values_that_nobody_has_judged_become_the_ignored_index() -> None:
    found = to_indices(np.array([[0.0, 7.0], [9.0, -1.0]]), labels_of(0, 9), ignore=(7, -1))
    assert found.tolist() == [[0, IGNORED], [1, IGNORED]]
    with pytest.raises(DataError, match=r"value\(s\) 8"):
        to_indices(np.array([8]), labels_of(0, 9), ignore=(7,))


def test_slices_without_any_label_are_not_judged() -> None:
    indices = np.zeros((3, 4, 5), dtype=np.uint8)
    indices[1, 2, 3] = 2
    indices[:, :, 4] = IGNORED  # not judged is no label
    for axis, kept in ((0, 1), (1, 2), (2, 3)):
        found = ignore_empty_slices(indices, axis)
        assert np.array_equal(np.take(found, kept, axis), np.take(indices, kept, axis))
        assert (np.delete(found, kept, axis) == IGNORED).all()


def test_what_is_not_judged_stays_so_when_resampled() -> None:
    label = torch.zeros(8, 6, 4, dtype=torch.uint8)
    label[:4], label[4:, :3] = IGNORED, 1
    found = resample_label(label, (16, 12, 8))
    assert (found[:8] == IGNORED).all() and set(found[8:].unique().tolist()) == {0, 1}
