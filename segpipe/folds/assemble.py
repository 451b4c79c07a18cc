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
from segpipe.training.document import model_document
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
    first = RunFolder(members[0].root(run_dir))
    document = model_document(first.root, parts[0][1], step_of(first.last))
    document["training"]["members"] = len(members)
    if any(groups):
        document["training"]["configurations"] = list(groups)
    document |= {"metrics": metrics, postprocess.KEY: [rule.to_dict() for rule in chosen.rules]}
    document |= {thresholds.KEY: list(chosen.offsets)} if chosen.offsets else {}
    roots = [RunFolder(member.root(run_dir)) for member in members]
    document[agreement.KEY] = agreement.least([model_document(run.root, parts[0][1], step_of(run.last))[agreement.KEY] for run in roots])
    path = RunFolder(run_dir).model
    if len(parts) == 1:
        export_model(*parts[0], document, path)
    else:
        export_parts(parts, document, path)
    return path


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
