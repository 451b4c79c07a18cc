"""A plan from a file: what `segpipe plan out=plan.json` wrote, perhaps edited, checked against the data that it is to be used on."""

from __future__ import annotations

import json
from pathlib import Path

from segpipe.dataset.fingerprint import Fingerprint
from segpipe.errors import ConfigError, ModelError
from segpipe.plan.plan import Plan, plan_from_dict

_CURE = "make it again with `segpipe plan ... out=FILE.json`, and edit that"


def plan_of_file(path: Path, data: Fingerprint) -> Plan:
    """The plan in `path`.

    Raises:
        ConfigError: the file cannot be read, is no plan, or does not fit the data's channels, labels or kind.
    """
    try:
        plan = plan_from_dict(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise ConfigError(f"plan.file is {path}, which cannot be read ({error.strerror}): {_CURE}") from error
    except (ValueError, ModelError) as error:
        raise ConfigError(f"plan.file is {path}, which is no plan ({error}): {_CURE}") from error
    _check_network(path, plan)
    channels, wanted = [channel.name for channel in plan.channels], [channel.name for channel in data.channels]
    if len(channels) != len(wanted):
        raise ConfigError(
            f"plan.file is {path}, for {len(channels)} channel(s) ({', '.join(channels)}); the data has {', '.join(wanted)}: {_CURE}"
        )
    unknown = sorted(set(data.label_values) - {label.value for label in plan.labels})
    if unknown:
        raise ConfigError(f"plan.file is {path}, without the label value(s) {', '.join(map(str, unknown))} of the data: {_CURE}")
    if plan.pictures != data.picture:
        raise ConfigError(f"plan.file is {path}, for {'pictures' if plan.pictures else 'volumes'}; the data is the other kind: {_CURE}")
    return plan


def _check_network(path: Path, plan: Plan) -> None:
    """What the planner takes care of by itself, and a hand may spoil."""
    network = plan.network
    stages = len(network.features)
    if not (stages == len(network.kernels) == len(network.strides) and stages):
        raise ConfigError(f"plan.file is {path}: features, kernels and strides of its network must have one entry for each stage")
    for key in ("kernels", "strides"):
        if any(len(stage) != plan.dims for stage in getattr(network, key)):
            raise ConfigError(f"plan.file is {path}: each stage of network.{key} must have {plan.dims} numbers")
    if min(plan.patch_size) < 1 or plan.batch_size < 1 or (plan.dims == 2 and plan.patch_size[2] != 1):
        raise ConfigError(f"plan.file is {path}: patch_size and batch_size must be 1 or more, and a 2D patch has 1 along its last axis")
    if sorted(plan.axes) != [0, 1, 2]:
        raise ConfigError(f"plan.file is {path}: axes is {list(plan.axes)}; must be 0, 1 and 2 in some order")
    if plan.spacing_mm is not None and (min(plan.spacing_mm) < 0 or 0 in plan.spacing_mm[: plan.dims]):
        raise ConfigError(f"plan.file is {path}: spacing_mm is {list(plan.spacing_mm)}; must be above 0 along the axes of the network")
