"""The estimate of steps, time and memory before a training."""

import mmap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from segpipe.dataset.case import Case
from segpipe.dataset.phantom import write_phantom
from segpipe.network.build import build_network
from segpipe.package.precision import Compute
from segpipe.plan.plan import Plan
from segpipe.plan.planner import make_plan
from segpipe.settings import DatasetSettings, InferenceSettings, NetworkSettings, PlanSettings, Settings, TrainingSettings
from segpipe.training import estimate as module
from segpipe.training.data import TrainingCase
from segpipe.training.estimate import _Memory, _time, estimate
from segpipe.training.pace import Pace, measure_pace
from segpipe.training.schedule import Budget
from segpipe.training.survey import survey


def settings(**training: object) -> Settings:
    return Settings(training=TrainingSettings(**training))


def test_a_time_budget_is_shared_between_preparation_steps_and_validation() -> None:
    budget = Budget(max_seconds=600.0, clock=lambda: 0.0)
    steps, seconds = _time(settings(), budget, step=0.5, before=40.0, validation=1.0, held_out=54)
    assert seconds == 600.0
    assert steps == int((600 - 40 - 54 - module.EXPORT_SECONDS) * 0.95 / 0.5)
    steps, seconds = _time(settings(), budget, step=0.5, before=40.0, validation=100.0, held_out=54)
    assert steps == int((600 - 40 - 150) * 0.95 / 0.5)  # no more than a quarter is held back
    assert seconds == pytest.approx(40 + 5400 + module.EXPORT_SECONDS)  # and the rest comes after the budget
    assert _time(settings(), Budget(max_seconds=30.0, clock=lambda: 0.0), 0.5, 40.0, 1.0, 5)[0] == 0


def test_steps_take_their_time_and_validations_theirs() -> None:
    budget = Budget(max_steps=1000, clock=lambda: 0.0)
    steps, seconds = _time(settings(validate_cases=8), budget, step=0.5, before=40.0, validation=1.0, held_out=20)
    assert (steps, seconds) == (1000, pytest.approx(40 + 500 + 4 * 8 + 20 + module.EXPORT_SECONDS))
    steps, seconds = _time(settings(validate_steps=100), budget, step=0.5, before=40.0, validation=1.0, held_out=3)
    assert seconds == pytest.approx(40 + 500 + 10 * 3 + 3 + module.EXPORT_SECONDS)
    assert _time(settings(), Budget(replay=[0.1] * 7, max_steps=7), 0.5, 0.0, 0.0, 1)[0] == 7


def test_memory_that_was_freed_again_is_seen() -> None:
    with _Memory("cpu") as memory:
        held = mmap.mmap(-1, 240_000_000)  # from the system itself: what torch frees may be kept for later (see `heap`)
        for start in range(0, len(held), mmap.PAGESIZE):
            held[start] = 1
        deadline = time.monotonic() + 30
        while memory.gained_gb < 0.2 and time.monotonic() < deadline:  # until it has been looked at, which a busy machine delays
            time.sleep(0.01)
        held.close()
    assert 0.2 < memory.gained_gb < 0.5
    assert memory.before_gb > 0.05


@pytest.mark.usefixtures("uncompiled_backend")
def test_what_compiling_takes_comes_before_the_first_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_plan: Callable[[int], Plan], make_case: Callable[[str], TrainingCase]
) -> None:
    plan, cases = make_plan(3), [make_case("a")]
    paces = []
    for compile_ in (True, False):
        network = build_network(plan.network, 1, plan.classes, 3)
        paces.append(measure_pace(network, cases, plan, settings(compile=compile_), Compute("cpu", False), 0.0))
    assert paces[0].compile_seconds > paces[0].step_seconds > 0
    assert paces[1].compile_seconds == 0.0
    called: list[float] = []
    monkeypatch.setattr(module, "measure_pace", lambda *_: Pace(0.01, 1000.0))
    monkeypatch.setattr(module, "_time", lambda settings, budget, step, before, *_: called.append(before) or (1, before))
    monkeypatch.setattr(module, "prepare_case", lambda case, plan: cases[0])
    estimate([Case("a", (tmp_path / "a.nii.gz",), None)], plan, settings(), Compute("cpu", False), Budget(max_steps=1))
    assert 1000 < called[0] < 1100


def test_an_estimate_of_a_small_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SECONDS", 0.2)
    write_phantom(tmp_path, "prostate", cases=4, seed=3, size="small")
    wanted = Settings(
        dataset=DatasetSettings(root=str(tmp_path)),
        plan=PlanSettings(patch_size=[16, 16, 8], batch_size=2),
        network=NetworkSettings(features=[4, 8], stages=2),
        training=TrainingSettings(max_steps=50),
        inference=InferenceSettings(),
    )
    budget = Budget(max_steps=50)
    cases, fingerprint = survey(wanted)
    found = estimate(cases, make_plan("t", fingerprint, wanted), wanted, Compute("cpu", False), budget)
    assert found.steps == 50 and 0.001 < found.step_seconds < 2
    assert 50 * found.step_seconds < found.seconds < 50 * found.step_seconds + 60
    assert 0.1 < found.memory_gb < 8
