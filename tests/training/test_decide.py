"""A run that repeats an earlier one has its network, or says why it cannot."""

from __future__ import annotations

import pytest

from segpipe.errors import ConfigError
from segpipe.settings import NetworkSettings, Settings, TrainingSettings
from segpipe.training.decide import plan_for
from segpipe.training.schedule import Budget
from tests.plan.test_planner import data

REPEATS = Settings(training=TrainingSettings(schedule_file="s.json"))


def repeated(*features: int) -> Budget:
    return Budget(max_steps=3, replay=[0.1] * 3, replay_features=features)


def test_a_repeated_run_has_the_widths_of_the_first() -> None:
    plan = plan_for(data(), REPEATS, "cpu", repeated(24, 48, 96, 192))
    assert plan.network.features == (24, 48, 96, 192)
    assert "repeated" in plan.reasons["features"]


def test_widths_set_by_hand_stay() -> None:
    by_hand = Settings(network=NetworkSettings(features=[4, 8, 16, 32]), training=TrainingSettings(schedule_file="s.json"))
    assert plan_for(data(), by_hand, "cpu", repeated(24, 48, 96, 192)).network.features == (4, 8, 16, 32)


def test_another_number_of_stages_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"s\.json: is of a network with the features \[24, 48\], and the plan has 4 stages"):
        plan_for(data(), REPEATS, "cpu", repeated(24, 48))


def test_without_a_repeated_run_the_plan_is_the_planner_s() -> None:
    assert plan_for(data(), Settings(), "cpu", Budget(max_seconds=60.0)).network.features == (16, 32, 64, 128)
