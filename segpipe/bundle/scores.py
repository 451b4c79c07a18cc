"""How good a model is, from its run: the Dice of each target over the validated cases, with an interval where its cases are known."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from segpipe.evaluation.bootstrap import mean_interval
from segpipe.inference import postprocess, thresholds
from segpipe.training.document import OUT_OF_FOLD, PARTITION, json_of
from segpipe.training.run_folder import RunFolder

CROSS_VALIDATION = "cross_validation.json"
"""Of a run of several trainings, beside its model file."""
_ALIKE = 2e-6
"""Means are written with six digits."""
_HAVE_IT = "mean over the validated cases in which the truth or the label map has it"

Score = dict[str, Any]


def metrics_of(document: dict[str, Any], run: RunFolder | None, training: dict[str, Any]) -> dict[str, Any]:
    """Dice of each target with a 95 % interval; of a model file alone the means, whose cases are then not known label by label.

    Figures of a run whose model file tells another mean are not those of the file: they are left out.

    Args:
        document: of the model file.
        run: None: only the model file is known.
        training: see `training_of`; without a division of the cases nobody knows whether those that were validated were held out.
    """
    told = document.get("metrics") or {}
    held_out = (training.get(PARTITION) or {}).get("held_out")
    together = told.get("checkpoint") == OUT_OF_FOLD
    figures = {} if run is None else _cross_validated(run.root / CROSS_VALIDATION) if together else _validated(run.validation)
    dice = {name: _score(mean, figures.get(name)) for name, mean in (told.get("dice") or {}).items() if mean is not None}
    return {
        "measure": _measure(document, held_out) if together else f"Dice of each label on the network's grid, {_HAVE_IT}",
        "interval": "95 %, bootstrap over cases, bias-corrected and accelerated (percentiles where that has no answer)",
        "held_out": held_out,
        "cases": told.get("cases"),
        "dice": dice,
    }


def _score(mean: float, figure: Score | None) -> Score:
    same = figure is not None and figure["mean"] is not None and math.isclose(figure["mean"], mean, abs_tol=_ALIKE)
    return {"low": None, "high": None, "cases": None, **(figure if figure is not None and same else {}), "mean": mean}


def _validated(path: Path) -> dict[str, Score]:
    """Of one training, on the cases that it validated at its end."""
    columns: dict[str, list[float]] = {}
    for case in (json_of(path) or {}).get("each", []):
        for name, value in case["dice"].items():
            if value is not None:
                columns.setdefault(name, []).append(value)
    return {name: _figure(sum(values) / len(values), mean_interval(values), len(values)) for name, values in columns.items()}


def _cross_validated(path: Path) -> dict[str, Score]:
    """Of several trainings, each on what it held out."""
    found = json_of(path) or {}
    summaries = {name: found["summary"][value]["dice"] for value, name in found.get("labels", {}).items()}
    return {name: _figure(told["mean"], told["ci95"], told["n"]) for name, told in summaries.items()}


def _figure(mean: float | None, interval: Any, cases: int) -> Score:
    low, high = interval or (None, None)
    return {"mean": mean, "low": low, "high": high, "cases": cases}


def _measure(document: dict[str, Any], held_out: bool | None) -> str:
    words = ["Dice of each label on the scan's own grid"]
    if held_out:
        words.append("each case by the networks that did not see it")
    if document.get(thresholds.KEY):
        words.append("at thresholds that were chosen on these cases")
    if document.get(postprocess.KEY):
        words.append("before post-processing")
    return f"{', '.join(words)}; {_HAVE_IT}"


def unscored(document: dict[str, Any]) -> list[str]:
    """Targets of which nobody knows how good the model is at them.

    Args:
        document: `segpipe.json` of a package.
    """
    background, *labels = (label["name"] for label in document["labels"])
    scored, outputs = set(document["metrics"]["dice"]), [name for name in document["outputs"]["channels"] if name != background]
    wanted = labels if scored - set(outputs) else outputs  # regions are validated as regions, but after folds as labels
    return [name for name in wanted if name not in scored]
