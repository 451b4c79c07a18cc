"""The plan survives JSON exactly and refuses what it does not know."""

import json

import pytest

from segpipe.errors import ModelError
from segpipe.plan.plan import Channel, Label, NetworkPlan, Plan, plan_from_dict


def make_plan() -> Plan:
    network = NetworkPlan("unet", (8, 16), ((3, 3, 1), (3, 3, 3)), ((1, 1, 1), (2, 2, 1)), dropout=0.1)
    labels = (Label(0, 0, "background"), Label(1, 255, "cell"))
    return Plan(
        "demo", 3, (Channel("CT", "ct", -100.0, 200.0, 30.5, 12.0),), labels, True, (0, 1, 2), (0.5, 0.5, 3.0), (32, 32, 8), 2, False,
        (True, False, True), network, {"dims": "volumes"},
    )  # fmt: skip


def test_a_plan_read_from_its_json_is_the_same_plan() -> None:
    plan = make_plan()
    assert plan_from_dict(json.loads(plan.to_json())) == plan


def test_a_plan_without_spacing_survives() -> None:
    values = make_plan().to_dict() | {"spacing_mm": None}
    assert plan_from_dict(values).spacing_mm is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"version": 99}, "version"),
        ({"dims": 4}, "dims"),
        ({"dims": True}, "dims"),
        ({"patch_size": [1, 2]}, "patch_size"),
        ({"surprise": 1}, "surprise"),
        ({"batch_size": "two"}, "batch_size"),
        ({"channels": [{"name": "CT", "normalisation": "magic"}]}, "magic"),
        ({"labels": [{"index": 0}]}, "incomplete"),
        ({"network": 3}, "network"),
    ],
)
def test_a_damaged_plan_is_refused_and_the_message_names_the_key(change: dict[str, object], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        plan_from_dict(make_plan().to_dict() | change)
