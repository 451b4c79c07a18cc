"""Figures over cases: for each label, and for the mean over labels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from segpipe.evaluation.bootstrap import mean_interval
from segpipe.evaluation.folder import Evaluation
from segpipe.evaluation.metric import METRICS, PIXEL_ERROR
from segpipe.progress import track

MEAN = "mean"
"""Key of the mean over labels."""


@dataclass(frozen=True)
class Summary:
    """One metric over cases; everything is None where no case has a value.

    Attributes:
        mean: mean over the cases where the metric is defined.
        ci95: bootstrap interval of the mean; None for a single case.
        median, minimum, maximum: over the same cases.
        std: standard deviation between cases (n - 1); None for a single case.
        n: cases where the metric is defined.
        undefined: cases where it is not.
    """

    mean: float | None
    ci95: tuple[float, float] | None
    median: float | None
    std: float | None
    minimum: float | None
    maximum: float | None
    n: int
    undefined: int


Summaries = dict[str, dict[str, Summary]]
"""By label value as text, or `mean`; then by metric."""


def summarise(evaluation: Evaluation, resamples: int = 1000, seed: int = 0) -> Summaries:
    """Summaries of all metrics for each label and for the mean over labels.

    The mean over labels is taken within each case, over its labels where the metric is defined, and then summarised over cases
    like any other figure: each case counts once. The pixel error stands there, too.
    """
    result: Summaries = {}
    for value in track(list(evaluation.labels), f"bootstrap of {len(evaluation.labels)} labels"):
        columns = {metric.name: values_of(evaluation, value, metric.name) for metric in METRICS}
        result[str(value)] = {name: summary(column, resamples, seed) for name, column in columns.items()}
    columns = {metric.name: label_means(evaluation, metric.name) for metric in METRICS}
    columns[PIXEL_ERROR.name] = [case.pixel_error for case in evaluation.cases]
    result[MEAN] = {name: summary(column, resamples, seed) for name, column in columns.items()}
    return result


def values_of(evaluation: Evaluation, value: int, metric: str) -> list[float]:
    """A metric of one label, one figure a case, NaN where undefined."""
    return [float(getattr(case.score(value), metric)) for case in evaluation.cases]


def label_means(evaluation: Evaluation, metric: str) -> list[float]:
    """Mean of a metric over the labels of each case, NaN where it is undefined for all of them."""
    rows = [[float(getattr(case.score(value), metric)) for value in evaluation.labels] for case in evaluation.cases]
    defined = [[x for x in row if not math.isnan(x)] for row in rows]
    return [math.fsum(row) / len(row) if row else float("nan") for row in defined]


def summary(values: Sequence[float], resamples: int = 1000, seed: int = 0) -> Summary:
    """Summary of one figure a case; NaN counts as undefined."""
    data = np.array([x for x in values if not math.isnan(x)], dtype=np.float64)
    undefined = len(values) - data.size
    if data.size == 0:
        return Summary(None, None, None, None, None, None, 0, undefined)
    return Summary(
        mean=float(data.mean()),
        ci95=mean_interval(data.tolist(), resamples, seed),
        median=float(np.median(data)),
        std=float(data.std(ddof=1)) if data.size > 1 else None,
        minimum=float(data.min()),
        maximum=float(data.max()),
        n=int(data.size),
        undefined=undefined,
    )
