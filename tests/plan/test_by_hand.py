"""A plan from a file is taken as it is where it fits the data, and refused with the reason where it does not."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from segpipe.errors import ConfigError
from segpipe.plan.planner import make_plan
from tests.plan.test_planner import data, settings


def written(path: Path, **change: Any) -> str:
    values = make_plan("h", data(), settings()).to_dict() | change
    path.write_text(json.dumps(values))
    return str(path)


def test_an_edited_plan_is_taken_as_it_is(tmp_path: Path) -> None:
    file = written(tmp_path / "plan.json", patch_size=[32, 48, 32], batch_size=5)
    plan = make_plan("other", data(), settings({"file": file, "batch_size": 9}))
    assert (plan.patch_size, plan.batch_size, plan.task) == ((32, 48, 32), 5, "other")
    assert plan == dataclasses.replace(make_plan("other", data(), settings()), patch_size=(32, 48, 32), batch_size=5)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"version": 7}, "which is no plan"),
        ({"batch_size": "two"}, "which is no plan"),
        ({"batch_size": 0}, "must be 1 or more"),
        ({"axes": [0, 0, 2]}, "axes is"),
        ({"spacing_mm": [1.0, 0.0, 1.0]}, "must be above 0"),
        ({"labels": [{"index": 0, "value": 0, "name": "background"}]}, r"without the label value\(s\) 1, 2"),
        ({"channels": []}, "the data has MRI"),
        ({"orient": False}, "for pictures"),
    ],
)
def test_a_plan_that_does_not_fit_is_refused(tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        make_plan("h", data(), settings({"file": written(tmp_path / "plan.json", **change)}))


def test_a_network_that_cannot_be_built_is_refused(tmp_path: Path) -> None:
    network = make_plan("h", data(), settings()).to_dict()["network"]
    for key, value, reason in (
        ("kernels", network["kernels"][:2], "one entry for each stage"),
        ("strides", [[1, 1]] * 4, "must have 3 numbers"),
    ):
        file = written(tmp_path / "plan.json", network=network | {key: value})
        with pytest.raises(ConfigError, match=reason):
            make_plan("h", data(), settings({"file": file}))


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        make_plan("h", data(), settings({"file": str(tmp_path / "none.json")}))
