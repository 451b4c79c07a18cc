"""Which width for which budget: networks of several widths, each trained as many steps as fit into the minutes (`docs/recipe.md`).

    python benchmarks/sizing.py hippocampus --probe --widths 8 16 32 --out sizing     # on a quiet machine: seconds of a step
    python benchmarks/sizing.py hippocampus --minutes 2 5 --widths 8 16 32 --augment light --out sizing
    python benchmarks/sizing.py hippocampus --show --out sizing                       # the rows that are finished

A budget is that of one thread: trainings run by steps, so that what else the machine does changes nothing but their duration, and
one that was interrupted goes on. All train and validate on the same cases (seed 7, a fifth held out);
two rows of one budget are compared case by case.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

from recipe import PROBE_STEPS, TASKS, case_dice, timed_steps

from segpipe.evaluation.bootstrap import mean_interval
from segpipe.training.callbacks import VALIDATION_SHARE
from segpipe.training.pace import WARM_UP

STAGES = {"hippocampus": 4, "membrane": 5}
OVERHEAD_SECONDS = 20.0
"""Of a training besides its steps and the validations on its way: start, preparation, last validation, export."""


def settings(task: str, size: str) -> list[str]:
    """Those of a size: a width, doubled each stage, and behind a `b` patches a step where they are not the task's own."""
    width, _, batch = size.partition("b")
    features = f"network.features=[{','.join(str(int(width) * 2**stage) for stage in range(STAGES[task]))}]"
    return [features, *([f"plan.batch_size={batch}"] if batch else [])]


def probe(task: str, widths: list[str], augment: str, out: Path) -> None:
    """Measure a step of each width in turns and write the least seconds down."""
    steps = {width: timed_steps(task, ["threads=1", f"augment={augment}", *settings(task, width)]) for width in widths}
    taken: dict[str, list[float]] = {width: [] for width in widths}
    for turn, width in itertools.product(range(PROBE_STEPS), widths):
        taken[width].append(steps[width].seconds(turn))
    for width in widths:
        seconds = min(taken[width][WARM_UP:])
        (out / f"{task}-{width}-{augment}.seconds").write_text(str(seconds))
        print(f"{task} width {width} augment={augment}: {seconds:.4f} s a step", flush=True)


def run(task: str, minutes: float, width: str, augment: str, out: Path) -> None:
    """Train one row, unless it is there."""
    file = out / f"{task}-{width}-{augment}.seconds"
    if not file.exists():
        raise SystemExit(f"{file} is not there: measure first, on a quiet machine, with --probe")
    steps = int((60 * minutes - OVERHEAD_SECONDS) * (1 - VALIDATION_SHARE) / float(file.read_text()))
    name = f"{task}-{minutes:g}min-{width}-{augment}"
    place = out / name
    if _steps(place) == steps:  # one that was stopped early validates, too
        return
    words = [*settings(task, width), f"augment={augment}", f"training.max_steps={steps}", "training.resume=auto", "threads=1", "seed=7"]
    command = [sys.executable, "-m", "segpipe", "train", f"conf={task}", f"dataset.root={TASKS[task]}", f"run_dir={place}", *words]
    with (out / f"{name}.log").open("a") as log:
        if subprocess.run(command, stdout=log, stderr=log, check=False).returncode:
            raise SystemExit(f"{' '.join(command)} failed: see {log.name}")


def _steps(place: Path) -> int:
    """Those that the weights of a run were validated at; 0 where they were not."""
    file = place / "validation.json"
    return int(json.loads(file.read_text())["step"]) if file.exists() else 0


def show(task: str, out: Path) -> None:
    """The finished rows, those of a budget beside its best."""
    rows = []
    for file in sorted(out.glob(f"{task}-*min-*/validation.json")):
        _, minutes, width, augment = file.parent.name.split("-")
        found = case_dice(file.parent)
        steps = _steps(file.parent)
        rows.append((float(minutes.removesuffix("min")), width, augment, steps, sum(found.values()) / len(found), found))
    for minutes, group in itertools.groupby(sorted(rows, key=lambda row: row[:3]), key=lambda row: row[0]):
        some = list(group)
        best = max(some, key=lambda row: row[4])
        for _, width, augment, steps, mean, found in some:
            differences = [found[case] - best[5][case] for case in sorted(found)]
            low, high = mean_interval(differences) or (0.0, 0.0)
            told = "the best" if found is best[5] else f"{sum(differences) / len(differences):+.4f} ({low:.4f} to {high:.4f})"
            print(f"{task} {minutes:g} min, width {width}, {augment}: {steps} steps, Dice {mean:.4f}, {told}")


def main() -> None:
    """Command line of the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=sorted(STAGES))
    parser.add_argument("--minutes", type=float, nargs="+", default=[2.0, 5.0])
    parser.add_argument("--widths", nargs="+", default=["8", "16", "32"], help="of the first stage; 8b2: two patches a step")
    parser.add_argument("--augment", default="light")
    parser.add_argument("--out", type=Path, default=Path("sizing"), help="folder for runs and measurements")
    parser.add_argument("--probe", action="store_true", help="measure the seconds of a step of each width and end")
    parser.add_argument("--show", action="store_true", help="print the finished rows and end")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    os.environ["OMP_NUM_THREADS"] = "1"
    if options.show:
        show(options.task, options.out)
    elif options.probe:
        probe(options.task, options.widths, options.augment, options.out)
    else:
        for minutes, width in itertools.product(options.minutes, options.widths):
            run(options.task, minutes, width, options.augment, options.out)


if __name__ == "__main__":
    main()
