"""The commands that take settings as words: they lead from data to a model."""

from __future__ import annotations

from typing import Annotated

import typer

from segpipe.cli.output import show
from segpipe.commands.outcome import Outcome

Words = Annotated[list[str] | None, typer.Argument(metavar="SETTING=VALUE", show_default=False)]
Cfg = Annotated[bool, typer.Option("--cfg", help="Print all settings as YAML and stop.")]


def train(
    words: Words = None,
    multirun: Annotated[bool, typer.Option("-m", "--multirun", help="One run for each combination of several values.")] = False,
    cfg: Cfg = False,
) -> Outcome:
    """Train a network on a data set and write its model file.

    \b
    segpipe train conf=hippocampus dataset.root=Task04_Hippocampus training.max_minutes=20
    segpipe train conf=prostate dataset.root=scans network=vnet run_dir=runs/zones
    segpipe train conf=prostate dataset.root=scans folds=all configurations=auto
    segpipe train -m conf=prostate dataset.root=scans network=unet,vnet seed=1,2,3
    """
    if multirun:
        return _train_all(words or [], cfg)
    from segpipe.config.compose import compose_settings

    composed = compose_settings(words or [])
    if cfg:
        return Outcome([composed.yaml.rstrip()])
    from segpipe.commands.train import train as run

    return run(composed.settings, composed.yaml)


def _train_all(words: list[str], cfg: bool) -> Outcome:
    """Each run of a sweep; the worst exit code. A signal ends the sweep, an error only its run."""
    from segpipe.config.compose import Composed
    from segpipe.config.sweep import sweep

    codes: list[int] = []

    def run(composed: Composed) -> None:
        if cfg:
            show(Outcome([f"# run_dir {composed.settings.run_dir}", composed.yaml.rstrip()]))
            return
        from segpipe.commands.train import train as run_one

        try:
            outcome = run_one(composed.settings, composed.yaml)
        finally:
            _leave_ranks()
        show(outcome)
        codes.append(outcome.exit_code)
        if outcome.exit_code >= 128:  # ended by a signal
            raise SystemExit(outcome.exit_code)

    sweep(words, "train", run)
    return Outcome([], max(codes, default=0))


def _leave_ranks() -> None:
    """Close the connection to a run's DDP ranks, which Lightning keeps for the life of the process."""
    from torch import distributed

    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


def plan(words: Words = None, cfg: Cfg = False) -> Outcome:
    """Show what training would do with a data set, and why; out=FILE.json writes it.

    \b
    segpipe plan conf=prostate dataset.root=scans
    """
    from segpipe.config.compose import compose_settings

    composed = compose_settings(words or [])
    if cfg:
        return Outcome([composed.yaml.rstrip()])
    from segpipe.commands.plan import plan as run

    return run(composed.settings)


def preview(words: Words = None, cfg: Cfg = False) -> Outcome:
    """Write one PNG of patches as they are and as augmentation makes them.

    \b
    segpipe preview conf=prostate dataset.root=scans augment=full out=preview.png
    """
    from segpipe.config.compose import compose_settings

    composed = compose_settings(words or [])
    if cfg:
        return Outcome([composed.yaml.rstrip()])
    from segpipe.commands.preview import preview as run

    return run(composed.settings)
