"""Which recipe is best: variants of a task trained with the same computing time, compared case by case, as `docs/recipe.md` quotes it.

    python benchmarks/recipe.py base batch2 patch32 --out recipe               # three rows, five minutes each
    python benchmarks/recipe.py --list

Each variant first takes a few steps, of which the processor seconds are measured (`--probe` does no more, for all variants in a row
on a quiet machine), and then as many steps as the baseline makes in the budget (`--base-steps`) cost. Every variant trains and
validates on the same cases (seed 7, a fifth held out). A row is the mean Dice over the held-out cases and labels and the paired
difference to the baseline with its 95 % interval (bootstrap over cases). Variants that are finished are not trained again.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytorch_lightning as pl

from segpipe.evaluation.bootstrap import mean_interval

DATA = Path(os.environ.get("SEGPIPE_DATA", "../shared/data"))
TASKS = {"hippocampus": DATA / "Task04_Hippocampus", "membrane": DATA / "isbi2012_membrane"}
PROBE_STEPS = 16
_FIRST = 6
"""Steps of the probe that are not counted: the libraries choose their kernels in them."""
_PROBE_FILE = "SEGPIPE_PROBE_FILE"

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
    "poly": ["training.schedule=poly"],
    "sgd": ["training.optimiser=sgd", "training.lr=1e-2", "training.schedule=poly"],
    "deep": ["network.deep_supervision=true"],
    "residual": ["network.block=residual"],
    "narrow": ["network.features=[8,16,32,64]"],
    "wide": ["network.features=[24,48,96,192]"],
    "augment-none": ["augment=none"],
    "augment-full": ["augment=full"],
    "flips": ["plan.flips=[true,true,true]"],
    "foreground33": ["training.foreground=0.33"],
    "foreground100": ["training.foreground=1"],
    "dice": ["training.loss=dice"],
    "focal": ["training.loss=focal"],
    "batch-norm": ["network.norm=batch"],
}


class Probe(pl.Callback):
    """Writes the processor seconds of a step, all threads together, into the file that the environment names."""

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, outputs: object, batch: object, batch_idx: int) -> None:
        if trainer.global_step == _FIRST:
            self._started = time.process_time()
        elif trainer.global_step == PROBE_STEPS:
            seconds = (time.process_time() - self._started) / (PROBE_STEPS - _FIRST)
            Path(os.environ[_PROBE_FILE]).write_text(str(seconds))


def train(task: str, run: Path, words: list[str], **environment: str) -> None:
    """`segpipe train`; its output goes into a file beside the run."""
    command = [sys.executable, "-m", "segpipe", "train", f"conf={task}", f"dataset.root={TASKS[task]}", f"run_dir={run}", "seed=7", *words]
    run.parent.mkdir(parents=True, exist_ok=True)
    with run.with_suffix(".log").open("w") as output:
        code = subprocess.run(command, stdout=output, stderr=output, env=os.environ | environment, check=False).returncode
    if code:
        raise SystemExit(f"{' '.join(command)} ended with exit code {code}: see {run.with_suffix('.log')}")


def step_seconds(task: str, place: Path, words: list[str]) -> float:
    """Processor seconds of a step of a variant."""
    file = place.with_suffix(".seconds")
    if not file.exists():
        path = f"{Path(__file__).parent}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
        few = [f"training.max_steps={PROBE_STEPS}", "dataset.fraction=0.005", "training.callback=recipe.Probe", "training.resume=never"]
        train(task, place.with_name(f"{place.name}-probe"), [*words, *few], PYTHONPATH=path, **{_PROBE_FILE: str(file.resolve())})
    return float(file.read_text())


def case_dice(run: Path) -> dict[str, float]:
    """Mean Dice over the labels of each held-out case."""
    each = json.loads((run / "validation.json").read_text())["each"]
    known = {row["case"]: [value for value in row["dice"].values() if value is not None] for row in each}
    return {case: sum(values) / len(values) for case, values in known.items() if values}


def row(task: str, name: str, out: Path, base_steps: int) -> dict[str, object]:
    """Train a variant unless it is there, and compare it with the baseline."""
    words, run = VARIANTS[name], out / task / name
    seconds, base = step_seconds(task, run, words), step_seconds(task, out / task / BASE, VARIANTS[BASE])
    steps = max(1, round(base_steps * base / seconds))
    if not (run / "validation.json").exists():
        train(task, run, [*words, f"training.max_steps={steps}", "training.validate_cases=1"])
    found = case_dice(run)
    result: dict[str, object] = {"task": task, "variant": name, "settings": " ".join(words), "steps": steps, "cases": len(found)}
    result |= {"processor_seconds_a_step": round(seconds, 3), "mean_dice": round(sum(found.values()) / len(found), 4)}
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
    parser.add_argument("--base-steps", type=int, default=650, help="steps of the baseline; 650 take five minutes on two cores")
    parser.add_argument("--out", type=Path, default=Path("recipe"), help="folder for runs and results")
    parser.add_argument("--probe", action="store_true", help="measure the variants' processor seconds a step, and end")
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
        for name in options.variants:
            print(f"{name:<16}{step_seconds(options.task, options.out / options.task / name, VARIANTS[name]):.3f}", flush=True)
        return
    for name in options.variants:
        result = row(options.task, name, options.out, options.base_steps)
        (options.out / options.task / f"{name}.json").write_text(json.dumps(result, indent=1))
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
