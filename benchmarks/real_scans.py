"""Train, predict and evaluate on real scans through the command line, as `docs/results.md` quotes it.

    python benchmarks/real_scans.py hippocampus-unet3d --out results          # one row
    python benchmarks/real_scans.py --list

The scans lie in the folder that `SEGPIPE_DATA` names (default ../shared/data). Each row trains (unless its run folder is there already),
predicts the held-out scans through `model.ts`, evaluates the label maps and prints the mean Dice of training's own validation beside that
of the files, for pictures the pixel error, and for membranes V_rand. A row is also written as JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from segpipe.evaluation.rand import v_rand
from segpipe.io.read import read_volume

DATA = Path(os.environ.get("SEGPIPE_DATA", "../shared/data"))


@dataclass(frozen=True)
class Row:
    """One training: task file (none: the defaults alone), data set, label folder and overrides."""

    conf: str
    folder: str
    labels: str
    overrides: list[str] = field(default_factory=list)


_TWO_MINUTES = ["training.max_minutes=2"]
ROWS = {
    "hippocampus-unet3d": Row("hippocampus", "Task04_Hippocampus", "labelsTr"),
    "hippocampus-vnet": Row("hippocampus", "Task04_Hippocampus", "labelsTr", ["network=vnet"]),
    "hippocampus-unet2d": Row("hippocampus", "Task04_Hippocampus", "labelsTr", ["plan.dims=2"]),
    "membrane": Row("membrane", "isbi2012_membrane", "labels"),
    "prostate": Row(
        "prostate",
        "prostate_t2",
        "zones_pz_tz",
        [
            "dataset.labels=zones_pz_tz",
            "dataset.validation_cases=[prostate3t_03_0001]",
            "augment=none",
            "training.lr=4e-3",
            "plan.spacing_mm=[1,1,3]",
            "training.max_minutes=10",
        ],
    ),
    "brats": Row("", "brats_two_channel", "labels", ["name=brats", *_TWO_MINUTES]),
    "retina": Row("", "drive_retina_rgb", "labels", ["name=retina", *_TWO_MINUTES]),
    "spinal-cord": Row("", "spinal_cord", "labels", ["name=cord", *_TWO_MINUTES]),
    "nrrd": Row("", "nrrd_pairs", "labels", ["name=nrrd", *_TWO_MINUTES]),
}


def segpipe(*words: str | Path) -> None:
    """Run the command line; its output goes to the terminal, and a failure ends the benchmark."""
    print("$ segpipe", *words, flush=True)
    code = subprocess.run([sys.executable, "-m", "segpipe", *map(str, words)], check=False).returncode
    if code:
        raise SystemExit(f"segpipe {words[0]} ended with exit code {code}")


def held_out(root: Path, run: Path, scans: Path, train: bool) -> None:
    """Link the scans of one side of the split into a folder."""
    names = json.loads((trainings(run)[0] / "splits.json").read_text())["train" if train else "validation"]
    shutil.rmtree(scans, ignore_errors=True)
    scans.mkdir(parents=True)
    images = next(root / name for name in ("imagesTr", "images") if (root / name).is_dir())
    for path in sorted(images.iterdir()):
        stem = path.name.split(".")[0]
        if any(stem == name or stem.startswith(f"{name}_") for name in names):
            (scans / path.name).symlink_to(path.resolve())


def trainings(run: Path) -> list[Path]:
    """The run itself, or what `training.seeds` made of it. Its networks are averaged by `segpipe predict`, not through its model file: the
    post-processing in there was chosen on the very cases that are scored here.
    """
    return [run] if (run / "splits.json").exists() else sorted(path.parent for path in run.glob("*/splits.json"))


def measure(name: str, out: Path, minutes: float | None, more: list[str]) -> dict[str, object]:
    """Train where there is no model yet, predict and evaluate both sides that matter."""
    row, root = ROWS[name], DATA / ROWS[name].folder
    run = out / name
    started = time.time()
    if not (run / "model.ts").exists():
        conf = [f"conf={row.conf}"] if row.conf else []
        budget = [f"training.max_minutes={minutes}"] if minutes else []
        overrides = [word for word in row.overrides if not (budget and word.startswith("training.max_minutes"))]
        segpipe("train", *conf, f"dataset.root={root}", f"run_dir={run}", "seed=7", *overrides, *budget, *more)
    result: dict[str, object] = {"name": name, "train_command_seconds": round(time.time() - started, 1)}
    for each in trainings(run):
        validation = json.loads((each / "validation.json").read_text())
        schedule = json.loads((each / "schedule.json").read_text())
        own = {"steps": schedule["steps"], "seconds": schedule["seconds"], "cases": validation["cases"]}
        own |= {"validation_dice": validation["dice"], "validation_mean": validation["mean_dice"]}
        result |= own if each == run else {each.name: own}
    for side in ("held_out", *(["trained"] if name == "prostate" else [])):
        result[side] = _score(run, root / row.labels, root, out / f"{name}-{side}", side == "trained")
    if name == "membrane":
        result["v_rand"] = _v_rand(out / f"{name}-held_out" / "out", root / row.labels)
    return result


def _v_rand(predicted: Path, truth: Path) -> dict[str, float]:
    """Of each held-out slice, and the mean; cells are all that is not 0."""
    found = {}
    for path in predicted.glob("*.png"):
        cells, true = (read_volume(side / path.name).array[0] > 0 for side in (predicted, truth))
        found[path.name] = v_rand(cells, true)
    return found | {"mean": sum(found.values()) / len(found)}


def _score(run: Path, truth: Path, root: Path, place: Path, train: bool) -> dict[str, object]:
    held_out(root, run, place / "scans", train)
    started = time.time()
    segpipe("predict", *(each / "model.ts" for each in trainings(run)), place / "scans", place / "out")
    seconds = round(time.time() - started, 1)
    segpipe("evaluate", place / "out", truth, "--json", place / "scores.json", "--allow-missing")
    scores = json.loads((place / "scores.json").read_text())
    summary = {key: value["dice"] for key, value in scores["summary"].items() if "dice" in value}
    return {"predict_seconds": seconds, "dice": summary, "pixel_error": scores["summary"]["mean"].get("pixel_error")}


def main() -> None:
    """Command line of the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", choices=[*ROWS, []], help="rows to measure")
    parser.add_argument("--out", type=Path, default=Path("real_scans"), help="folder for runs and results")
    parser.add_argument("--minutes", type=float, help="training budget of each row, in place of the task's own")
    parser.add_argument("--set", nargs="*", default=[], metavar="SETTING=VALUE", help="further settings of each training")
    parser.add_argument("--list", action="store_true", help="print the rows and end")
    options = parser.parse_args()
    if options.list or not options.rows:
        print("\n".join(ROWS))
        return
    for name in options.rows:
        result = measure(name, options.out, options.minutes, options.set)
        (options.out / f"{name}.json").write_text(json.dumps(result, indent=1))
        print(json.dumps(result, indent=1), flush=True)


if __name__ == "__main__":
    main()
