"""Widths for a budget: the widest network that still takes enough steps. Fitted on measured trainings, see `docs/recipe.md`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from segpipe.plan.plan import Plan

ENOUGH_STEPS = 600
"""Of a training with the default batch; with fewer, a network of half the width reached a higher Dice in the same time."""
MOST_WIDENED = 1
"""Doublings above the default width, which no measured training gained from beyond."""
MOST_NARROWED = 1
_DEARER = 2.5
"""Times the seconds of a step with every width doubled, at least (measured: 2.0 to 3.1): where that leaves too few, it is not tried."""


def width_for(default: Plan, with_width: Callable[[float], Plan | None], steps_of: Callable[[Plan], int]) -> Plan:
    """The plan with the widest network that takes enough steps.

    Args:
        default: plan with the usual widths.
        with_width: the plan with so many times the widths; None where that is no use (it does not fit into the memory).
        steps_of: how many steps fit into the budget, measured.
    """
    chosen, steps, factor = default, steps_of(default), 1.0
    while steps >= _DEARER * ENOUGH_STEPS and factor < 2**MOST_WIDENED:
        wider = with_width(2 * factor)
        more = 0 if wider is None else steps_of(wider)
        if wider is None or more < ENOUGH_STEPS:
            break
        chosen, steps, factor = wider, more, 2 * factor
    while steps < ENOUGH_STEPS and 0.5**MOST_NARROWED < factor <= 1.0:
        narrower = with_width(factor / 2)
        if narrower is None:
            break
        chosen, steps, factor = narrower, steps_of(narrower), factor / 2
    return replace(chosen, reasons=chosen.reasons | {"features": _reason(factor, steps)})


def _reason(factor: float, steps: int) -> str:
    width = "the usual width" if factor == 1.0 else f"{factor:g} times the usual width"
    told = f"about {steps} steps fit into the minutes on this machine, measured"
    if steps < ENOUGH_STEPS:
        return f"{width}, the narrowest: {told}; {ENOUGH_STEPS} would be enough"
    return f"{width}, the widest with at least {ENOUGH_STEPS} steps: {told}"
