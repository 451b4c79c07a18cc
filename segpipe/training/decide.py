"""The plan of a training: made for the data and the settings, sized for the time, or with the widths of the run that is repeated."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

from segpipe.dataset.case import Case
from segpipe.dataset.fingerprint import Fingerprint
from segpipe.errors import ConfigError
from segpipe.package.precision import Compute
from segpipe.plan.plan import Plan
from segpipe.plan.planner import MOST_FEATURES, make_plan
from segpipe.plan.size import SMALLEST_BATCH, Size, size_for
from segpipe.settings import Settings
from segpipe.training.callbacks import EXPORT_SECONDS, VALIDATION_SHARE
from segpipe.training.custom import build_trainable
from segpipe.training.data import TrainingCase, prepare_case
from segpipe.training.pace import step_seconds
from segpipe.training.schedule import Budget

log = logging.getLogger(__name__)

_PROBED = 3
"""Cases that the measured steps draw their patches from."""
_LEAST_SECONDS = 0.0
"""For the steps of one width, beyond the few that are taken at least."""
_LAST_SHARE = 0.05
"""Of a budget, for preparing the cases and the last validation."""


def plan_for(fingerprint: Fingerprint, settings: Settings, compute: Compute, budget: Budget, cases: Sequence[Case] = ()) -> Plan:
    """The plan; a run that repeats an earlier one's schedule has that one's network.

    Args:
        cases: annotated ones; with them, and a budget in minutes, the width is chosen by steps that are measured here.

    Raises:
        ConfigError, DataError: as for `make_plan`; a repeated run whose network does not go with the plan.
    """
    plan = make_plan(settings.name, fingerprint, settings, compute.device)
    if cases and budget.max_seconds > budget.elapsed_seconds and _is_free(settings):
        return _sized(plan, fingerprint, settings, compute, budget, cases)
    if not budget.replay_features or settings.network.features or plan.network.features == budget.replay_features:
        return plan
    if len(budget.replay_features) != len(plan.network.features):
        raise ConfigError(
            f"{settings.training.schedule_file}: is of a network with the features {list(budget.replay_features)}, and the plan has "
            f"{len(plan.network.features)} stages: repeat it with the same settings and data, or with plan.file=RUN/plan.json"
        )
    network = replace(plan.network, features=budget.replay_features)
    return replace(plan, network=network, reasons=plan.reasons | {"features": "those of the run that is repeated"})


def _is_free(settings: Settings) -> bool:
    """Whether nothing but the budget has a say in the widths."""
    by_hand = settings.network.features or settings.network.target or settings.plan.file or settings.training.init
    return settings.plan.fit_budget and settings.plan.rules == "segpipe" and not by_hand


def _sized(plan: Plan, fingerprint: Fingerprint, settings: Settings, compute: Compute, budget: Budget, cases: Sequence[Case]) -> Plan:
    """The plan with the width for the budget."""
    log.info("measuring a few steps on this machine, to choose the width of the network")
    some = sorted(cases, key=lambda case: case.name)
    prepared = [prepare_case(case, plan) for case in some[:: max(1, len(some) // _PROBED)][:_PROBED]]

    def with_size(size: Size) -> Plan | None:
        features = [min(max(1, int(size.width * width)), MOST_FEATURES[plan.dims]) for width in plan.network.features]
        batch = max(SMALLEST_BATCH, int(size.batch * plan.batch_size)) if size.batch < 1 else plan.batch_size
        if size.batch < 1 and (batch >= plan.batch_size or settings.plan.batch_size):
            return None
        wanted = replace(settings, network=replace(settings.network, features=features))
        other = make_plan(settings.name, fingerprint, wanted, compute.device)
        same = (other.patch_size, other.batch_size) == (plan.patch_size, plan.batch_size)
        return replace(other, batch_size=batch) if same else None

    def steps_of(one: Plan) -> int:
        return _steps(one, prepared, settings, compute, budget)

    return size_for(plan, with_size, steps_of)


def _steps(plan: Plan, prepared: Sequence[TrainingCase], settings: Settings, compute: Compute, budget: Budget) -> int:
    """How many fit into what is left of the budget, as a few of them take."""
    network = build_trainable(plan, "").to(compute.device)
    seconds = step_seconds(network, prepared, plan, settings, compute, _LEAST_SECONDS)
    left = budget.max_seconds * (1.0 - _LAST_SHARE) - budget.elapsed_seconds - EXPORT_SECONDS
    return max(0, int(left * (1.0 - VALIDATION_SHARE) / seconds))
