"""Which recipe is best: variants of a task trained with the same computing time, compared case by case, as `docs/recipe.md` quotes it.

    python benchmarks/recipe.py --probe base f32 deep --out recipe       # on a quiet machine: seconds a step of each, in turns
    python benchmarks/recipe.py base f32 deep --out recipe               # three rows
    python benchmarks/recipe.py --list

Each variant takes as many steps as the steps of the baseline (`--base-steps`) cost: how long a step of each takes is measured once,
the variants in turns, the least seconds of several, which other programs on the machine disturb least. Every variant trains and
validates on the same cases (seed 7, a fifth held out). A row is the mean Dice over the held-out cases and labels and the paired
difference to the baseline with its 95 % interval (bootstrap over cases). Variants that are finished are not trained again.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from segpipe.config.compose import compose_settings
from segpipe.evaluation.bootstrap import mean_interval
from segpipe.plan.planner import make_plan
from segpipe.training.custom import build_trainable
from segpipe.training.data import prepare_case
from segpipe.training.pace import WARM_UP, TimedSteps
from segpipe.training.run import choose_compute
from segpipe.training.survey import survey

DATA = Path(os.environ.get("SEGPIPE_DATA", "../shared/data"))
TASKS = {"hippocampus": DATA / "Task04_Hippocampus", "membrane": DATA / "isbi2012_membrane"}
PROBE_STEPS = 16
PROBE_CASES = 8

BASE = "base"
VARIANTS: dict[str, list[str]] = {
    BASE: [],
    "batch2": ["plan.batch_size=2"],
    "batch8": ["plan.batch_size=8"],
    "patch32": ["plan.patch_size=[32,48,32]"],
    "patch32-batch2-lr2": ["plan.patch_size=[32,48,32]", "plan.batch_size=2", "training.lr=2e-3"],
    "patch24": ["plan.patch_size=[24,32,24]", "plan.batch_size=8"],
    "patch32-wide": ["plan.patch_size=[32,48,32]", "network.features=[24,48,96,192]"],
    "patch32-batch2": ["plan.patch_size=[32,48,32]", "plan.batch_size=2"],
    "lr2": ["training.lr=2e-3"],
    "lr8": ["training.lr=8e-3"],
    "decay5": ["training.weight_decay=0.05"],
    "ema995": ["training.ema=0.995"],
    "ema0": ["training.ema=0"],
    "ema999": ["training.ema=0.999"],
    "decay50": ["training.weight_decay=0.5"],
    "dropout": ["network.dropout=0.1"],
    "full-flips": ["augment=full", "plan.flips=[true,true,true]"],
    "poly": ["training.schedule=poly"],
    "sgd": ["training.optimiser=sgd", "training.lr=1e-2", "training.schedule=poly"],
    "no-deep": ["network.deep_supervision=false"],
    "residual": ["network.block=residual"],
    "narrow": ["network.features=[8,16,32,64]"],
    "f32": ["network.features=[32,64,128,256]"],
    "f32-full": ["network.features=[32,64,128,256]", "augment=full"],
    "f32-lr2": ["network.features=[32,64,128,256]", "training.lr=2e-3"],
    "wide": ["network.features=[24,48,96,192]"],
    "full-f24": ["augment=full", "network.features=[24,48,96,192]"],
    "full-f12": ["augment=full", "network.features=[12,24,48,96]"],
    "full-batch2": ["augment=full", "plan.batch_size=2"],
    "full-dropout": ["augment=full", "network.dropout=0.1"],
    "full-residual": ["augment=full", "network.block=residual"],
    "full-patch32": ["augment=full", "plan.patch_size=[32,48,32]"],
    "full-seed8": ["augment=full", "seed=8", "dataset.split_seed=7"],
    "augment-none": ["augment=none"],
    "augment-full": ["augment=full"],
    "augment-strong": ["augment=strong"],
    "flips": ["plan.flips=[true,true,true]"],
    "foreground33": ["training.foreground=0.33"],
    "foreground100": ["training.foreground=1"],
    "dice": ["training.loss=dice"],
    "focal": ["training.loss=focal"],
    "batch-norm": ["network.norm=batch"],
}


def timed_steps(task: str, words: list[str]) -> TimedSteps:
    """Training steps of one variant, one at a time."""
    settings = compose_settings([f"conf={task}", f"dataset.root={TASKS[task]}", "seed=7", *words]).settings
    compute = choose_compute(settings)
    cases, fingerprint = survey(settings)
    plan = make_plan(task, fingerprint, settings, compute.device)
    some = [prepare_case(case, plan) for case in cases[:PROBE_CASES]]
    return TimedSteps(build_trainable(plan, "").to(compute.device), some, plan, settings, compute)


def probe(task: str, names: list[str], out: Path) -> None:
    """Measure the variants in turns and write the seconds of each beside its run."""
    steps = {name: timed_steps(task, VARIANTS[name]) for name in names}
    (out / task).mkdir(parents=True, exist_ok=True)
    taken: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(PROBE_STEPS):
        for name in names:
            taken[name].append(steps[name].seconds(turn))
    for name in names:
        seconds = min(taken[name][WARM_UP:])
        (out / task / f"{name}.seconds").write_text(str(seconds))
        print(f"{name:<24}{seconds:.4f}", flush=True)


def train(task: str, run: Path, words: list[str]) -> None:
    """`segpipe train`; its output goes into a file beside the run."""
    command = [sys.executable, "-m", "segpipe", "train", f"conf={task}", f"dataset.root={TASKS[task]}", f"run_dir={run}", "seed=7", *words]
    run.parent.mkdir(parents=True, exist_ok=True)
    with run.with_suffix(".log").open("w") as output:
        code = subprocess.run(command, stdout=output, stderr=output, check=False).returncode
    if code:
        raise SystemExit(f"{' '.join(command)} ended with exit code {code}: see {run.with_suffix('.log')}")


def step_seconds(task: str, name: str, out: Path) -> float:
    """Seconds of a step of a variant, as `probe` has measured them."""
    file = out / task / f"{name}.seconds"
    if not file.exists():
        raise SystemExit(f"{file} is not there: measure first, on a quiet machine, with --probe {BASE} {name}")
    return float(file.read_text())


def case_dice(run: Path) -> dict[str, float]:
    """Mean Dice over the labels of each held-out case."""
    each = json.loads((run / "validation.json").read_text())["each"]
    known = {row["case"]: [value for value in row["dice"].values() if value is not None] for row in each}
    return {case: sum(values) / len(values) for case, values in known.items() if values}


def row(task: str, name: str, out: Path, base_steps: int, extra: list[str]) -> dict[str, object]:
    """Train a variant unless it is there, and compare it with the baseline; `extra` are settings of all variants."""
    words, run = VARIANTS[name], out / task / name
    seconds, base = step_seconds(task, name, out), step_seconds(task, BASE, out)
    steps = max(1, round(base_steps * base / seconds))
    if not (run / "validation.json").exists():
        train(task, run, [*extra, *words, f"training.max_steps={steps}", "training.validate_cases=1", "training.resume=auto"])
    found = case_dice(run)
    result: dict[str, object] = {"task": task, "variant": name, "settings": " ".join(words), "steps": steps, "cases": len(found)}
    result |= {"seconds_a_step": round(seconds, 4), "mean_dice": round(sum(found.values()) / len(found), 4)}
    if name != BASE and (out / task / BASE / "validation.json").exists():
        reference = case_dice(out / task / BASE)
        differences = [found[case] - reference[case] for case in sorted(reference)]
        result["difference"] = round(sum(differences) / len(differences), 4)
        result["ci95"] = [round(value, 4) for value in mean_interval(differences) or ()]
        result["better_cases"] = sum(value > 0 for value in differences)
    return result


def main() -> None:
    """Command line of the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("variants", nargs="*", help="variants to train")
    parser.add_argument("--task", choices=sorted(TASKS), default="hippocampus")
    parser.add_argument("--base-steps", type=int, default=650, help="steps of the baseline")
    parser.add_argument("--out", type=Path, default=Path("recipe"), help="folder for runs and results")
    parser.add_argument("--set", nargs="+", default=[], metavar="SETTING=VALUE", help="settings of all variants: threads=1")
    parser.add_argument("--probe", action="store_true", help="measure the seconds of a step of each variant, in turns, and end")
    parser.add_argument("--list", action="store_true", help="print the variants and end")
    options = parser.parse_args()
    unknown = [name for name in options.variants if name not in VARIANTS]
    if unknown:
        parser.error(f"{unknown[0]}: no such variant; --list shows them")
    if options.list or not options.variants:
        for name, words in VARIANTS.items():
            print(f"{name:<16}{' '.join(words)}")
        return
    if options.probe:
        probe(options.task, options.variants, options.out)
        return
    for name in options.variants:
        result = row(options.task, name, options.out, options.base_steps, options.set)
        (options.out / options.task / f"{name}.json").write_text(json.dumps(result, indent=1))
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
