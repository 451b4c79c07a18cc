import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segpipe.errors import DataError
from segpipe.evaluation import values as module
from segpipe.evaluation.values import indices_of, label_map, values_in


@pytest.mark.parametrize("dtype", ["float32", "float64", "uint16", "int64", "uint8"])
def test_whole_numbers_in_any_type_are_a_label_map(dtype):
    assert values_in(label_map(np.array([[[[0, 2, 4]]]], dtype))) == (0, 2, 4)


def test_truth_values_are_a_label_map():
    assert values_in(label_map(np.array([[[[False, True]]]]))) == (0, 1)


def test_a_grey_picture_saved_as_rgb_is_one_label_map():
    grey = np.random.default_rng(0).integers(0, 2, (1, 5, 4, 1)) * 255
    np.testing.assert_array_equal(label_map(np.repeat(grey, 3, axis=0)), grey[0])


def test_a_colour_picture_is_refused():
    with pytest.raises(DataError, match="3 different channels"):
        label_map(np.arange(12).reshape(3, 2, 2, 1))


@pytest.mark.parametrize("differing", range(1, 6))
def test_a_series_that_differs_in_any_channel_is_refused(differing):
    array = np.ones((6, 2, 2, 2), np.uint8)
    array[differing] = 2
    with pytest.raises(DataError, match="6 different channels"):
        label_map(array)


@pytest.mark.parametrize(("bad", "words"), [(0.5, "fractions"), (np.nan, "nan"), (np.inf, "inf"), (1e12, "1e")])
def test_other_floats_are_refused(bad, words):
    with pytest.raises(DataError, match=words):
        label_map(np.array([[[[0.0, bad]]]]))


def test_a_scan_of_integers_is_refused():
    with pytest.raises(DataError, match="5000 different values"):
        values_in(np.arange(5000).reshape(10, 20, 25))


@given(st.lists(st.integers(-(2**31), 2**31 - 1) | st.integers(-300, 300), min_size=1, max_size=40))
def test_values_and_places_equal_numpy(values):
    labels = np.array(values).reshape(1, 1, -1)
    found = values_in(labels)
    assert found == tuple(np.unique(labels).tolist())
    order = list(reversed(found))
    np.testing.assert_array_equal(np.array(order)[indices_of(labels, order)], labels)


def test_places_do_not_depend_on_pieces(monkeypatch):
    labels = np.random.default_rng(0).integers(0, 5, (4, 5, 6))
    whole = indices_of(labels, [3, 0, 1, 2, 4])
    monkeypatch.setattr(module, "_CHUNK", 7)
    np.testing.assert_array_equal(indices_of(np.asfortranarray(labels), [3, 0, 1, 2, 4]), whole)
    assert whole.dtype == np.uint8
