"""A run that repeats an earlier one has its network, or says why it cannot."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from segpipe.dataset.case import Case
from segpipe.dataset.fingerprint import Fingerprint
from segpipe.dataset.phantom import write_phantom
from segpipe.errors import ConfigError
from segpipe.package.precision import Compute
from segpipe.plan.plan import Plan
from segpipe.settings import DatasetSettings, LaunchSettings, NetworkSettings, PlanSettings, Settings, TrainingSettings
from segpipe.training.decide import plan_for
from segpipe.training.pace import LEAST, WARM_UP, TimedSteps, step_seconds_within
from segpipe.training.run import run_training
from segpipe.training.schedule import Budget
from segpipe.training.survey import survey
from tests.plan.test_planner import data

CPU = Compute("cpu", False)
Surveyed = tuple[Sequence[Case], Fingerprint, Settings]
REPEATS = Settings(training=TrainingSettings(schedule_file="s.json"))


def repeated(*features: int) -> Budget:
    return Budget(max_steps=3, replay=[0.1] * 3, replay_features=features)


def test_a_repeated_run_has_the_widths_of_the_first() -> None:
    plan = plan_for(data(), REPEATS, CPU, repeated(24, 48, 96, 192))
    assert plan.network.features == (24, 48, 96, 192)
    assert "repeated" in plan.reasons["features"]


def test_widths_set_by_hand_stay() -> None:
    by_hand = Settings(network=NetworkSettings(features=[4, 8, 16, 32]), training=TrainingSettings(schedule_file="s.json"))
    assert plan_for(data(), by_hand, CPU, repeated(24, 48, 96, 192)).network.features == (4, 8, 16, 32)


def test_another_number_of_stages_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"s\.json: is of a network with the features \[24, 48\], and the plan has 4 stages"):
        plan_for(data(), REPEATS, CPU, repeated(24, 48))


def test_without_a_repeated_run_the_plan_is_the_planner_s() -> None:
    assert plan_for(data(), Settings(), CPU, Budget(max_seconds=60.0)).network.features == (16, 32, 64, 128)


@pytest.fixture(scope="module")
def surveyed(tmp_path_factory: pytest.TempPathFactory) -> Surveyed:
    root = tmp_path_factory.mktemp("data")
    write_phantom(root, "prostate", cases=3, seed=3, size="small")
    settings = Settings(dataset=DatasetSettings(root=str(root)), training=TrainingSettings(max_minutes=1.0))
    return (*survey(settings), settings)


def sized(monkeypatch: pytest.MonkeyPatch, seconds: dict[int, float], surveyed: Surveyed, **changed: Any) -> Plan:
    """The plan for a minute where a step of each width takes so long."""

    def told(steps: TimedSteps, limit: float) -> float:
        return seconds[steps.plan.network.features[0]] * steps.plan.batch_size / 4

    monkeypatch.setattr("segpipe.training.decide.step_seconds_within", told)
    cases, fingerprint, settings = surveyed
    return plan_for(fingerprint, replace(settings, **changed), CPU, Budget(max_seconds=60.0), cases)


def test_a_budget_of_minutes_is_given_the_width_that_takes_enough_steps(monkeypatch: pytest.MonkeyPatch, surveyed: Surveyed) -> None:
    assert sized(monkeypatch, {16: 0.01}, surveyed).network.features[:3] == (16, 32, 64)
    assert sized(monkeypatch, {16: 1.0, 8: 0.01}, surveyed).network.features[:3] == (8, 16, 32)
    usual, small = sized(monkeypatch, {16: 0.01}, surveyed), sized(monkeypatch, {16: 1.0, 8: 0.5}, surveyed)
    assert (small.network.features[0], small.batch_size) == (8, usual.batch_size // 2)


def test_where_memory_is_short_the_width_follows_all_the_same(monkeypatch: pytest.MonkeyPatch, surveyed: Surveyed) -> None:
    tight = PlanSettings(memory_gb=1.0)
    usual = plan_for(surveyed[1], replace(surveyed[2], plan=tight), CPU, Budget(max_seconds=60.0))
    assert usual.reasons["batch_size"] == "as many as fit into the memory"
    found = sized(monkeypatch, {16: 1.0, 8: 0.01}, surveyed, plan=tight)
    assert (found.network.features[0], found.patch_size, found.batch_size) == (8, usual.patch_size, usual.batch_size)


def test_a_repeated_run_has_the_batch_of_the_first() -> None:
    budget = Budget(max_steps=3, replay=[0.1] * 3, replay_features=(8, 16, 32, 64), replay_batch=2)
    plan = plan_for(data(), REPEATS, CPU, budget)
    assert (plan.network.features[0], plan.batch_size) == (8, 2) and "repeated" in plan.reasons["batch_size"]
    by_hand = replace(REPEATS, plan=PlanSettings(batch_size=3))
    assert plan_for(data(), by_hand, CPU, budget).batch_size == 3


def test_measuring_ends_with_its_time_and_not_before_the_first_step(monkeypatch: pytest.MonkeyPatch) -> None:
    class Steps:
        def __init__(self, warming: int = 0) -> None:
            self.taken, self.warming, self.closed = 0, warming, False

        def seconds(self, number: int) -> float:
            self.taken += 1
            time.sleep(0.02)
            return 10.0 / self.taken

        def warm_up(self, limit: float) -> int:
            return TimedSteps.warm_up(cast(TimedSteps, self), limit)

        def close(self) -> None:
            self.closed = True

    slow, free, gpu = Steps(), Steps(), Steps(4)
    assert (step_seconds_within(cast(TimedSteps, slow), 0.0), slow.taken) == (10.0, 1)
    assert (step_seconds_within(cast(TimedSteps, free), 60.0), free.taken) == (2.0, WARM_UP + LEAST)
    assert (step_seconds_within(cast(TimedSteps, gpu), 0.0), gpu.taken) == (10.0 / 3, 3)  # two to warm up, and no more: no time is left
    gpu = Steps(4)
    assert step_seconds_within(cast(TimedSteps, gpu), 60.0) == pytest.approx(10.0 / 9)
    assert gpu.taken == 4 + WARM_UP + LEAST
    assert slow.closed and free.closed and gpu.closed


def test_real_steps_are_measured(surveyed: Surveyed) -> None:
    cases, fingerprint, settings = surveyed
    plan = plan_for(fingerprint, settings, CPU, Budget(max_seconds=20.0), cases)
    assert plan.network.features[0] in (8, 16) and "steps fit into the minutes on this machine" in plan.reasons["features"]


@pytest.mark.parametrize("what", ["features", "off", "rules", "init", "steps", "cluster", "processes"])
def test_what_is_set_by_hand_is_not_measured(monkeypatch: pytest.MonkeyPatch, surveyed: Surveyed, what: str) -> None:
    monkeypatch.setattr("segpipe.training.decide.step_seconds_within", None)
    cases, fingerprint, settings = surveyed
    changed = {
        "features": replace(settings, network=NetworkSettings(features=[4, 8, 16, 32], stages=4)),
        "off": replace(settings, plan=PlanSettings(fit_budget=False)),
        "rules": replace(settings, plan=PlanSettings(rules="nnunet")),
        "init": replace(settings, training=TrainingSettings(max_minutes=1.0, init="model.ts")),
        "steps": replace(settings, training=TrainingSettings(max_steps=3)),
        "cluster": replace(settings, launch=LaunchSettings(cluster="local")),
        "processes": replace(settings, training=TrainingSettings(max_minutes=1.0, devices=2)),
    }[what]
    budget = Budget(max_steps=3) if what == "steps" else Budget(max_seconds=60.0)
    assert plan_for(fingerprint, changed, CPU, budget, cases).network.features[0] in (4, 16, 32)


def test_the_width_is_in_the_plan_of_the_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Through the whole training: what was measured is what is trained, and what the schedule repeats."""
    write_phantom(tmp_path / "data", "prostate", cases=3, seed=3, size="small")
    monkeypatch.setattr("segpipe.training.decide.step_seconds_within", lambda *_: 1.0)
    settings = Settings(
        run_dir=str(tmp_path / "run"),
        dataset=DatasetSettings(root=str(tmp_path / "data")),
        plan=PlanSettings(patch_size=[16, 16, 16], batch_size=1),
        training=TrainingSettings(max_minutes=0.1),
    )
    run_training(settings, "")
    plan = json.loads((tmp_path / "run/plan.json").read_text())
    assert plan["network"]["features"][0] == 8
    assert json.loads((tmp_path / "run/schedule.json").read_text())["features"] == plan["network"]["features"]
