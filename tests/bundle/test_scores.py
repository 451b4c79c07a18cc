"""Scores of a package: those of the run that made the model file, with the cases that they are of, or none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from segpipe.bundle.scores import metrics_of, unscored
from segpipe.evaluation.bootstrap import mean_interval
from segpipe.training.document import OUT_OF_FOLD
from segpipe.training.run_folder import RunFolder

EACH = [{"organ": 0.9, "tumour": 0.2}, {"organ": 0.7, "tumour": None}, {"organ": 0.8, "tumour": 0.4}]
TOLD = {"metrics": {"cases": 3, "dice": {"organ": 0.8, "tumour": 0.3, "vessel": None}, "checkpoint": "last"}}
HELD_OUT = {"partition": {"train": 9, "validation": 3, "held_out": True}}


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    each = [{"case": f"patient_{number}", "dice": dice} for number, dice in enumerate(EACH)]
    (tmp_path / "validation.json").write_text(json.dumps({"each": each}))
    return RunFolder(tmp_path)


def test_each_label_has_the_interval_of_the_cases_that_have_it(run: RunFolder) -> None:
    found = metrics_of(TOLD, run, HELD_OUT)
    low, high = mean_interval([0.9, 0.7, 0.8]) or (None, None)
    assert found["dice"]["organ"] == {"mean": 0.8, "low": low, "high": high, "cases": 3}
    assert found["dice"]["tumour"]["cases"] == 2
    assert (found["held_out"], "the network's grid" in found["measure"]) == (True, True)
    assert "patient" not in json.dumps(found)


def test_cases_of_another_training_are_not_those_of_the_model(run: RunFolder) -> None:
    told = {"metrics": {"cases": 3, "dice": {"organ": 0.80001, "tumour": 0.3}}}
    dice = metrics_of(told, run, {})["dice"]
    assert dice["organ"] == {"mean": 0.80001, "low": None, "high": None, "cases": None}
    assert dice["tumour"]["cases"] == 2


def test_a_model_file_alone_tells_means_and_not_of_how_many_cases(run: RunFolder) -> None:
    found = metrics_of(TOLD, None, {})
    assert found["dice"]["tumour"] == {"mean": 0.3, "low": None, "high": None, "cases": None}
    assert (found["held_out"], found["cases"]) == (None, 3)


def test_scores_of_folds_are_those_of_the_cross_validation(run: RunFolder) -> None:
    organ = {"dice": {"mean": 0.61234567, "ci95": [0.5, 0.7], "n": 6}}
    (run.root / "cross_validation.json").write_text(json.dumps({"labels": {"1": "organ"}, "summary": {"1": organ, "mean": organ}}))
    told: dict[str, Any] = {"metrics": {"cases": 6, "dice": {"organ": 0.61234567}, "checkpoint": OUT_OF_FOLD}, "offsets": [0.0, 0.4]}
    found = metrics_of(told, run, HELD_OUT)
    assert found["dice"] == {"organ": {"mean": 0.61234567, "low": 0.5, "high": 0.7, "cases": 6}}
    for words in ("the scan's own grid", "networks that did not see it", "thresholds that were chosen on these cases"):
        assert words in found["measure"]
    assert "did not see it" not in metrics_of(told, run, {"partition": {"train": 6, "validation": 6, "held_out": False}})["measure"]


@pytest.mark.parametrize(
    ("outputs", "scored", "lacking"),
    [
        (["background", "edema", "core"], ["edema"], ["core"]),
        (["background", "edema", "core"], [], ["edema", "core"]),
        (["whole", "core"], ["whole", "core"], []),  # regions, one of which is called like a label
        (["whole", "core"], ["core"], ["whole"]),
        (["whole", "core"], ["edema", "core"], []),  # regions after folds, which score labels
    ],
)
def test_what_has_no_score_is_named(outputs: list[str], scored: list[str], lacking: list[str]) -> None:
    labels = [{"name": name} for name in ("background", "edema", "core")]
    document = {"labels": labels, "outputs": {"channels": outputs}, "metrics": {"dice": dict.fromkeys(scored)}}
    assert unscored(document) == lacking
