"""Records and the progress line."""

import logging
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from segpipe.patches.augment import Augment
from segpipe.plan.plan import Plan
from segpipe.settings import AugmentSettings, TrainingSettings
from segpipe.training.callbacks import ProgressDisplay, Record
from segpipe.training.custom import build_trainable
from segpipe.training.module import SegmentationModule
from segpipe.training.run_folder import MetricsFile
from segpipe.training.schedule import Budget
from segpipe.training.validation import CaseDice

FIRST = SimpleNamespace(is_global_zero=True)


@pytest.fixture
def module(make_plan: Callable[[int], Plan]) -> SegmentationModule:
    plan = make_plan(3)
    augment = Augment(AugmentSettings(), 3, plan.flips, plan.patch_size)
    return SegmentationModule(build_trainable(plan), plan, augment, TrainingSettings(), Budget(max_steps=10), 0)


def test_a_row_holds_the_mean_loss_since_the_last_and_the_dice(module: SegmentationModule, tmp_path: Path) -> None:
    record = Record(tmp_path / "metrics.csv", module.plan, 4)
    record.begin(0)
    module.losses += [1.0, 2.0]
    module.budget.rates.append(0.1)
    row = record.row(module, [CaseDice("a", [0.5]), CaseDice("b", [0.7])])
    assert row["loss"] == 1.5
    assert row["dice organ"] == row["dice mean"] == pytest.approx(0.6)
    assert module.losses == []
    assert "loss" not in record.row(module)
    rows = MetricsFile.read(tmp_path / "metrics.csv")
    assert [one["loss"] for one in rows] == ["1.5", ""]
    assert rows[0]["lr"] == "0.1"


def test_an_undefined_dice_is_left_empty(module: SegmentationModule, tmp_path: Path) -> None:
    record = Record(tmp_path / "metrics.csv", module.plan, 1)
    record.begin(0)
    record.row(module, [CaseDice("a", [math.nan])])
    assert MetricsFile.read(tmp_path / "metrics.csv")[0]["dice mean"] == ""


def test_where_there_is_no_terminal_a_line_comes_now_and_then(
    module: SegmentationModule, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = [0.0]
    monkeypatch.setattr("segpipe.training.callbacks.time.monotonic", lambda: now[0])
    monkeypatch.setattr("segpipe.training.callbacks.sys.stderr", SimpleNamespace(isatty=lambda: False))
    record = Record(None, module.plan, 4)
    display = ProgressDisplay(record)
    display.on_train_start(FIRST, module)  # type: ignore[arg-type]
    module.losses.append(0.5)
    rest: tuple[Any, ...] = (None, None, 0)
    with caplog.at_level(logging.INFO):
        for step in range(1, 41):
            now[0] = 0.5 * step
            display.on_train_batch_end(FIRST, module, *rest)  # type: ignore[arg-type]
    assert caplog.messages == ["step 0  mean loss 0.500  Dice -  8.0 patches/s  0:05 left"]  # once in twenty seconds
    record.dice = 0.875
    with caplog.at_level(logging.INFO):
        now[0] += 20.0
        display.on_train_batch_end(FIRST, module, *rest)  # type: ignore[arg-type]
    assert "Dice 0.875" in caplog.messages[-1]
    display.close()


def test_time_of_a_validation_does_not_count_as_training(make_plan, tmp_path, monkeypatch) -> None:
    now = [0.0]
    monkeypatch.setattr("segpipe.training.callbacks.time.monotonic", lambda: now[0])
    record = Record(None, make_plan(3), batch=4)
    record.begin(0)
    module = SimpleNamespace(global_step=10, budget=Budget(max_steps=20, clock=lambda: 0.0), losses=[], loggers=[])
    now[0] = 25.0
    record.paused(20.0)
    assert record.row(module)["patches_per_second"] == 8.0
