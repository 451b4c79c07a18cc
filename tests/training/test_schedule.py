"""The learning rate is spent exactly when the budget is."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segpipe.errors import ConfigError
from segpipe.training.schedule import Budget, load_schedule, lr_factor, save_schedule


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize("schedule", ["cosine", "poly"])
def test_the_rate_is_zero_at_the_end_and_one_after_the_warm_up(schedule: str) -> None:
    assert lr_factor(1.0, schedule, 0.1) == pytest.approx(0.0, abs=1e-12)
    assert lr_factor(0.1, schedule, 0.1) == pytest.approx(1.0)
    assert lr_factor(0.05, schedule, 0.1) == pytest.approx(0.5)


@given(st.floats(-1, 2), st.sampled_from(["cosine", "poly"]), st.floats(0, 0.5))
def test_the_rate_stays_between_zero_and_one(progress: float, schedule: str, warmup: float) -> None:
    assert 0.0 <= lr_factor(progress, schedule, warmup) <= 1.0


def test_a_time_budget_is_spent_when_the_reserve_is_all_that_is_left() -> None:
    clock = Clock()
    budget = Budget(max_seconds=100.0, clock=clock)
    budget.reserved_seconds = 20.0
    clock.now += 40.0
    assert budget.progress(7) == pytest.approx(0.5)
    clock.now += 40.0
    assert budget.progress(7) == pytest.approx(1.0)


def test_time_of_earlier_parts_of_a_run_counts() -> None:
    budget = Budget(max_seconds=100.0, used_seconds=50.0, clock=Clock())
    assert budget.progress(0) == pytest.approx(0.5)


def test_steps_do_not_look_at_the_clock() -> None:
    clock = Clock()
    budget = Budget(max_steps=10, clock=clock)
    clock.now += 1e6
    assert budget.progress(5) == pytest.approx(0.5)


def test_a_saved_schedule_is_read_back(tmp_path: Path) -> None:
    budget = Budget(max_seconds=10.0, rates=[0.1, 0.05, 0.0], shares=[0.0, 0.6, 1.0])
    save_schedule(tmp_path / "schedule.json", budget, "cosine", (4, 8), 3)
    again = load_schedule(tmp_path / "schedule.json")
    assert (again.replay, again.replay_shares, again.replay_features) == ([0.1, 0.05, 0.0], [0.0, 0.6, 1.0], (4, 8))
    (tmp_path / "old.json").write_text('{"learning_rates": [0.1]}')
    old = load_schedule(tmp_path / "old.json")
    assert (old.max_steps, old.replay, old.replay_shares, old.replay_features) == (1, [0.1], [], ())


def test_a_repeated_run_takes_all_its_steps_and_knows_the_shares_of_then() -> None:
    budget = Budget(max_steps=3, replay=[0.1, 0.05, 0.0], replay_shares=[0.0, 0.6, 1.0])
    assert [budget.share(step) for step in range(3)] == [0.0, 0.6, 1.0]
    assert [budget.progress(step) >= 1.0 for step in range(4)] == [False, False, False, True]  # the late last step is taken, too
    assert Budget(max_steps=4, replay=[0.1] * 4).share(1) == 0.25  # a file of an older version


@pytest.mark.parametrize("text", ["", "{}", '{"learning_rates": []}', '{"learning_rates": ["x"]}'])
def test_a_file_that_is_no_schedule_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "schedule.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"schedule\.json"):
        load_schedule(path)


def test_a_missing_schedule_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="none"):
        load_schedule(tmp_path / "none.json")


def test_the_schedule_file_is_plain_json(tmp_path: Path) -> None:
    save_schedule(tmp_path / "s.json", Budget(max_steps=1, rates=[0.5]), "poly", (4,), 2)
    assert json.loads((tmp_path / "s.json").read_text())["steps"] == 1
