import numpy as np
import pytest
from scipy import stats

from segpipe.evaluation.bootstrap import mean_interval


def test_interval_equals_scipy_with_the_same_seed():
    values = np.random.default_rng(1).beta(9, 2, 30)
    expected = stats.bootstrap((values,), np.mean, n_resamples=500, method="BCa", rng=np.random.default_rng(3)).confidence_interval
    assert mean_interval(values.tolist(), 500, 3) == pytest.approx((expected.low, expected.high))


def test_same_seed_same_interval_and_another_seed_another():
    values = [0.7, 0.9, 0.85, 0.6, 0.95]
    assert mean_interval(values, seed=5) == mean_interval(values, seed=5)
    assert mean_interval(values, seed=5) != mean_interval(values, seed=6)


def test_interval_of_many_normal_values_is_near_the_textbook_one():
    values = np.random.default_rng(0).normal(10.0, 2.0, 400)
    low, high = mean_interval(values.tolist(), 4000) or (0.0, 0.0)
    half = 1.96 * values.std(ddof=1) / 20
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.03)


def test_one_case_has_no_interval():
    assert mean_interval([0.8]) is None
    assert mean_interval([]) is None


def test_equal_cases_have_an_interval_of_no_width():
    assert mean_interval([1.0, 1.0, 1.0]) == (1.0, 1.0)


@pytest.mark.parametrize("values", [[0.1, 0.9], [0.0, 0.0, 1.0], [1e-300, 0.0], [0.9, 0.9 + 1e-12, 0.9]])
def test_few_or_nearly_equal_cases_have_an_ordered_finite_interval(values):
    low, high = mean_interval(values) or (np.nan, np.nan)
    assert min(values) <= low <= high <= max(values)
