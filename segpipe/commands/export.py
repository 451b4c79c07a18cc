"""`segpipe export`: a run folder -> its model file, made again from the last checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from segpipe.commands.outcome import Outcome
from segpipe.errors import ConfigError, ModelError
from segpipe.io.atomic import check_file
from segpipe.package.export import export_model
from segpipe.training.checkpoint import network_weights, step_of
from segpipe.training.custom import build_trainable
from segpipe.training.document import model_document
from segpipe.training.run_folder import RunFolder, read_plan


def export(run: Path, out: Path | None) -> Outcome:
    """Script the run's network, prove it, and write the model file.

    Args:
        run: folder of a training.
        out: model file to write; None: `model.ts` in the run folder.

    Raises:
        ConfigError: no run folder, or `out` cannot be written.
        ModelError: no checkpoint, weights that do not fit the plan, or a script that differs from the network.
    """
    if not run.is_dir():
        what = "is a file" if run.exists() else "no such folder"
        raise ConfigError(f"{run}: {what}; give the folder of a run that segpipe train made")
    folder = RunFolder(run)
    path = out or folder.model
    check_file(path)
    plan = read_plan(folder.plan)
    network = build_trainable(plan, _target(folder.config))
    try:
        network.load_state_dict(network_weights(folder.last))
    except RuntimeError as error:
        raise ModelError(f"{folder.last}: its weights do not fit {folder.plan}: both must be of the same run") from error
    proof = export_model(network, plan, model_document(run, plan, step_of(folder.last)), path)
    shapes = ", ".join("x".join(map(str, shape["shape"])) for shape in proof["shapes"])
    shown = f"proved equal to the network to {proof['largest_difference']:.1e} (allowed {proof['tolerance']:g}) on inputs of {shapes}"
    return Outcome([f"model    {path}", shown, f"next     segpipe predict {path} SCANS OUT"])


def _target(config: Path) -> str:
    """Import path of the user's own network class, where the run was trained with one."""
    try:
        values: Any = yaml.safe_load(config.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return ""
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"{config}: cannot be read: restore it, or delete it if the run has no network of its own") from error
    network = values.get("network") if isinstance(values, dict) else None
    return str(network.get("target") or "") if isinstance(network, dict) else ""
