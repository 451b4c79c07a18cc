"""Width and batch for a budget: the widest network that still takes enough steps. Fitted on measured trainings, see `docs/recipe.md`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from segpipe.plan.plan import Plan

ENOUGH_STEPS = 1000
"""Of a training; with fewer, a network of half the width, or half the batch, reached the same Dice or a higher one in the same time."""
SMALLEST_BATCH = 2
_DEARER = 2.5
"""Times the seconds of a step with every width doubled, at least (measured: 2.0 to 3.1): where that leaves too few, it is not tried."""


@dataclass(frozen=True)
class Size:
    """Attributes:
    width: factor on the usual widths.
    batch: factor on the usual batch.
    """

    width: float
    batch: float


USUAL = Size(1.0, 1.0)
WIDER = Size(2.0, 1.0)
NARROWER = (Size(0.5, 1.0), Size(0.5, 0.5))


def size_for(usual: Plan, with_size: Callable[[Size], Plan | None], steps_of: Callable[[Plan], int]) -> Plan:
    """The plan of the largest size that takes enough steps; where none does, of the smallest.

    Args:
        usual: plan with the usual widths and batch.
        with_size: the plan of another size; None where that is no use (it does not fit into the memory, or is as small already).
        steps_of: how many steps fit into the budget, measured.
    """
    plan, steps, size = usual, steps_of(usual), USUAL
    if steps >= _DEARER * ENOUGH_STEPS:
        wider = with_size(WIDER)
        more = steps_of(wider) if wider else 0
        if wider and more >= ENOUGH_STEPS:
            plan, steps, size = wider, more, WIDER
    for smaller in NARROWER:
        found = with_size(smaller) if steps < ENOUGH_STEPS else None
        if found:
            plan, steps, size = found, steps_of(found), smaller
    reasons = {"features": _reason(size, steps)}
    if size.batch < 1:
        reasons["batch_size"] = "half of the usual: twice as many steps fit into the minutes"
    return replace(plan, reasons=plan.reasons | reasons)


def _reason(size: Size, steps: int) -> str:
    width = "the usual width" if size.width == 1.0 else f"{size.width:g} times the usual width"
    told = f"about {steps} steps fit into the minutes on this machine, measured"
    return f"{width}: {told}; {ENOUGH_STEPS} are enough" if steps >= ENOUGH_STEPS else f"{width}: {told}; {ENOUGH_STEPS} would be enough"
