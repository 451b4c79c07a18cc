"""The plan of a training: made for the data and the settings, sized for the time, or with the widths of the run that is repeated."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import replace

import torch

from segpipe.dataset.case import Case
from segpipe.dataset.fingerprint import Fingerprint
from segpipe.errors import ConfigError
from segpipe.package.precision import Compute
from segpipe.plan.plan import Plan
from segpipe.plan.planner import make_plan
from segpipe.plan.size import size_for
from segpipe.settings import Settings
from segpipe.training.callbacks import EXPORT_SECONDS, VALIDATION_SHARE
from segpipe.training.custom import build_trainable
from segpipe.training.data import prepare_case
from segpipe.training.pace import TimedSteps, step_seconds_within
from segpipe.training.schedule import Budget

log = logging.getLogger(__name__)

_PROBED = 3
"""Cases that the measured steps draw their patches from."""
_MEASURE_SHARE = 0.02
"""Of a budget, that the steps of one size may take, the first one in any case."""
_LAST_SHARE = 0.03
"""Of a budget, for the last validation."""


def plan_for(fingerprint: Fingerprint, settings: Settings, compute: Compute, budget: Budget, cases: Sequence[Case] = ()) -> Plan:
    """The plan; a run that repeats an earlier one's schedule has that one's network and batch.

    Args:
        cases: annotated ones; with them, and a budget in minutes, width and batch are chosen by steps that are measured here.

    Raises:
        ConfigError, DataError: as for `make_plan`; a repeated run whose network does not go with the plan.
    """
    plan = make_plan(settings.name, fingerprint, settings, compute.device)
    if cases and budget.max_seconds > budget.elapsed_seconds and _is_free(settings):
        return _sized(plan, settings, compute, budget, cases)
    if budget.replay_batch and not settings.plan.batch_size and plan.batch_size != budget.replay_batch:
        plan = replace(plan, batch_size=budget.replay_batch, reasons=plan.reasons | {"batch_size": "that of the run that is repeated"})
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
    """Whether nothing but the budget has a say in the widths, and the steps are taken here, by this process alone."""
    by_hand = settings.network.features or settings.network.target or settings.plan.file or settings.training.init
    elsewhere = settings.launch.cluster != "none" or settings.training.devices > 1
    return settings.plan.fit_budget and settings.plan.rules == "segpipe" and not by_hand and not elsewhere


def _sized(plan: Plan, settings: Settings, compute: Compute, budget: Budget, cases: Sequence[Case]) -> Plan:
    """The plan with the width and the batch for the budget."""
    log.info("measuring a few steps on this machine, to choose the width of the network")
    some = sorted(cases, key=lambda case: case.name)
    eager = replace(settings, training=replace(settings.training, compile=False))  # to build code for every size would take the budget
    begun = time.perf_counter()
    prepared = [prepare_case(case, plan) for case in some[:: max(1, len(some) // _PROBED)][:_PROBED]]
    preparing = (time.perf_counter() - begun) / len(prepared) * len(cases) / max(1, torch.get_num_threads())

    def steps_of(one: Plan) -> int:
        network = build_trainable(one, "").to(compute.device)
        seconds = step_seconds_within(TimedSteps(network, prepared, one, eager, compute), _MEASURE_SHARE * budget.max_seconds)
        left = budget.max_seconds * (1.0 - _LAST_SHARE) - budget.elapsed_seconds - preparing - EXPORT_SECONDS
        return max(0, int(left * (1.0 - VALIDATION_SHARE) / seconds))

    return size_for(plan, steps_of, bool(settings.plan.batch_size))
