"""How often cases are seen, and when that is worth a word."""

import dataclasses

import pytest

from segpipe.plan.planner import make_plan
from segpipe.training.seen import BEST, MOST, advice, times_seen
from tests.plan.test_planner import data, settings


def test_a_patch_that_covers_the_scan_shows_it_whole_and_a_smaller_one_a_share() -> None:
    whole = make_plan("t", data(), settings())  # 40x56x40 over 36x50x35
    assert times_seen(whole, data(), steps=2600, cases=166) == pytest.approx(2600 * 4 / 166)
    small = dataclasses.replace(whole, patch_size=(18, 50, 35), batch_size=1)
    assert times_seen(small, data(), steps=100, cases=10) == pytest.approx(5.0)
    assert times_seen(small, data(), steps=100, cases=10, processes=2) == pytest.approx(10.0)


def test_slices_of_a_two_dimensional_network_are_shares_of_the_volume() -> None:
    plan = make_plan("t", data(), settings({"dims": 2}))
    covered = min(plan.patch_size[0], 36) * min(plan.patch_size[1], 50) / (36 * 50 * 35)
    assert times_seen(plan, data(), steps=350, cases=10) == pytest.approx(350 * plan.batch_size * covered / 10)


def test_only_a_training_that_sees_cases_far_more_often_than_the_best_is_told_of_seeds() -> None:
    assert advice(BEST) == "" and advice(MOST - 1) == ""
    assert (
        "seen about 169 times" in advice(169)
        and "training.seeds=3" in advice(169)
        and "1/3 of the time" in advice(169)
        and "augment=strong" in advice(169)
    )
    assert "training.seeds=2" in advice(MOST)
