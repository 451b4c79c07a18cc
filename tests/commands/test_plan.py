"""What training would do: shown with its reasons, written on request, and made from the settings of the command line."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from segpipe.commands import plan as command
from segpipe.commands.plan import plan, plan_table
from segpipe.config.compose import compose_settings
from segpipe.errors import ConfigError, DataError
from segpipe.plan.plan import Plan, plan_from_dict
from segpipe.training.estimate import Estimate

SMALL = ("plan.patch_size=[32,16]", "training.max_steps=1", "device=cpu")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Three discs on noise, with their masks."""
    root = tmp_path / "data"
    generator = np.random.default_rng(0)
    row, column = np.mgrid[:48, :40]
    for kind in ("images", "labels"):
        (root / kind).mkdir(parents=True)
    for number in range(3):
        disc = (row - 20 - number) ** 2 + (column - 15) ** 2 < 64
        values = np.clip(generator.normal(60, 15, (48, 40)) + 120 * disc, 0, 255).astype(np.uint8)
        Image.fromarray(values).save(root / "images" / f"case{number}.png")
        Image.fromarray((255 * disc).astype(np.uint8)).save(root / "labels" / f"case{number}.png")
    return root


@pytest.fixture
def unmeasured(monkeypatch: pytest.MonkeyPatch) -> None:
    """No steps are timed: for tests that are not about the estimate."""
    monkeypatch.setattr(command, "estimate", lambda *_: Estimate(0.1, 10, 60.0, 1.0))


def cells(made: Plan) -> dict[str, tuple[str, str]]:
    """Value and reason of each decision in the table."""
    names, values, reasons = (list(column.cells) for column in plan_table(made).columns)
    return {str(name): (str(value), str(reason)) for name, value, reason in zip(names, values, reasons, strict=True)}


def made(root: Path, out: Path, *words: str) -> Plan:
    outcome = plan(compose_settings([f"dataset.root={root}", f"out={out}", *SMALL, *words]).settings)
    assert outcome.exit_code == 0
    return plan_from_dict(json.loads(out.read_text(encoding="utf-8")))


@pytest.mark.usefixtures("unmeasured")
def test_every_decision_is_shown_with_its_value_and_its_reason(pictures: Path, tmp_path: Path) -> None:
    shown = cells(made(pictures, tmp_path / "plan.json"))
    assert all(value and reason for value, reason in shown.values())
    assert shown["axes"][0] == "rows, columns"
    assert shown["patch_size"] == ("32 rows x 16 columns", "set by hand")
    assert shown["labels"][0] == "background (0), label 255 (255)"
    assert shown["flips"][0] == "rows, columns"
    assert shown["strides"][0] == "1x1 2x2 2x2 2x1"
    assert shown["kernels"][0].split()[0] == "3x3"


@pytest.mark.usefixtures("unmeasured")
def test_strides_and_kernels_of_the_command_line_are_shown_and_written(pictures: Path, tmp_path: Path) -> None:
    words = ("network.strides=[[1,1],[4,2]]", "network.kernels=[[3,1],[5,3]]", "network.pooling=max")
    written = made(pictures, tmp_path / "plan.json", *words)
    assert (written.network.strides, written.network.kernels) == (((1, 1), (4, 2)), ((3, 1), (5, 3)))
    assert written.network.pooling == "max"
    assert (cells(written)["strides"], cells(written)["kernels"]) == (("1x1 4x2", "set by hand"), ("3x1 5x3", "set by hand"))


def test_without_out_nothing_is_written(pictures: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    outcome = plan(compose_settings([f"dataset.root={pictures}", *SMALL]).settings)
    assert len(outcome.shown) == 2 and str(outcome.shown[1]).startswith("estimate ")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.usefixtures("unmeasured")
def test_a_setting_that_contradicts_the_data_is_refused_and_nothing_is_written(pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"a patch of 32x16 allows 4 at most: set network\.stages=4"):
        made(pictures, tmp_path / "plan.json", "network.stages=5")
    assert not (tmp_path / "plan.json").exists()


def test_a_missing_data_set_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"dataset\.root is empty"):
        plan(compose_settings([]).settings)
    with pytest.raises(DataError, match="missing"):
        plan(compose_settings([f"dataset.root={tmp_path / 'missing'}"]).settings)


@pytest.mark.usefixtures("unmeasured")
def test_an_unwritable_place_is_refused(pictures: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be written"):
        plan(compose_settings([f"dataset.root={pictures}", f"out={pictures / 'images' / 'case0.png' / 'plan.json'}", *SMALL]).settings)


@pytest.mark.usefixtures("unmeasured")
def test_the_patch_of_pictures_that_are_higher_than_wide_has_more_rows(pictures: Path, tmp_path: Path) -> None:
    assert cells(made(pictures, tmp_path / "plan.json", "plan.patch_size=[]"))["patch_size"][0] == "48 rows x 40 columns"


def test_configurations_are_planned_one_after_the_other(pictures: Path, tmp_path: Path) -> None:
    words = [f"dataset.root={pictures}", *SMALL]
    alone = plan(compose_settings(words).settings).shown[0]
    assert [list(column.cells)[-1] for column in alone.columns][:2] == ["configurations", "2d"]  # type: ignore[attr-defined]
    named = plan(compose_settings([*words, "configurations=auto", f"out={tmp_path / 'plan.json'}"]).settings)
    assert "Plan of task, 2d" in str(named.shown[0].title)  # type: ignore[attr-defined]
    assert plan_from_dict(json.loads((tmp_path / "plan.json").read_text())).dims == 2
    with pytest.raises(ConfigError, match=r"one file, and there are 2 plans: name one in configurations"):
        plan(compose_settings([*words, "configurations=[2d,3d]", f"out={tmp_path / 'plan.json'}"]).settings)


def test_the_estimate_of_a_configuration_is_not_charged_for_that_of_another(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[float] = []

    def look(*arguments: Any) -> Estimate:
        used.append(arguments[-1].used_seconds)
        time.sleep(0.2)
        return Estimate(0.1, 10, 60.0, 1.0)

    monkeypatch.setattr(command, "estimate", look)
    monkeypatch.setattr(command, "choose_configurations", lambda *_: ("", ""))
    plan(compose_settings([f"dataset.root={pictures}", *SMALL]).settings)
    assert len(used) == 2 and used[0] == used[1]


def test_a_training_that_sees_its_cases_too_often_is_told(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "estimate", lambda _, made, wanted, *__: Estimate(0.1, wanted.training.max_steps, 60.0, 1.0))
    words = [f"dataset.root={pictures}", "plan.patch_size=[48,40]", "plan.batch_size=4", "device=cpu", "training.max_steps=100"]
    assert any(str(line).startswith("advice") for line in plan(compose_settings(words).settings).shown)
    for quiet in ("training.seeds=2", "augment=strong", "folds=all", "training.max_steps=10"):
        assert not any(str(line).startswith("advice") for line in plan(compose_settings([*words, quiet]).settings).shown)
