"""Results for other programs: JSON and CSV."""

from __future__ import annotations

import csv
import io
import math
from typing import Any

from segpipe.evaluation.bootstrap import LEVEL
from segpipe.evaluation.folder import Evaluation
from segpipe.evaluation.metric import EMPTY_RULES, METRICS, PIXEL_ERROR
from segpipe.evaluation.scores import CaseScores
from segpipe.evaluation.summary import Summaries, Summary

_DIGITS = 6


def to_json(evaluation: Evaluation, summaries: Summaries, tolerance_mm: float, resamples: int, seed: int) -> dict[str, Any]:
    """All results as plain values; what is undefined is null, never NaN.

    Keys: `labels` (value -> name), `cases` (one entry a case and label), `summary` (label value or `mean` -> metric -> figures),
    `missing` (`prediction`: truths without one; `truth`: predictions without one), `errors`, `warnings`, and how it was measured.
    """
    return {
        "labels": {str(value): name for value, name in evaluation.labels.items()},
        "background": evaluation.background,
        "cases": [row for case in evaluation.cases for row in _case_rows(evaluation, case)],
        "summary": {label: {metric: _summary(figures) for metric, figures in metrics.items()} for label, metrics in summaries.items()},
        "missing": {"prediction": list(evaluation.without_prediction), "truth": list(evaluation.without_truth)},
        "errors": [{"case": case, "error": what} for case, what in evaluation.errors.items()],
        "warnings": list(evaluation.warnings),
        "unit": "pixel" if evaluation.picture else "mm",
        "tolerance_mm": tolerance_mm,
        "bootstrap": {"level": LEVEL, "method": "BCa", "resamples": resamples, "seed": seed},
        "metrics": {metric.name: metric.meaning for metric in (*METRICS, PIXEL_ERROR)},
        "empty": EMPTY_RULES,
    }


def to_csv(evaluation: Evaluation) -> str:
    """One row a case and label, numbers with six decimals, empty where undefined.

    Cases that could not be compared, and truths without a prediction, have one row with the reason in `note`.
    """
    text = io.StringIO()
    metrics = [metric.name for metric in (*METRICS, PIXEL_ERROR)]
    writer = csv.DictWriter(text, ["case", "label", "name", *metrics, "note"], restval="", lineterminator="\n")
    writer.writeheader()
    for case in evaluation.cases:
        for row in _case_rows(evaluation, case):
            row["name"] = evaluation.labels[int(row["label"])]
            writer.writerow(row | {metric: "" if row[metric] is None else f"{row[metric]:.{_DIGITS}f}" for metric in metrics})
    for name, what in evaluation.errors.items():
        writer.writerow({"case": name, "note": what})
    for name in evaluation.without_prediction:
        writer.writerow({"case": name, "note": "prediction missing"})
    return text.getvalue()


def _case_rows(evaluation: Evaluation, case: CaseScores) -> list[dict[str, Any]]:
    """One flat row a label."""
    rows = []
    for value in evaluation.labels:
        score = case.score(value)
        figures = {metric.name: _number(getattr(score, metric.name)) for metric in METRICS}
        rows.append({"case": case.case, "label": str(value), **figures, PIXEL_ERROR.name: case.pixel_error, "note": score.note})
    return rows


def _summary(figures: Summary) -> dict[str, Any]:
    return {
        "mean": figures.mean,
        "ci95": list(figures.ci95) if figures.ci95 else None,
        "median": figures.median,
        "std": figures.std,
        "min": figures.minimum,
        "max": figures.maximum,
        "n": figures.n,
        "undefined": figures.undefined,
    }


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value
