"""How wide a network a time budget pays for: timed on this machine before the plan is frozen.

A wide network learns more in a step and takes fewer of them. How many steps a width must get to be worth it was fitted on trainings
of the same computing time at several widths and budgets (`docs/recipe.md`); how many it would get is measured here and now.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

from segpipe.dataset.case import Case
from segpipe.dataset.fingerprint import Fingerprint
from segpipe.errors import ConfigError
from segpipe.package.precision import Compute
from segpipe.plan.memory import fits_memory
from segpipe.plan.plan import Plan
from segpipe.plan.planner import MOST_FEATURES, make_plan
from segpipe.settings import Settings
from segpipe.training.callbacks import VALIDATION_SHARE
from segpipe.training.custom import build_trainable
from segpipe.training.data import TrainingCase, prepare_case
from segpipe.training.pace import step_seconds
from segpipe.training.schedule import Budget

log = logging.getLogger(__name__)

LEAST_STEPS = {("unet", 3): {2: 1000}}
"""For each architecture, by factor on its usual width: the steps that a network of it must get in the budget. The usual width is
taken where none gets as many, and for architectures on which nothing has been measured."""
SHORTEST_SECONDS = 240.0
"""A budget below this is not spent on measuring."""
MOST_CASE_BYTES = 200 * 2**20
"""Of the files of a case; preparing a larger one only to time steps would take too long."""
_CASES = 2
_TIMED_SECONDS = 2.0
_LAST_SHARE = 0.05
"""Of the budget, for reading, preparing and the last validation; an allowance."""


def plan_for(data: tuple[Sequence[Case], Fingerprint], settings: Settings, compute: Compute, budget: Budget) -> Plan:
    """The plan for the data, this machine and the budget.

    Raises:
        ConfigError, DataError: as for `make_plan`; a repeated run whose network does not go with the plan.
    """
    cases, fingerprint = data
    plan = make_plan(settings.name, fingerprint, settings, compute.device)
    if not budget.replay_features:
        return fit_width(plan, cases, settings, compute, budget)
    if settings.network.features or plan.network.features == budget.replay_features:
        return plan
    if len(budget.replay_features) != len(plan.network.features):
        raise ConfigError(
            f"{settings.training.schedule_file}: is of a network with the features {list(budget.replay_features)}, and the plan has "
            f"{len(plan.network.features)} stages: repeat it with the same settings and data, or with plan.file=RUN/plan.json"
        )
    network = replace(plan.network, features=budget.replay_features)
    return replace(plan, network=network, reasons=plan.reasons | {"features": "those of the run that is repeated"})


def fit_width(plan: Plan, cases: Sequence[Case], settings: Settings, compute: Compute, budget: Budget) -> Plan:
    """The plan with the widest network that gets steps enough, and the reason; the plan itself where width or steps are set by hand.

    Args:
        plan: with the usual width.
        cases: of the data set; the two smallest are prepared.
    """
    if not (_is_free(settings, budget) and _wider(plan)):
        return plan
    sizes = {case.name: sum(path.stat().st_size for path in case.images if path.exists()) for case in cases}
    chosen = sorted((case for case in cases if sizes[case.name] <= MOST_CASE_BYTES), key=lambda case: sizes[case.name])[:_CASES]
    prepared = [prepare_case(case, plan) for case in chosen]
    if not any(index > 0 for case in prepared for index in case.positions):
        return plan
    log.info("timing a few steps of wider networks on this machine")
    best, told = plan, []
    for factor, least in sorted(_wider(plan).items()):
        wider = widened(plan, factor)
        if not fits_memory(wider, settings, compute.device):
            break
        steps = _steps(wider, prepared, settings, compute, budget)
        first = wider.network.features[0]
        told.append(f"{first} gets about {steps} steps and must get {least}")
        if steps < least:
            break
        best = wider
    features = f"the widest of which the budget pays for enough steps: {'; '.join(told)}" if told else plan.reasons["features"]
    return replace(best, reasons=best.reasons | {"features": features})


def _wider(plan: Plan) -> dict[int, int]:
    return LEAST_STEPS.get((plan.network.name, plan.dims), {})


def _is_free(settings: Settings, budget: Budget) -> bool:
    """Whether time rules and the width is nobody's wish."""
    by_hand = settings.network.features or settings.network.target or settings.plan.file or settings.plan.rules != "segpipe"
    return budget.is_timed and budget.max_seconds >= SHORTEST_SECONDS and not by_hand and not settings.training.init


def _steps(plan: Plan, cases: Sequence[TrainingCase], settings: Settings, compute: Compute, budget: Budget) -> int:
    """How many steps of the plan's network fit into what is left of the budget."""
    network = build_trainable(plan).to(compute.device)
    seconds = step_seconds(network, cases, plan, settings, compute, _TIMED_SECONDS)
    left = budget.max_seconds * (1.0 - VALIDATION_SHARE - _LAST_SHARE) - budget.elapsed_seconds
    return max(0, int(left / seconds))


def widened(plan: Plan, factor: int) -> Plan:
    """The plan with `factor` times the features, none above what the deepest stage may have."""
    most = MOST_FEATURES[plan.dims]
    features = tuple(min(factor * width, most) for width in plan.network.features)
    return replace(plan, network=replace(plan.network, features=features))
