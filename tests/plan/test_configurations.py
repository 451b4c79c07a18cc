"""Which plans are trained side by side."""

import dataclasses
from pathlib import Path

import pytest

from segpipe.errors import ConfigError
from segpipe.plan.configurations import (
    auto_configurations,
    check_configurations,
    choose_configurations,
    named,
    pairs_of,
    plan_name,
    planned_in,
)
from segpipe.plan.plan import Plan
from segpipe.plan.planner import make_plan
from segpipe.plan.spacing import SEEN_SHARE, seen_share
from segpipe.settings import DatasetSettings, PlanSettings, Settings, TrainingSettings
from tests.plan.test_planner import data, settings
from tests.plan.test_spacing import CT


@pytest.mark.parametrize(
    ("change", "plan", "expected"),
    [
        ({}, {}, ("3d", "2d")),
        (CT, {}, ("3d_low", "3d", "2d")),
        (CT, {"spacing_mm": [1.0, 1.0, 1.5]}, ("3d", "2d")),  # the low resolution has a spacing of its own
        (CT, {"memory_gb": 1.0}, ("3d_low", "3d", "2d")),
        ({"picture": True, "shapes": ((512, 512, 1),) * 3}, {}, ("2d",)),
        ({"shapes": ((512, 512, 1),) * 3}, {}, ("2d",)),
    ],
)
def test_auto_takes_what_the_data_allows_and_each_can_be_planned(
    change: dict[str, object], plan: dict[str, object], expected: tuple[str, ...]
) -> None:
    fingerprint, wanted = data(**change), settings(plan)
    full = make_plan("t", fingerprint, wanted)
    found = auto_configurations(wanted, fingerprint, full)
    assert found is not None and found[0] == expected and found[1]
    assert choose_configurations(dataclasses.replace(wanted, configurations=["auto"]), fingerprint, lambda: full) == expected
    assert all(make_plan("t", fingerprint, named(wanted, name)).dims == int(name[0]) for name in expected)


def test_what_is_named_needs_no_other_plan() -> None:
    def full() -> Plan:
        raise AssertionError("planned without need")

    assert choose_configurations(Settings(configurations=["2d"]), data(), full) == ("2d",)


@pytest.mark.parametrize("plan", [{"dims": 2}, {"resolution": "low"}, {"file": "plan.json"}])
def test_settings_that_have_decided_leave_nothing_for_auto(plan: dict[str, object]) -> None:
    assert auto_configurations(settings(plan), data(), make_plan("t", data(), settings())) is None


def test_a_shrunken_patch_has_a_low_resolution_where_a_larger_one_has_none() -> None:
    fingerprint = data(shapes=((96, 96, 64),) * 3)
    large = {"patch_voxels": 250_000}
    with pytest.raises(ConfigError, match="no use"):
        make_plan("t", fingerprint, settings(large | {"resolution": "low"}))
    little = large | {"memory_gb": 0.9}
    assert seen_share(make_plan("t", fingerprint, settings(little)).patch_size, (96, 96, 64)) < SEEN_SHARE
    low = make_plan("t", fingerprint, settings(little | {"resolution": "low"}))
    assert low.spacing_mm is not None and min(low.spacing_mm) > 1.0


def test_what_was_planned_is_found_again(tmp_path: Path) -> None:
    assert planned_in(tmp_path) == ()
    for name in ("2d", "3d_low"):
        (tmp_path / plan_name(name)).touch()
    assert planned_in(tmp_path) == ("3d_low", "2d")


def test_each_configuration_makes_a_plan_of_its_kind() -> None:
    fingerprint = data(**CT)
    plans = {name: make_plan("t", fingerprint, named(settings(), name)) for name in ("2d", "3d", "3d_low")}
    assert [plans[name].dims for name in plans] == [2, 3, 3]
    full, low = plans["3d"].spacing_mm, plans["3d_low"].spacing_mm
    assert full is not None and low is not None and min(low) > max(full)
    assert named(settings(), "") == settings()


def test_one_alone_comes_before_two_together() -> None:
    assert pairs_of(["a"]) == [("a",)]
    assert pairs_of(["a", "b", "c"]) == [("a",), ("b",), ("c",), ("a", "b"), ("a", "c"), ("b", "c")]


@pytest.mark.parametrize(
    ("configurations", "plan", "words"),
    [
        (["2d", "2d"], {}, "once at most"),
        (["auto", "2d"], {}, "auto alone"),
        (["2d"], {"dims": 3}, "plan.dims and configurations are both set"),
        (["auto"], {"file": "plan.json"}, "plan.file and configurations"),
        (["3d"], {"resolution": "low"}, "plan.resolution and configurations"),
        (["3d_low"], {"spacing_mm": [1.0] * 3}, "3d_low has a spacing of its own"),
    ],
)
def test_contradictions_are_refused(configurations: list[str], plan: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        check_configurations(dataclasses.replace(Settings(plan=PlanSettings(**plan)), configurations=configurations))


def test_what_goes_with_one_kind_only_is_refused() -> None:
    begun = TrainingSettings(init="model.ts")
    for wanted in (["auto"], ["3d", "2d"]):
        with pytest.raises(ConfigError, match=r"training.init is set, whose weights go with 2D or with 3D"):
            check_configurations(Settings(configurations=wanted, training=begun))
    check_configurations(Settings(configurations=["3d", "3d_low"], training=begun))


def test_a_choice_without_held_out_cases_is_refused() -> None:
    nothing = DatasetSettings(fraction=0.0)
    with pytest.raises(ConfigError, match="no case is held out to choose among configurations"):
        check_configurations(Settings(configurations=["auto"], dataset=nothing))
    check_configurations(Settings(configurations=["auto"], dataset=nothing, folds="all"))
    check_configurations(Settings(configurations=["3d"], dataset=nothing))
