"""The plan of a training: made for the data and the settings, or with the widths of the run that is repeated."""

from __future__ import annotations

from dataclasses import replace

from segpipe.dataset.fingerprint import Fingerprint
from segpipe.errors import ConfigError
from segpipe.plan.plan import Plan
from segpipe.plan.planner import make_plan
from segpipe.settings import Settings
from segpipe.training.schedule import Budget


def plan_for(fingerprint: Fingerprint, settings: Settings, device: str, budget: Budget) -> Plan:
    """The plan; a run that repeats an earlier one's schedule has that one's network.

    Args:
        device: `cpu` or `cuda`.

    Raises:
        ConfigError, DataError: as for `make_plan`; a repeated run whose network does not go with the plan.
    """
    plan = make_plan(settings.name, fingerprint, settings, device)
    if not budget.replay_features or settings.network.features or plan.network.features == budget.replay_features:
        return plan
    if len(budget.replay_features) != len(plan.network.features):
        raise ConfigError(
            f"{settings.training.schedule_file}: is of a network with the features {list(budget.replay_features)}, and the plan has "
            f"{len(plan.network.features)} stages: repeat it with the same settings and data, or with plan.file=RUN/plan.json"
        )
    network = replace(plan.network, features=budget.replay_features)
    return replace(plan, network=network, reasons=plan.reasons | {"features": "those of the run that is repeated"})
