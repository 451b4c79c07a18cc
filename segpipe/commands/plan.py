"""`segpipe plan`: what training would do, and why, without doing it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from segpipe.commands.outcome import Outcome
from segpipe.dataset.case import Case
from segpipe.dataset.fingerprint import Fingerprint
from segpipe.dataset.split import make_split
from segpipe.errors import ConfigError
from segpipe.io.atomic import write_text
from segpipe.plan.configurations import auto_configurations, choose_configurations, named
from segpipe.plan.memory import plan_gb
from segpipe.plan.plan import Plan
from segpipe.settings import Settings
from segpipe.training.checks import check_settings
from segpipe.training.decide import plan_for
from segpipe.training.estimate import Estimate, estimate
from segpipe.training.run import choose_compute, make_budget
from segpipe.training.schedule import Budget
from segpipe.training.seen import advice, times_seen
from segpipe.training.survey import survey

log = logging.getLogger(__name__)


def plan(settings: Settings) -> Outcome:
    """Audit the data, decide, show the decisions with their reasons and what they will cost; `out=FILE.json` writes the plan.

    Raises:
        ConfigError: `out` is one file, and several configurations are planned.
    """
    check_settings(settings)
    budget, compute = make_budget(settings), choose_compute(settings)
    cases, fingerprint = survey(settings)
    used_seconds = budget.elapsed_seconds
    configurations = choose_configurations(settings, fingerprint, lambda: plan_for(fingerprint, settings, compute, budget)) or ("",)
    if settings.out and len(configurations) > 1:
        raise ConfigError(f"out is {settings.out}, one file, and there are {len(configurations)} plans: name one in configurations=[...]")
    shown: list[object] = []
    for configuration in configurations:
        own = named(settings, configuration)
        made = plan_for(fingerprint, own, compute, budget, cases)
        table = plan_table(made, configuration)
        if not configuration and (auto := auto_configurations(settings, fingerprint, made)):
            table.add_row("configurations", ", ".join(auto[0]), f"what configurations=auto trains: {auto[1]}")
        log.info("measuring a few steps on this machine")
        fresh = make_budget(settings)  # each pays for reading the data, and none for measuring the others
        fresh.used_seconds = used_seconds
        found = estimate(cases, made, own, compute, fresh)
        shown += [table, _estimate_line(found, fresh)]
        if told := _advice(settings, made, fingerprint, found.steps, cases):
            shown.append(f"advice   {told}")
        if settings.out:
            write_text(Path(settings.out), made.to_json())
            shown.append(f"plan     {settings.out}")
    return Outcome(shown)


def _advice(settings: Settings, made: Plan, data: Fingerprint, steps: int, cases: Sequence[Case]) -> str:
    """On a training of one network that sees its cases too often."""
    effects = settings.augment
    strong = effects.rotate.probability + effects.scale.probability >= 1  # hardly a patch comes as it is
    if settings.folds == "all" or settings.training.seeds > 1 or strong:
        return ""
    drawn = settings.dataset.split_seed
    split = make_split(cases, settings.dataset, settings.seed if drawn < 0 else drawn)
    return advice(times_seen(made, data, steps, len(split.train), settings.training.devices))


def _estimate_line(found: Estimate, budget: Budget) -> str:
    minutes = found.seconds / 60
    time = (
        f"about {found.steps} steps in {minutes:.3g} minutes" if budget.max_seconds else f"{found.steps} steps, about {minutes:.2g} minutes"
    )
    return f"estimate {time} ({found.step_seconds:.2g} s a step, measured here and now), {found.memory_gb:.2g} GB of memory"


def plan_table(made: Plan, configuration: str = "") -> Table:
    """Each decision, its value and its reason."""
    named_one = f", {configuration}" if configuration else ""
    table = Table(title=f"Plan of {made.task}{named_one} (axes in the order of the network)")
    for column in ("decision", "value", "reason"):
        table.add_column(column)
    network = made.network
    names = _axes(made)
    across = [name for name, nearest in zip(names, made.nearest, strict=False) if nearest]
    values = {
        "dims": f"{made.dims}D",
        "axes": ", ".join(names),
        "spacing_mm": "own pixels" if made.spacing_mm is None else " x ".join(f"{mm:.3g}" if mm else "own" for mm in made.spacing_mm),
        "patch_size": _patch(made, names),
        "batch_size": str(made.batch_size),
        "normalisation": ", ".join(f"{channel.name}: {channel.normalisation}" for channel in made.channels),
        "nonzero": "crop to the non-zero box" if made.nonzero else "whole scan",
        "flips": ", ".join(name for name, allowed in zip(names, made.flips, strict=False) if allowed) or "none",
        "resampling": "linear" + (f", nearest along {', '.join(across)}" if across else ""),
        "features": f"{network.name} {'-'.join(map(str, network.features))}",
    }
    for key, value in values.items():
        table.add_row(key, value, made.reasons.get(key, ""))
    if made.skip_empty:
        table.add_row("skip_empty", "windows clipped throughout", made.reasons.get("skip_empty", ""))
    table.add_row("kernels", _stages(network.kernels), made.reasons.get("kernels", ""))
    table.add_row("strides", _stages(network.strides), made.reasons.get("strides", ""))
    if "memory" in made.reasons:
        table.add_row("memory", f"a step at most {plan_gb(made):.2g} GB", made.reasons["memory"])
    if made.regions:
        painted = {region.name: made.labels[region.paints].value for region in made.regions}
        table.add_row("regions", ", ".join(f"{name} writes {value}" for name, value in painted.items()), made.reasons.get("regions", ""))
    if made.partly_judged:
        table.add_row("ignore", "see the reason", made.reasons.get("ignore", ""))
    labels = ", ".join(f"{label.name} ({label.value})" for label in made.labels)
    table.add_row("labels", labels, "values of the files, in the network's order")
    if "codes" in made.reasons:
        table.add_row("codes", ", ".join(f"{label.name}: {label.term}" for label in made.labels if label.term), made.reasons["codes"])
    return table


def _axes(made: Plan) -> list[str]:
    """Names of the network's axes; those of pictures as `segpipe inspect` has them."""
    return [("rows", "columns")[axis] for axis in made.axes if axis < 2] if made.pictures else ["xyz"[axis] for axis in made.axes]


def _patch(made: Plan, names: list[str]) -> str:
    sizes = zip(made.patch_size, names, strict=False)  # a picture has no third axis
    return " x ".join(f"{size} {name}" if made.pictures else str(size) for size, name in sizes)


def _stages(rows: tuple[tuple[int, ...], ...]) -> str:
    return " ".join("x".join(map(str, row)) for row in rows)
