"""Width and batch for a budget: the widest network with enough steps."""

from __future__ import annotations

from dataclasses import replace

import pytest

from segpipe.plan.plan import Plan
from segpipe.plan.planner import make_plan
from segpipe.plan.size import ENOUGH_STEPS, Size, size_for
from segpipe.settings import Settings

from .test_planner import data

USUAL = make_plan("p", data(), Settings())


def sized(size: Size) -> Plan:
    features = tuple(int(size.width * width) for width in USUAL.network.features)
    return replace(USUAL, network=replace(USUAL.network, features=features), batch_size=int(size.batch * USUAL.batch_size))


def chosen(steps: dict[tuple[int, int], int]) -> Plan:
    """The plan where so many steps fit, by the width of the first stage and the batch."""
    return size_for(USUAL, sized, lambda plan: steps[plan.network.features[0], plan.batch_size])


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ({(16, 4): ENOUGH_STEPS}, (16, 4)),
        ({(16, 4): ENOUGH_STEPS - 1, (8, 4): ENOUGH_STEPS}, (8, 4)),
        ({(16, 4): ENOUGH_STEPS - 1, (8, 4): ENOUGH_STEPS - 1, (8, 2): ENOUGH_STEPS}, (8, 2)),
        ({(16, 4): 3, (8, 4): 5, (8, 2): 8}, (8, 2)),  # there is nothing smaller
        ({(16, 4): 3 * ENOUGH_STEPS, (32, 4): ENOUGH_STEPS}, (32, 4)),
        ({(16, 4): 3 * ENOUGH_STEPS, (32, 4): ENOUGH_STEPS - 1}, (16, 4)),
        ({(16, 4): 100 * ENOUGH_STEPS, (32, 4): 30 * ENOUGH_STEPS}, (32, 4)),  # and nothing larger
    ],
)
def test_the_largest_size_with_enough_steps_is_taken(steps: dict[tuple[int, int], int], expected: tuple[int, int]) -> None:
    """A size that is not in `steps` is not even measured."""
    plan = chosen(steps)
    assert (plan.network.features[0], plan.batch_size) == expected


def test_the_reasons_tell_the_steps_and_whether_they_are_enough() -> None:
    assert "3000 steps fit" in chosen({(16, 4): 9 * ENOUGH_STEPS, (32, 4): 3000}).reasons["features"]
    small = chosen({(16, 4): 3, (8, 4): 5, (8, 2): 8}).reasons
    assert f"{ENOUGH_STEPS} would be enough" in small["features"] and "half of the usual" in small["batch_size"]


def test_a_size_that_does_not_fit_into_the_memory_is_not_taken() -> None:
    for steps in (100 * ENOUGH_STEPS, 1):
        assert size_for(USUAL, lambda size: None, lambda plan, steps=steps: steps).network.features == USUAL.network.features
