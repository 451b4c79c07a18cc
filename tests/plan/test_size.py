"""The width for a budget: the widest network with enough steps."""

from __future__ import annotations

from dataclasses import replace

import pytest

from segpipe.plan.plan import Plan
from segpipe.plan.planner import make_plan
from segpipe.plan.size import ENOUGH_STEPS, width_for
from segpipe.settings import Settings

from .test_planner import data

USUAL = make_plan("p", data(), Settings())


def wide(factor: float) -> Plan:
    features = tuple(int(factor * width) for width in USUAL.network.features)
    return replace(USUAL, network=replace(USUAL.network, features=features))


def chosen(steps: dict[int, int]) -> Plan:
    """The plan where so many steps fit, by the width of the first stage."""
    return width_for(USUAL, wide, lambda plan: steps[plan.network.features[0]])


@pytest.mark.parametrize(
    ("steps", "first"),
    [
        ({16: ENOUGH_STEPS}, 16),
        ({16: ENOUGH_STEPS - 1, 8: 2 * ENOUGH_STEPS}, 8),
        ({16: 3, 8: 5}, 8),  # there is nothing narrower
        ({16: 3 * ENOUGH_STEPS, 32: ENOUGH_STEPS}, 32),
        ({16: 3 * ENOUGH_STEPS, 32: ENOUGH_STEPS - 1}, 16),
        ({16: 100 * ENOUGH_STEPS, 32: 30 * ENOUGH_STEPS}, 32),  # and nothing wider
    ],
)
def test_the_widest_network_with_enough_steps_is_taken(steps: dict[int, int], first: int) -> None:
    """A width that is not in `steps` is not even measured."""
    assert chosen(steps).network.features[0] == first


def test_the_reason_tells_the_steps_and_whether_they_are_enough() -> None:
    assert "3000 steps fit" in chosen({16: 9 * ENOUGH_STEPS, 32: 3000}).reasons["features"]
    assert f"{ENOUGH_STEPS} would be enough" in chosen({16: 3, 8: 5}).reasons["features"]


def test_a_width_that_does_not_fit_into_the_memory_is_not_taken() -> None:
    assert width_for(USUAL, lambda factor: None, lambda plan: 100 * ENOUGH_STEPS).network.features == USUAL.network.features
    assert width_for(USUAL, lambda factor: None, lambda plan: 1).network.features == USUAL.network.features
