"""`segpipe export`: a run folder, or a model file -> model files, proved again."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import yaml
from torch import nn

from segpipe.bundle.contents import is_package
from segpipe.bundle.load import find_model, is_label
from segpipe.commands.outcome import Outcome
from segpipe.config.check import to_settings
from segpipe.dataset.load import load_dataset
from segpipe.dataset.open import open_case
from segpipe.dataset.split import load_split
from segpipe.errors import ConfigError, ModelError, SegpipeError
from segpipe.io.atomic import check_file
from segpipe.network.build import build_network
from segpipe.package.ensemble_network import EnsembleNetwork
from segpipe.package.export import export_kinds, paths_of
from segpipe.package.model_file import Kind, load_models
from segpipe.package.proof import ProofCase, prove
from segpipe.plan.plan import Plan
from segpipe.prepare.prepare import prepare
from segpipe.training.checkpoint import network_weights, step_of
from segpipe.training.custom import build_trainable
from segpipe.training.document import model_document
from segpipe.training.run_folder import RunFolder, read_plan

log = logging.getLogger(__name__)

_MADE = ("format", "format_version", "segpipe_version", "torch_version", "task", "plan", "labels", "proof")
"""Keys of a document that an export sets itself."""


def export(source: Path, out: Path | None, kinds: Sequence[Kind] = ("ts",)) -> Outcome:
    """Export a network in each of `kinds`, prove every file, and write them when all are proved.

    Args:
        source: folder of a training, a package, or a TorchScript model file of one plan with a network of segpipe's own.
        out: file to write, or of several kinds their name without ending; None: beside `source`, `model` in a run folder; of a package,
            to which nothing may be added, it must be given.

    Raises:
        ConfigError: no run folder, or a file cannot be written.
        ModelError: no checkpoint, weights that do not fit the plan, a file that differs from the network, or a package is missing.
    """
    if not source.exists() and not is_label(source):
        raise ConfigError(f"{source}: no such file or folder; give the folder of a run that segpipe train made, or a model file")
    if is_package(source) or is_label(source):
        if out is None:
            raise ConfigError(f"{source} is a package, to which nothing can be added; must say where to write: --out model.{kinds[0]}")
        source = find_model(source).path
    name = (RunFolder(source).model if source.is_dir() else source).with_suffix(f".{kinds[0]}")
    paths = paths_of(kinds, out or name)
    for path in paths.values():
        check_file(path)
    if source.is_dir():
        network, plan, document = _of_run(RunFolder(source))
        case = _held_out_case(RunFolder(source), plan)
    else:
        network, plan, document = _of_file(source)
        case = None
    proofs = export_kinds(network, plan, document, paths, case)
    shown: list[Any] = []
    for kind, path in paths.items():
        shown += [f"model    {path}", f"         {_told(proofs[kind])}"]
    return Outcome([*shown, f"next     segpipe predict {next(iter(paths.values()))} SCANS OUT"])


def _told(proof: dict[str, Any]) -> str:
    shapes = ", ".join("x".join(map(str, shape["shape"])) for shape in proof["shapes"])
    allowed = f"allowed {proof['tolerance']:g}, and as much of the largest logit"
    same = f"proved equal to the network to {proof['largest_difference']:.1e} ({allowed}) on inputs of {shapes}"
    dice = ", ".join(f"{name} {value:.3f}" for name, value in proof["case"]["dice"].items())
    return f"{same}; Dice on a {proof['case']['kind']}: {dice}"


def _of_run(folder: RunFolder) -> tuple[nn.Module, Plan, dict[str, Any]]:
    plan = read_plan(folder.plan)
    network = build_trainable(plan, _target(folder.config))
    try:
        network.load_state_dict(network_weights(folder.last))
    except RuntimeError as error:
        raise ModelError(f"{folder.last}: its weights do not fit {folder.plan}: both must be of the same run") from error
    return network, plan, model_document(folder.root, plan, step_of(folder.last))


def _of_file(path: Path) -> tuple[nn.Module, Plan, dict[str, Any]]:
    """The network of a model file, built anew from its plan, with its weights.

    TorchScript cannot be exported again by torch (2.13), so that the class is needed, which segpipe has of its own networks.

    Raises:
        ModelError: another kind of file, several plans, a network of the user's own, or one that gives other numbers when it is built anew.
    """
    models = load_models(path)
    model = models[0]
    if model.kind != "ts" or len(models) > 1:
        what = f"holds networks of {len(models)} plans" if len(models) > 1 else f"is a {model.kind} file"
        raise ModelError(f"{path}: {what}; other formats are made of a model.ts of one plan, or of the folder of its run: give that")
    module = cast(nn.Module, model.network)
    weights = module.state_dict()
    members = {name.split(".")[1] for name in weights if name.startswith("networks.")}
    plan = model.plan
    networks = [build_network(plan.network, len(plan.channels), plan.outputs, plan.dims) for _ in range(max(1, len(members)))]
    network = EnsembleNetwork(networks, bool(plan.regions)) if members else networks[0]
    try:
        network.load_state_dict(weights)
        prove(module, network.eval(), plan)
    except (RuntimeError, ModelError) as error:
        told = "its network is not one that this segpipe builds from its plan (a network of your own, or of another version)"
        raise ModelError(f"{path}: {told}: give the folder of its run") from error
    return network, plan, {key: value for key, value in model.document.items() if key not in _MADE}


def _held_out_case(folder: RunFolder, plan: Plan) -> ProofCase | None:
    """The first held-out case of the run, prepared; None where its data set is not here."""
    try:
        settings = to_settings(_config(folder.config))
        cases = {case.name: case for case in load_dataset(settings.dataset).cases}
        split = load_split(folder.splits)
        first = next((cases[name] for name in split.validation if name in cases and split.held_out), None)
        if first is None:
            return None
        return ProofCase("held-out case", prepare(open_case(first).image, plan).image)
    except SegpipeError as error:
        log.info("the proof uses a synthetic case, because the data set of the run cannot be read: %s", error)
        return None


def _config(path: Path) -> dict[str, Any]:
    try:
        values: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: cannot be read: restore it, or delete it if the run has no network of its own") from error
    return values if isinstance(values, dict) else {}


def _target(config: Path) -> str:
    """Import path of the user's own network class, where the run was trained with one."""
    network = _config(config).get("network")
    return str(network.get("target") or "") if isinstance(network, dict) else ""
