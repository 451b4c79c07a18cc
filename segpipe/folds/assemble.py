"""The trainings of a cross-validation -> one model file: their mean, with the post-processing that the evidence speaks for."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from segpipe.errors import ModelError
from segpipe.folds.members import Member
from segpipe.inference.postprocess import KEY, Rule
from segpipe.package.ensemble_network import EnsembleNetwork
from segpipe.package.export import export_model
from segpipe.settings import Settings
from segpipe.training.checkpoint import network_weights, step_of
from segpipe.training.custom import build_trainable
from segpipe.training.document import model_document
from segpipe.training.run_folder import RunFolder, read_plan


def assemble(run_dir: Path, members: Sequence[Member], settings: Settings, metrics: dict[str, Any], rules: Sequence[Rule]) -> Path:
    """Write `run_dir/model.ts`, proven equal to the eager mean of the members.

    Args:
        metrics: of the held-out predictions, for the model's document.

    Raises:
        ModelError: the members' plans differ, or a checkpoint is missing.
    """
    runs = [RunFolder(member.root(run_dir)) for member in members]
    plans = [read_plan(run.plan) for run in runs]
    first = plans[0]
    for run, plan in zip(runs, plans, strict=True):
        if dataclasses.replace(plan, reasons={}) != dataclasses.replace(first, reasons={}):
            raise ModelError(f"{run.plan}: differs from {runs[0].plan}; the trainings of one model need one plan: train them anew together")
    networks = []
    for run in runs:
        network = build_trainable(first, settings.network.target)
        network.load_state_dict(network_weights(run.last))
        networks.append(network.eval())
    document = model_document(runs[0].root, first, step_of(runs[0].last))
    document["training"]["members"] = len(members)
    document |= {"metrics": metrics, KEY: [rule.to_dict() for rule in rules]}
    path = RunFolder(run_dir).model
    export_model(EnsembleNetwork(networks, bool(first.regions)), first, document, path)
    return path
