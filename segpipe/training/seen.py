"""How often a training sees each case: beyond a point it learns their labels by heart, and a longer training makes a worse model.

Measured on the hippocampus (166 cases, full augmentation; `docs/recipe.md`): 63 times each gave the best networks, 169 times clearly
worse ones, and the mean of two networks of 60 times each a better model than either.
"""

from __future__ import annotations

from segpipe.dataset.fingerprint import Fingerprint
from segpipe.plan.plan import Plan
from segpipe.plan.spacing import median_shape, seen_share

BEST, MOST = 63, 100
"""Times that a case was seen in the best trainings; and from where on it is worth a word."""
FEW_STEPS = 100
"""No network is trained after fewer: a training that took no more gets a warning, and so does its model's card."""


def times_seen(plan: Plan, data: Fingerprint, steps: int, cases: int, processes: int = 1) -> float:
    """How often each voxel of a case is drawn, on average; a patch counts as the share of the median scan that it covers.

    Args:
        steps: of the training.
        cases: that it trains on.
        processes: each of which takes a batch a step.
    """
    share = seen_share(plan.patch_size, median_shape(data, plan.axes, plan.spacing_mm))
    return steps * plan.batch_size * processes * share / max(1, cases)


def advice(times: float) -> str:
    """What to do with so long a training; empty where there is nothing to say."""
    if times < MOST:
        return ""
    seeds = max(2, round(times / BEST))
    return (
        f"each case is seen about {times:.0f} times, and beyond {BEST} a network may learn the labels by heart: "
        f"augment=strong is against that, and training.seeds={seeds} with 1/{seeds} of the time makes {seeds} networks with a better mean"
    )
