"""The width of a network follows from the budget and the machine's pace, and from nothing where somebody has set it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from segpipe.dataset.phantom import write_phantom
from segpipe.errors import ConfigError
from segpipe.package.precision import Compute
from segpipe.plan.memory import plan_gb
from segpipe.plan.plan import Plan
from segpipe.settings import DatasetSettings, NetworkSettings, PlanSettings, Settings, TrainingSettings
from segpipe.training import sizing
from segpipe.training.schedule import Budget
from segpipe.training.sizing import LEAST_STEPS, SHORTEST_SECONDS, plan_for
from segpipe.training.survey import survey

CPU = Compute("cpu", False)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("data")
    write_phantom(folder, "prostate", cases=3, seed=3, size="small")
    return str(folder)


def settings(root: str, plan: dict[str, Any] | None = None, network: dict[str, Any] | None = None, **training: Any) -> Settings:
    wanted = PlanSettings(**({"patch_size": [16, 16, 8], "batch_size": 2} | (plan or {})))
    return Settings(
        dataset=DatasetSettings(root=root), plan=wanted, network=NetworkSettings(**(network or {})), training=TrainingSettings(**training)
    )


def budget(seconds: float) -> Budget:
    return Budget(max_seconds=seconds, clock=lambda: 0.0)


def paced(monkeypatch: pytest.MonkeyPatch, seconds: Callable[[Plan], float]) -> list[int]:
    """Steps take what `seconds` says; returns the first widths of the networks that were timed."""
    timed: list[int] = []

    def told(network: object, cases: object, plan: Plan, *_: object) -> float:
        timed.append(plan.network.features[0])
        return seconds(plan)

    monkeypatch.setattr(sizing, "step_seconds", told)
    return timed


def made(wanted: Settings, spent: Budget) -> Plan:
    return plan_for(survey(wanted), wanted, CPU, spent)


def test_a_wide_network_is_taken_where_the_budget_pays_for_its_steps(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    least = LEAST_STEPS["unet", 3][2]
    for pace, wide in ((0.8, True), (1.2, False)):  # of the seconds that would give just enough steps
        timed = paced(monkeypatch, lambda plan, pace=pace: pace * 0.9 * 1000.0 / least)
        plan = made(settings(root), budget(1000.0))
        assert plan.network.features[0] == (32 if wide else 16)
        assert timed[0] == 32
        assert f"must get {least}" in plan.reasons["features"]


@pytest.mark.parametrize(
    ("change", "spent"),
    [
        ({"network": {"features": [4, 8, 16], "stages": 3}}, budget(3600.0)),
        ({"network": {"name": "vnet"}}, budget(3600.0)),
        ({"plan": {"dims": 2}}, budget(3600.0)),
        ({"plan": {"rules": "nnunet", "patch_size": [], "batch_size": 0}}, budget(3600.0)),
        ({}, Budget(max_steps=100_000)),
        ({}, budget(SHORTEST_SECONDS - 1)),
    ],
)
def test_nothing_is_timed_where_there_is_nothing_to_decide(
    root: str, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], spent: Budget
) -> None:
    timed = paced(monkeypatch, lambda plan: 1e-6)
    plan = made(settings(root, **change), spent)
    assert not timed
    assert plan.network.features[0] in (4, 8, 16, 32)


def test_a_network_that_would_not_fit_into_the_memory_is_not_timed(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    timed = paced(monkeypatch, lambda plan: 1e-6)
    enough = plan_gb(made(settings(root), Budget(max_steps=1))) + 1e-6
    assert made(settings(root, {"memory_gb": enough}), budget(3600.0)).network.features[0] == 16
    assert not timed


def test_real_steps_are_timed(root: str) -> None:
    plan = made(settings(root), budget(SHORTEST_SECONDS))
    assert plan.network.features[0] in (16, 32) and "gets about" in plan.reasons["features"]


def test_a_repeated_run_has_the_widths_of_the_first(root: str) -> None:
    repeated = Budget(max_steps=3, replay=[0.1] * 3, replay_features=(24, 48, 96))
    plan = made(settings(root, schedule_file="s.json"), repeated)
    assert plan.network.features == (24, 48, 96)
    with pytest.raises(ConfigError, match=r"s\.json: is of a network with the features \[24, 48\]"):
        made(settings(root, schedule_file="s.json"), Budget(max_steps=3, replay=[0.1] * 3, replay_features=(24, 48)))
