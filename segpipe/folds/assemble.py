"""The trainings of a cross-validation -> one model file: their mean, with the post-processing that the evidence speaks for.

Trainings of one plan become one network; where there are several plans (2D and 3D), the file holds a network for each.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from segpipe.errors import ModelError
from segpipe.folds.members import Member
from segpipe.inference import postprocess, thresholds
from segpipe.inference.postprocess import Rule
from segpipe.package import agreement
from segpipe.package.ensemble_network import EnsembleNetwork
from segpipe.package.export import export_model, export_parts
from segpipe.plan.plan import Plan
from segpipe.settings import Settings
from segpipe.training.checkpoint import network_weights, step_of
from segpipe.training.custom import build_trainable
from segpipe.training.document import PARTITION, hash_of, model_document, partition_of
from segpipe.training.run_folder import RunFolder, read_plan


@dataclass(frozen=True)
class Chosen:
    """Attributes:
    rules: of post-processing, in their order.
    offsets: of the outputs' scores; empty: none.
    """

    rules: tuple[Rule, ...] = ()
    offsets: tuple[float, ...] = ()


def assemble(run_dir: Path, members: Sequence[Member], settings: Settings, metrics: dict[str, Any], chosen: Chosen) -> Path:
    """Write `run_dir/model.ts`, proven equal to the eager mean of the members.

    Args:
        metrics: of the held-out predictions, for the model's document.
        chosen: what they speak for.

    Raises:
        ModelError: the members' plans differ, or a checkpoint is missing.
    """
    groups: dict[str, list[RunFolder]] = {}
    for member in members:
        groups.setdefault(member.configuration, []).append(RunFolder(member.root(run_dir)))
    parts = [_mean(runs, settings.network.target) for runs in groups.values()]
    runs = [RunFolder(member.root(run_dir)) for member in members]
    each = [model_document(run.root, parts[0][1], step_of(run.last)) for run in runs]
    document = each[0] | {"training": _training(each, runs), "metrics": metrics}
    document["provenance"] = _provenance(each) | {"config_sha256": hash_of(RunFolder(run_dir).config)}
    if any(groups):
        document["training"]["configurations"] = list(groups)
    document |= {postprocess.KEY: [rule.to_dict() for rule in chosen.rules]}
    document |= {thresholds.KEY: list(chosen.offsets)} if chosen.offsets else {}
    document[agreement.KEY] = agreement.least([one[agreement.KEY] for one in each])
    path = RunFolder(run_dir).model
    if len(parts) == 1:
        export_model(*parts[0], document, path)
    else:
        export_parts(parts, document, path)
    return path


def _training(each: Sequence[dict[str, Any]], runs: Sequence[RunFolder]) -> dict[str, Any]:
    """Of all trainings together: their steps and seconds are added up, where each tells them."""
    told = [one["training"] for one in each]
    seconds = [one["seconds"] for one in told]
    return {
        "steps": sum(one["steps"] for one in told),
        "seconds": None if None in seconds else round(sum(seconds), 3),
        "schedule": told[0]["schedule"],
        PARTITION: partition_of([run.splits for run in runs]),
        "members": len(told),
    }


def _provenance(each: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What is the same of all trainings; what differs, as the splits of folds do, is told of none."""
    first, *others = (one["provenance"] for one in each)
    return {key: value if all(other[key] == value for other in others) else None for key, value in first.items()}


def _mean(runs: Sequence[RunFolder], target: str) -> tuple[nn.Module, Plan]:
    """One network of the trainings of one plan.

    Raises:
        ModelError: the plans differ.
    """
    plans = [read_plan(run.plan) for run in runs]
    first = plans[0]
    for run, plan in zip(runs, plans, strict=True):
        if dataclasses.replace(plan, reasons={}) != dataclasses.replace(first, reasons={}):
            raise ModelError(f"{run.plan}: differs from {runs[0].plan}; the trainings of one model need one plan: train them anew together")
    networks = []
    for run in runs:
        network = build_trainable(first, target)
        network.load_state_dict(network_weights(run.last))
        networks.append(network.eval())
    return EnsembleNetwork(networks, bool(first.regions)), first
