"""Width and batch for a budget: narrower where too few steps fit. Fitted on measured trainings, see `docs/recipe.md`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from segpipe.plan.plan import Plan

ENOUGH_STEPS = 1000
"""Of a training; with fewer, a network of half the width, or half the batch, reached the same Dice or a higher one in the same time."""
SMALLEST_BATCH = 2


def size_for(usual: Plan, steps_of: Callable[[Plan], int], batch_by_hand: bool = False) -> Plan:
    """The first of three plans that takes enough steps: the usual one, one of half the width, and one of half the batch, too.

    Args:
        steps_of: how many steps fit into the budget, measured.
        batch_by_hand: the batch stays.
    """
    plan, steps, told = usual, steps_of(usual), "the usual width"
    reasons = {}
    if steps < ENOUGH_STEPS:
        half = tuple(max(1, width // 2) for width in usual.network.features)
        plan = replace(usual, network=replace(usual.network, features=half))
        steps, told = steps_of(plan), "half the usual width"
    batch = max(SMALLEST_BATCH, plan.batch_size // 2)
    if steps < ENOUGH_STEPS and batch < plan.batch_size and not batch_by_hand:
        plan = replace(plan, batch_size=batch)
        steps, reasons["batch_size"] = steps_of(plan), "half the usual batch: about twice as many steps fit into the minutes"
    enough = "are" if steps >= ENOUGH_STEPS else "would be"
    reasons["features"] = f"{told}: about {steps} steps fit into the minutes on this machine, measured; {ENOUGH_STEPS} {enough} enough"
    return replace(plan, reasons=plan.reasons | reasons)
