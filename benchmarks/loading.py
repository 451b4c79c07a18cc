"""Whether patches come as fast as the network learns: steps that draw and augment, beside steps on one batch again and again.

    python benchmarks/loading.py --turns 30

For each task, cases in memory and on disk (memory-mapped files, read patch by patch), in turns on two threads; median seconds of a
step. The ratio is the step rate with loading over that on the repeated batch. The data lie in the folder that `SEGPIPE_DATA` names.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
from pathlib import Path

from segpipe.config.compose import compose_settings
from segpipe.plan.planner import make_plan
from segpipe.training.custom import build_trainable
from segpipe.training.data import prepare_cases
from segpipe.training.pace import WARM_UP, TimedSteps
from segpipe.training.run import choose_compute
from segpipe.training.survey import survey

DATA = Path(os.environ.get("SEGPIPE_DATA", "../shared/data"))
TASKS = {
    "hippocampus, light": ["conf=hippocampus", f"dataset.root={DATA / 'Task04_Hippocampus'}"],
    "hippocampus, full": ["conf=hippocampus", f"dataset.root={DATA / 'Task04_Hippocampus'}", "augment=full"],
    "membrane (2D), light": ["conf=membrane", f"dataset.root={DATA / 'isbi2012_membrane'}"],
    "prostate, full": ["conf=prostate", f"dataset.root={DATA / 'prostate_t2'}", "dataset.labels=zones_pz_tz"],
}
CASES = 20


def measure(words: list[str], turns: int) -> dict[str, float]:
    """Median seconds of a step on a repeated batch, with loading from memory, and from disk."""
    settings = compose_settings([*words, "threads=2", "seed=7"]).settings
    compute = choose_compute(settings)
    cases, fingerprint = survey(settings)
    plan = make_plan("bench", fingerprint, settings)
    with tempfile.TemporaryDirectory() as folder:
        sets = {name: prepare_cases(cases[:CASES], plan, 2, limit, Path(folder)) for name, limit in (("memory", 100.0), ("disk", 0.0))}
        learners = {name: TimedSteps(build_trainable(plan).to(compute.device), one, plan, settings, compute) for name, one in sets.items()}
        batch = learners["memory"].load(0)
        taken: dict[str, list[float]] = {"repeated": [], "memory": [], "disk": []}
        for turn in range(turns + WARM_UP):
            row = {name: learner.seconds(turn) for name, learner in learners.items()}
            row["repeated"] = learners["memory"].seconds(turn, batch)
            for name, value in row.items():
                taken[name].append(value)
    return {name: statistics.median(values[WARM_UP:]) for name, values in taken.items()}


def main() -> None:
    """Command line of the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=30, help="counted steps of each kind")
    parser.add_argument("--json", type=Path, help="file for the figures")
    options = parser.parse_args()
    figures = {}
    print(f"{'task':24}{'repeated, s':>12}{'from memory':>13}{'from disk':>11}")
    for name, words in TASKS.items():
        found = figures[name] = measure(words, options.turns)
        rates = [f"{found['repeated'] / found[kind]:.3f}" for kind in ("memory", "disk")]
        print(f"{name:24}{found['repeated']:12.3f}{rates[0]:>13}{rates[1]:>11}", flush=True)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
