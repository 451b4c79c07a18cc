"""Quick start: from nothing to a measured model in under five minutes on two processor cores.

    python workflows/quick_start.py [--out demo_output] [--minutes 2]

Makes synthetic T2 scans of the prostate, then types the commands that you would type for your own: inspect, train, export, predict
on scans that training never saw, evaluate. At the end it draws the predictions next to the truth. No patient data, no download.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from segpipe.dataset.phantom import PHANTOMS, write_phantom
from segpipe.geometry.grid import Volume
from segpipe.geometry.orient import closest_axes, permute_flip, permuted_grid
from segpipe.io.read import read_volume

matplotlib.use("Agg")

KIND = "prostate"
COLOURS = {1: "#ff5d5d", 2: "#4fc3f7"}
"""Contour colour of each label: peripheral zone, transition zone."""


def main() -> int:
    options = parse()
    started = time.monotonic()
    out: Path = options.out
    training, held_back, run = out / "training_scans", out / "held_back_scans", out / "run"
    predictions, scores, pictures = out / "predictions", out / "scores.json", out / "pictures"

    tell(f"1. Make synthetic scans: {options.cases} to train on, {options.held_back} held back")
    write_phantom(training, KIND, options.cases, options.seed, options.size, "msd")
    write_phantom(held_back, KIND, options.held_back, options.seed + 1, options.size)
    say(f"{training} and {held_back}; {time.monotonic() - started:.0f} s")

    tell("2. Check the data set")
    segpipe("inspect", training, "--json", out / "inspect.json")

    tell(f"3. Train ({budget(options)})")
    words = [f"dataset.root={training}", f"run_dir={run}", f"seed={options.seed}", budget(options), *options.settings]
    segpipe("train", "conf=phantom", *words)

    tell("4. Write the model as one file, proved equal to the trained network")
    segpipe("export", run)

    tell("5. Segment the scans that were held back")
    segpipe("predict", run / "model.ts", held_back / "images", predictions, "--overwrite")

    tell("6. Compare with the truth")
    segpipe("evaluate", predictions, held_back / "labels", "--json", scores, "--plots", out / "plots")

    tell("7. Draw")
    for path in draw_all(held_back, predictions, pictures):
        say(str(path))
    report(out, scores, time.monotonic() - started)
    return 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--out", type=Path, default=Path("demo_output"), help="folder for everything (default demo_output)")
    parser.add_argument("--minutes", type=float, default=2.0, help="time for training (default 2)")
    parser.add_argument("--steps", type=int, default=0, help="train this number of steps instead; repeatable bit for bit")
    parser.add_argument("--cases", type=int, default=12, help="scans to train on (default 12)")
    parser.add_argument("--held-back", type=int, default=4, help="scans to measure on (default 4)")
    parser.add_argument("--size", choices=("small", "demo"), default="demo", help="small: voxels three times as wide")
    parser.add_argument("--seed", type=int, default=1, help="another seed, other scans and another model (default 1)")
    parser.add_argument("settings", nargs="*", metavar="SETTING=VALUE", help="more settings for training: network=vnet")
    return parser.parse_args()


def budget(options: argparse.Namespace) -> str:
    return f"training.max_steps={options.steps}" if options.steps else f"training.max_minutes={options.minutes:g}"


def segpipe(*words: str | Path) -> None:
    """Show a command, then run it; stop where it fails."""
    arguments = [str(word) for word in words]
    say(f"$ segpipe {shlex.join(arguments)}")
    begun = time.monotonic()
    code = subprocess.run([sys.executable, "-m", "segpipe", *arguments], check=False).returncode
    say(f"({time.monotonic() - begun:.0f} s)")
    if code:
        raise SystemExit(code)


def tell(headline: str) -> None:
    print(f"\n=== {headline}", flush=True)


def say(line: str) -> None:
    print(line, flush=True)


def draw_all(held_back: Path, predictions: Path, pictures: Path) -> list[Path]:
    """One picture a scan: three slices, the truth in full lines, the prediction in dashed ones."""
    pictures.mkdir(parents=True, exist_ok=True)
    return [
        draw(path, held_back / "labels" / path.name, predictions / path.name, pictures) for path in sorted((held_back / "images").iterdir())
    ]


def draw(scan: Path, truth: Path, prediction: Path, pictures: Path) -> Path:
    from matplotlib import pyplot as plt
    from matplotlib.lines import Line2D

    image, true, predicted = (upright(read_volume(path)) for path in (scan, truth, prediction))
    x, y, _ = image.grid.spacing_mm
    figure, axes = plt.subplots(1, 3, figsize=(12, 4.6), facecolor="black")
    for axis, k in zip(axes, slices(true.array[0]), strict=True):
        axis.imshow(image.array[0, :, :, k].T, cmap="gray", origin="lower", aspect=y / x, vmax=np.percentile(image.array, 99.7))
        for value, colour in COLOURS.items():
            for volume, style in ((true, "solid"), (predicted, "dashed")):
                plane = volume.array[0, :, :, k].T
                mask = plane == value
                if mask.any() and not mask.all():
                    axis.contour(mask, [0.5], colors=[colour], linewidths=1.4, linestyles=style)
        axis.invert_xaxis()  # the patient's right is on the left, as radiologists look
        axis.set_axis_off()
    names = [Line2D([], [], color=COLOURS[value], label=name) for value, name in PHANTOMS[KIND].labels.items()]
    styles = [Line2D([], [], color="white", linestyle=style, label=name) for style, name in (("solid", "truth"), ("dashed", "prediction"))]
    figure.legend(handles=[*names, *styles], loc="lower center", ncols=4, frameon=False, labelcolor="white")
    path = pictures / f"{scan.name.removesuffix('.nii.gz')}.png"
    figure.subplots_adjust(0.01, 0.08, 0.99, 0.99, 0.02)
    figure.savefig(path, dpi=90)
    plt.close(figure)
    return path


def upright(volume: Volume) -> Volume:
    """The same volume with its axes nearest to right, front and head, whatever order the scan came in."""
    axes, flipped = closest_axes(volume.grid)
    return Volume(permute_flip(volume.array, axes, flipped), permuted_grid(volume.grid, axes, flipped))


def slices(label: np.ndarray[Any, Any]) -> list[int]:
    """Three slices through the organ: a quarter, half, three quarters of the way."""
    filled = np.flatnonzero(label.any(axis=(0, 1)))
    return [int(filled[round(share * (len(filled) - 1))]) for share in (0.25, 0.5, 0.75)]


def report(out: Path, scores: Path, seconds: float) -> None:
    """The table that counts, and where to look."""
    document = json.loads(scores.read_text(encoding="utf-8"))
    tell("Result: Dice on scans that training never saw")
    for label, summary in document["summary"].items():
        dice = summary["dice"]
        name = document["labels"].get(label, label)
        low, high = dice["ci95"] or (None, None)
        if dice["mean"] is None or low is None:
            say(f"  {name:6s} n/a")
        else:
            say(f"  {name:6s} {dice['mean']:.3f}   95 % interval {low:.3f} to {high:.3f}")
    say(f"\nTotal time {seconds / 60:.1f} minutes. Look at:")
    for place, what in (
        ("pictures/", "truth and prediction drawn on the held-back scans"),
        ("plots/", "box plots of each measure"),
        ("run/", "the run: curves.png, overlays/, metrics.csv, plan.json"),
        ("run/model.ts", "the model, one file: segpipe predict it on any folder of scans"),
        ("predictions/", "label maps on the scans' own grids, predictions.csv"),
    ):
        say(f"  {out / place!s:30s} {what}")


if __name__ == "__main__":
    raise SystemExit(main())
