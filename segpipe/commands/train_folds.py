"""`segpipe train folds=all`, `configurations=auto`, `training.seeds=3`: several trainings, what they say about cases they never saw, one
model of all."""

from __future__ import annotations

import json
import logging
import math
import signal
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from segpipe.commands.outcome import Outcome
from segpipe.config.compose import to_yaml
from segpipe.dataset.case import Case
from segpipe.dataset.fingerprint import Fingerprint
from segpipe.dataset.split import fold_numbers, make_split
from segpipe.errors import ConfigError
from segpipe.evaluation.folder import Evaluation
from segpipe.evaluation.report import to_csv, to_json
from segpipe.evaluation.summary import MEAN, Summaries, summarise
from segpipe.evaluation.table import case_table, remarks, summary_table
from segpipe.folds.assemble import assemble
from segpipe.folds.candidates import OUT_OF_FOLD
from segpipe.folds.choose import Decision, decide
from segpipe.folds.evidence import Choice, as_dict, evaluate_held_out
from segpipe.folds.launch import launch_all
from segpipe.folds.members import LEDGER, Member, member_settings, members_of, train_all
from segpipe.folds.thresholds import Moved
from segpipe.io.atomic import check_folder, write_text
from segpipe.package.model_file import document_text
from segpipe.plan.configurations import choose_configurations, named, plan_name, planned_in
from segpipe.plan.plan import Plan
from segpipe.settings import Settings
from segpipe.training.checks import check_settings
from segpipe.training.decide import plan_for
from segpipe.training.document import OUT_OF_FOLD as CHECKPOINT
from segpipe.training.run import DEFAULT_MINUTES, choose_compute, make_budget
from segpipe.training.run_folder import RunFolder, check_same_config
from segpipe.training.run_lock import sole
from segpipe.training.survey import survey

log = logging.getLogger(__name__)

SCORES, ROWS = "cross_validation.json", "cross_validation.csv"
_TOLERANCE_MM = 1.0
_RESAMPLES = 1000


def train_folds(settings: Settings, config_yaml: str) -> Outcome:
    """Train every configuration, fold and seed, predict what each held out, choose the post-processing, and write one model.

    The trainings are processes of their own, `segpipe train conf=RUN_DIR/fold_0.yaml`, so that each is what a single training is.

    Raises:
        ConfigError: the folder holds a run already and `training.resume` is not auto, or belongs to other settings.
        DataError: no folds can be made, or a training failed.
    """
    run_dir = Path(settings.run_dir or f"runs/{settings.name}")
    make_budget(settings)
    check_settings(settings)
    _open(run_dir, settings, config_yaml)
    cases, fingerprint = survey(settings)
    run_dir.mkdir(parents=True, exist_ok=True)
    with sole(run_dir):
        configurations = _write_plans(settings, (cases, fingerprint), run_dir)
        members = members_of(settings, fold_numbers(cases, settings.dataset) if settings.folds == "all" else [], configurations)
        _check_held_out(settings, members, cases, run_dir)
        _announce(settings, members)
        return _train_and_assemble(settings, config_yaml, run_dir, members, cases)


def _train_and_assemble(settings: Settings, config_yaml: str, run_dir: Path, members: Sequence[Member], cases: Sequence[Case]) -> Outcome:
    write_text(run_dir / "config.yaml", config_yaml)
    code = 0
    if settings.launch.cluster == "none":
        code = train_all(members, run_dir, lambda member: _train(settings, member, run_dir))
    else:
        launch_all(members, run_dir, settings, lambda member: _command(settings, member, run_dir))
    if code:
        return Outcome(
            [f"stopped  early; go on with the same command and training.resume=auto ({run_dir / LEDGER} knows what is done)"], code
        )
    made = decide(run_dir, members, cases, settings)
    evaluation = evaluate_held_out(made.found)
    summaries = summarise(evaluation)
    spread = _spread(run_dir, members)
    scores = to_json(evaluation, summaries, _TOLERANCE_MM, _RESAMPLES, 0) | {"members": spread} | _choices(made)
    write_text(run_dir / SCORES, document_text(scores) + "\n")
    write_text(run_dir / ROWS, to_csv(evaluation))
    model = assemble(run_dir, made.best.members, settings, _metrics(evaluation, summaries), made.chosen)
    return Outcome(
        [
            _spread_table(spread, made.held_out),
            *([_candidate_table(made)] if len(made.candidates) > 1 else []),
            summary_table(evaluation, summaries, _TOLERANCE_MM),
            case_table(evaluation),
            *remarks(evaluation, summaries),
            *([_moved_table(made.moved)] if made.moved else []),
            *([_rule_table(made.rules, made.found.plan)] if made.rules else []),
            f"model    {model} (the mean of {len(made.best.members)} networks)",
            f"run      {run_dir} ({SCORES}, {ROWS}, {OUT_OF_FOLD}/, {', '.join(member.name for member in members)})",
            f"next     segpipe predict {model} SCANS OUT",
        ]
    )


def _choices(made: Decision) -> dict[str, Any]:
    """What was tried and taken, as plain values."""
    named_ones = [one for one in made.candidates if one.name]
    return {
        "configurations": [{"name": one.name, "mean_dice": one.mean_dice, "taken": one is made.best} for one in named_ones],
        "thresholds": [one.to_dict() for one in made.moved],
        "postprocessing": [as_dict(rule) for rule in made.rules],
    }


def _write_plans(settings: Settings, data: tuple[Sequence[Case], Fingerprint], run_dir: Path) -> tuple[str, ...]:
    """One network can only be the mean of networks of one plan: that of each configuration is decided once, for all machines that train.

    Returns:
        The configurations; one with an empty name where there is one plan.
    """
    (cases, fingerprint), compute = data, choose_compute(settings)
    begun = (run_dir / LEDGER).exists()  # what an attempt left that never began counts for nothing
    configurations: tuple[str, ...] = ("",)
    if settings.configurations:
        # one that goes on keeps its own: on another machine `auto` might find others
        configurations = planned_in(run_dir) if begun else ()
        configurations = configurations or choose_configurations(
            settings, fingerprint, lambda: plan_for(fingerprint, settings, compute, make_budget(settings))
        )
    for configuration in configurations:
        path = run_dir / plan_name(configuration)
        if not (begun and path.exists()):
            write_text(path, plan_for(fingerprint, named(settings, configuration), compute, make_budget(settings), cases).to_json())
    return configurations


def _check_held_out(settings: Settings, members: Sequence[Member], cases: Sequence[Case], run_dir: Path) -> None:
    """Raises:
    ConfigError: there are several configurations, and no case that any training holds out.
    """
    if len({member.configuration for member in members}) == 1:
        return
    own = member_settings(settings, members[0], run_dir).dataset
    split = make_split(cases, own, settings.seed if own.split_seed < 0 else own.split_seed)
    if not split.held_out:
        raise ConfigError(f"no case is held out to choose among configurations ({split.note}): give more cases, or one configuration")


def _open(run_dir: Path, settings: Settings, config_yaml: str) -> None:
    check_folder(run_dir)
    run = RunFolder(run_dir)
    if not (run_dir / LEDGER).exists():
        if run.last.exists():
            raise ConfigError(f"{run_dir}: holds a single run; choose another run_dir=... for the folds")
        return
    if settings.training.resume != "auto":
        raise ConfigError(
            f"{run_dir}: holds folds already; choose another run_dir=..., go on with training.resume=auto, or delete the folder"
        )
    check_same_config(run.config, config_yaml)


def _announce(settings: Settings, members: Sequence[Member]) -> None:
    wanted = settings.training
    if wanted.max_steps or wanted.schedule_file:
        log.info("%d trainings: %s", len(members), ", ".join(member.name for member in members))
        return
    minutes = wanted.max_minutes or DEFAULT_MINUTES
    log.info("%d trainings of %g minutes each, %g minutes in all, and the predictions of what each holds out", *_times(members, minutes))


def _times(members: Sequence[Member], minutes: float) -> tuple[int, float, float]:
    return len(members), minutes, minutes * len(members)


def _command(settings: Settings, member: Member, run_dir: Path) -> list[str]:
    """What trains one member; its settings are written into a file, which is all that the process needs."""
    path = run_dir / f"{member.name}.yaml"
    write_text(path, to_yaml(member_settings(settings, member, run_dir)))
    return [sys.executable, "-m", "segpipe", "train", f"conf={path}"]


def _train(settings: Settings, member: Member, run_dir: Path) -> int:
    """One training as a process of its own; a signal reaches it as it reaches this one, and its end is waited for."""
    process = subprocess.Popen(_command(settings, member, run_dir))
    before = signal.signal(signal.SIGTERM, lambda *_: process.send_signal(signal.SIGTERM))
    try:
        while True:
            try:
                code = process.wait()
            except KeyboardInterrupt:
                continue  # the terminal sent it to the training, too, which ends in order
            return code if code >= 0 else 128 - code
    finally:
        signal.signal(signal.SIGTERM, before)


def _spread(run_dir: Path, members: Sequence[Member]) -> list[dict[str, Any]]:
    """What each training's own validation said."""
    rows = []
    for member in members:
        told = json.loads(RunFolder(member.root(run_dir)).validation.read_text(encoding="utf-8"))
        rows.append(
            {
                "member": member.name,
                "configuration": member.configuration,
                "fold": member.fold,
                "seed": member.seed,
                "cases": told["cases"],
                "mean_dice": told["mean_dice"],
            }
        )
    return rows


def _spread_table(rows: Sequence[dict[str, Any]], held_out: bool) -> Table:
    cases = "what it held out" if held_out else "what it was trained on (nothing is held out)"
    table = Table(title=f"Each training on {cases}", title_justify="left", title_style="bold")
    for column in ("training", "cases", "mean Dice"):
        table.add_column(column, justify="left" if column == "training" else "right")
    values: dict[str, list[float]] = {}
    for row in rows:
        value = math.nan if row["mean_dice"] is None else float(row["mean_dice"])
        table.add_row(row["member"], str(row["cases"]), f"{value:.4f}")
        values.setdefault(row["configuration"], []).append(value)
    for configuration, own in values.items():
        if len(own) > 1:
            what = f"{configuration}: mean and standard deviation" if configuration else "mean and standard deviation"
            table.add_row(what, "", f"{statistics.fmean(own):.4f} +- {statistics.stdev(own):.4f}")
    return table


def _candidate_table(made: Decision) -> Table:
    table = Table(title="Configurations: Dice on what they held out", title_justify="left", title_style="bold")
    for column in ("configuration", "networks", "mean Dice", "taken"):
        table.add_column(column, justify="left" if column in ("configuration", "taken") else "right")
    for one in made.candidates:
        table.add_row(one.name, str(len(one.members)), f"{one.mean_dice:.4f}", "yes" if one is made.best else "no")
    return table


def _moved_table(tried: Sequence[Moved]) -> Table:
    table = Table(title="Thresholds: out-of-fold Dice at the best odds of each output", title_justify="left", title_style="bold")
    for column in ("output", "odds", "before", "after", "taken"):
        table.add_column(column, justify="left" if column in ("output", "taken") else "right")
    for one in tried:
        taken = f"no: {one.refusal}" if one.refusal else "yes"
        table.add_row(one.output, f"x {math.exp(one.offset):.2g}", f"{one.before:.4f}", f"{one.after:.4f}", taken)
    return table


def _rule_table(choices: Sequence[Choice], plan: Plan) -> Table:
    table = Table(title="Post-processing: out-of-fold Dice before and after", title_justify="left", title_style="bold")
    for column in ("label", "rule", "before", "after", "taken"):
        table.add_column(column, justify="right" if column in ("before", "after") else "left")
    for choice in choices:
        name = plan.labels[choice.rule.label].name if choice.rule.label else "all labels together"
        minimum = f"at least {1000 * choice.rule.minimum_ml:.0f} pixels" if plan.pictures else f"at least {choice.rule.minimum_ml:.3g} ml"
        rule = "largest component" if choice.rule.keep_largest else minimum
        table.add_row(name, rule, f"{choice.before:.4f}", f"{choice.after:.4f}", f"no: {choice.refusal}" if choice.refusal else "yes")
    return table


def _metrics(evaluation: Evaluation, summaries: Summaries) -> dict[str, Any]:
    dice = {name: summaries[str(value)]["dice"].mean for value, name in evaluation.labels.items()}
    return {"cases": len(evaluation.cases), "dice": dice, "mean_dice": summaries[MEAN]["dice"].mean, "checkpoint": CHECKPOINT}
