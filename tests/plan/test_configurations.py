"""Which plans are trained side by side."""

import dataclasses

import pytest

from segpipe.errors import ConfigError
from segpipe.plan.configurations import auto_configurations, check_configurations, choose_configurations, named, pairs_of
from segpipe.plan.planner import make_plan
from segpipe.settings import PlanSettings, Settings
from tests.plan.test_planner import data, settings
from tests.plan.test_spacing import CT


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, ("3d", "2d")),
        (CT, ("3d_low", "3d", "2d")),
        ({"picture": True, "shapes": ((512, 512, 1),) * 3}, ("2d",)),
        ({"shapes": ((512, 512, 1),) * 3}, ("2d",)),
    ],
)
def test_auto_takes_what_the_data_allows(change: dict[str, object], expected: tuple[str, ...]) -> None:
    fingerprint = data(**change)
    full = make_plan("t", fingerprint, settings())
    found, reason = auto_configurations(fingerprint, full)
    assert found == expected and reason
    assert choose_configurations(Settings(configurations=["auto"]), fingerprint, full) == expected
    assert choose_configurations(Settings(configurations=["2d"]), fingerprint, full) == ("2d",)


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
    ],
)
def test_contradictions_are_refused(configurations: list[str], plan: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        check_configurations(dataclasses.replace(Settings(plan=PlanSettings(**plan)), configurations=configurations))
