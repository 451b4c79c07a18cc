"""Width and batch for a budget: the first of a few sizes with enough steps."""

from __future__ import annotations

import pytest

from segpipe.plan.plan import Plan
from segpipe.plan.planner import make_plan
from segpipe.plan.size import ENOUGH_STEPS, size_for
from segpipe.settings import Settings

from .test_planner import data

USUAL = make_plan("p", data(), Settings())


def chosen(steps: dict[tuple[int, int], int], batch_by_hand: bool = False) -> Plan:
    """The plan where so many steps fit, by the width of the first stage and the batch."""
    return size_for(USUAL, lambda plan: steps[plan.network.features[0], plan.batch_size], batch_by_hand)


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ({(16, 4): ENOUGH_STEPS}, (16, 4)),
        ({(16, 4): 100 * ENOUGH_STEPS}, (16, 4)),
        ({(16, 4): ENOUGH_STEPS - 1, (8, 4): ENOUGH_STEPS}, (8, 4)),
        ({(16, 4): ENOUGH_STEPS - 1, (8, 4): ENOUGH_STEPS - 1, (8, 2): ENOUGH_STEPS}, (8, 2)),
        ({(16, 4): 3, (8, 4): 5, (8, 2): 8}, (8, 2)),  # there is nothing smaller
    ],
)
def test_the_first_size_with_enough_steps_is_taken(steps: dict[tuple[int, int], int], expected: tuple[int, int]) -> None:
    """A size that is not in `steps` is not even measured."""
    plan = chosen(steps)
    assert (plan.network.features[0], plan.batch_size) == expected
    assert plan.network.features == tuple(width * expected[0] // 16 for width in USUAL.network.features)


def test_a_batch_that_was_set_by_hand_stays() -> None:
    assert chosen({(16, 4): 3, (8, 4): 5}, batch_by_hand=True).batch_size == 4


def test_the_reasons_tell_the_steps_and_whether_they_are_enough() -> None:
    assert "3000 steps fit" in chosen({(16, 4): 3000}).reasons["features"]
    small = chosen({(16, 4): 3, (8, 4): 5, (8, 2): 8}).reasons
    assert f"{ENOUGH_STEPS} would be enough" in small["features"] and "half the usual" in small["batch_size"]
