"""`segpipe train`: from a data set to a model file."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

from rich.table import Table

from segpipe.bundle.contents import is_package
from segpipe.bundle.load import find_model, is_label
from segpipe.commands.outcome import Outcome
from segpipe.settings import Settings
from segpipe.training.finish import Finished
from segpipe.training.run import run_training

_EXIT_CODES = {"SIGINT": 130, "SIGTERM": 143}


def train(settings: Settings, config_yaml: str) -> Outcome:
    """Train, validate, export; with folds, configurations or seeds several times.

    Exit code 130 or 143 when a signal ended it early (the model is usable all the same).
    """
    settings = _without_package(settings)
    if settings.folds == "all" or settings.configurations or settings.training.seeds > 1:
        from segpipe.commands.train_folds import train_folds

        return train_folds(settings, config_yaml)
    done = run_training(settings, config_yaml)
    if done is None:
        return Outcome()
    return Outcome([_table(done), *_where(done)], _EXIT_CODES.get(done.signal, 0))


def _without_package(settings: Settings) -> Settings:
    """Those of a training that begins with the model file of the package, or of the `NAME@VERSION`, that `training.init` names.

    Raises:
        ConfigError, ModelError: see `find_model`.
    """
    init = settings.training.init
    if not init or not (is_label(init) or is_package(Path(init))):
        return settings
    return replace(settings, training=replace(settings.training, init=str(find_model(init).path)))


def _table(done: Finished) -> Table:
    cases = f"{done.cases} held-out case(s)" if done.held_out else f"{done.cases} case(s) that it was trained on (nothing is held out)"
    title = f"Dice on {cases} after {done.steps} steps"
    table = Table(title=title, title_justify="left", min_width=len(title))  # a title is broken to the width of its table
    table.add_column("label")
    table.add_column("mean Dice", justify="right")
    for name, value in [*done.dice.items(), ("mean", done.mean_dice)]:
        table.add_row(name, "n/a" if math.isnan(value) else f"{value:.4f}")
    return table


def _where(done: Finished) -> list[str]:
    lines = [f"model    {done.model}", f"run      {done.root} (curves.png, overlays/, metrics.csv, validation.json)"]
    if done.early:
        lines.append("stopped  early; go on with the same command and training.resume=auto")
    lines.append(f"next     segpipe predict {_quoted(done.model)} SCANS OUT")
    return lines


def _quoted(path: Path) -> str:
    text = str(path)
    return f"'{text}'" if " " in text else text
