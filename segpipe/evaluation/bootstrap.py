"""How sure a mean is: bootstrap intervals over cases."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.95


def mean_interval(values: Sequence[float], resamples: int = 1000, seed: int = 0) -> tuple[float, float] | None:
    """95 % interval of the mean by the bootstrap over cases, bias-corrected and accelerated (BCa, Efron 1987).

    Where BCa has no answer (all resampled means on one side) the plain percentiles are taken; equal values give an interval of
    no width. The resampling starts from `seed` in each call, so that figures of the same cases are resampled alike.

    Args:
        values: finite, one a case.
        resamples: number of resampled means.
        seed: seed of the resampling.

    Returns:
        (low, high), or None for fewer than two values: one case tells nothing of the spread.
    """
    data = np.asarray(values, dtype=np.float64)
    if data.size < 2:
        return None
    if np.ptp(data) == 0.0:
        return float(data[0]), float(data[0])
    return _interval(data, "BCa", resamples, seed) or _interval(data, "percentile", resamples, seed)


def _interval(data: NDArray[np.float64], method: str, resamples: int, seed: int) -> tuple[float, float] | None:
    """Interval by one method of SciPy; None where it has no answer."""
    from scipy.stats import bootstrap

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SciPy warns where BCa is undefined; the caller then takes another method
        found = bootstrap(
            (data,),
            np.mean,
            n_resamples=resamples,
            vectorized=True,
            confidence_level=LEVEL,
            method=method,
            rng=np.random.default_rng(seed),
        ).confidence_interval
    low, high = float(found.low), float(found.high)
    return (low, high) if np.isfinite([low, high]).all() else None
