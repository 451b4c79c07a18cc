import math

import numpy as np
import pytest

from segpipe.evaluation.folder import Evaluation
from segpipe.evaluation.scores import CaseScores, LabelScore
from segpipe.evaluation.summary import summarise, summary

NAN = float("nan")


def case(name, dices, hd95=NAN, error=0.1):
    scores = {value: LabelScore(dice=dice, hd95_mm=hd95, note="") for value, dice in dices.items()}
    return CaseScores(name, scores, tuple(dices), tuple(dices), error)


def test_undefined_figures_are_left_out_and_counted():
    found = summary([0.5, NAN, 1.0])
    assert (found.mean, found.n, found.undefined) == (0.75, 2, 1)
    assert (found.minimum, found.maximum, found.median) == (0.5, 1.0, 0.75)
    assert found.std == pytest.approx(np.std([0.5, 1.0], ddof=1))


def test_without_any_figure_all_is_none():
    found = summary([NAN, NAN])
    assert (found.mean, found.ci95, found.std, found.n, found.undefined) == (None, None, None, 0, 2)


def test_one_case_has_a_mean_but_no_spread():
    found = summary([0.8])
    assert (found.mean, found.ci95, found.std) == (0.8, None, None)


def test_the_mean_over_labels_counts_each_case_once():
    evaluation = Evaluation({1: "a", 2: "b"}, 0, (case("x", {1: 1.0, 2: 0.5}), case("y", {1: 0.25})))
    found = summarise(evaluation, 200, 0)
    assert found["1"]["dice"].mean == pytest.approx(0.625)
    assert (found["2"]["dice"].mean, found["2"]["dice"].undefined) == (0.5, 1)
    assert found["mean"]["dice"].mean == pytest.approx((0.75 + 0.25) / 2)
    assert found["mean"]["hd95_mm"].mean is None


def test_pixel_error_is_summarised_over_cases():
    evaluation = Evaluation({1: "a"}, 0, (case("x", {1: 1.0}, error=0.1), case("y", {1: 1.0}, error=0.3)))
    assert summarise(evaluation, 200, 0)["mean"]["pixel_error"].mean == pytest.approx(0.2)


def test_intervals_hold_the_mean():
    cases = tuple(case(str(i), {1: 0.7 + 0.02 * i}) for i in range(10))
    figures = summarise(Evaluation({1: "a"}, 0, cases))["1"]["dice"]
    assert figures.ci95 is not None
    assert figures.ci95[0] < figures.mean < figures.ci95[1]
    assert not math.isnan(figures.mean)
