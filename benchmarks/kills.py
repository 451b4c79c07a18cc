"""Segment many small scans while the command is killed again and again, and compare with an undisturbed call.

    python benchmarks/kills.py --scans 2000 --kills 9 --out kills.json

A scan is a box of noise, the network an untrained U-Net, so that nearly all the time goes into what is under test: the ledger, the
workers, and writing whole files. Each kill is SIGKILL to the command alone at a random moment; what is left of it must end by itself.
In the end every label map must be there once, whole, and equal to the byte to that of the undisturbed call; nothing else may lie in
the folder, and no more scans may have been segmented twice than were in flight at the kills.
"""

from __future__ import annotations

import argparse
import json
import random
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import torch

from segpipe.geometry.grid import Grid, Volume
from segpipe.inference.held import MOST_IN_HAND
from segpipe.inference.table import LEDGER
from segpipe.io.write import write_volume
from segpipe.network.build import build_network
from segpipe.package.export import export_model
from segpipe.plan.plan import Channel, Label, NetworkPlan, Plan

_SHAPE = (24, 20, 16)


def make_model(path: Path) -> None:
    """A small U-Net with random weights."""
    spec = NetworkPlan("unet", (4, 8), ((3,) * 3,) * 2, ((1,) * 3, (2,) * 3))
    plan = Plan(
        task="kills",
        dims=3,
        channels=(Channel("MR", "zscore"),),
        labels=(Label(0, 0, "background"), Label(1, 1, "one"), Label(2, 2, "two")),
        orient=True,
        axes=(0, 1, 2),
        spacing_mm=None,
        patch_size=(16, 16, 16),
        batch_size=1,
        nonzero=False,
        flips=(True, True, True),
        network=spec,
    )
    torch.manual_seed(0)
    export_model(build_network(spec, 1, 3, 3), plan, {}, path)


def make_scans(folder: Path, count: int) -> None:
    """Noise, another one in each file."""
    rng = np.random.default_rng(0)
    for number in range(count):
        array = rng.normal(size=(1, *_SHAPE)).astype(np.float32)
        write_volume(folder / f"case_{number:05}.nii.gz", Volume(array, Grid(_SHAPE, np.eye(4))))


def start(root: Path, out: Path, workers: int) -> subprocess.Popen[bytes]:
    """The command, its output thrown away."""
    words = ["predict", root / "model.ts", root / "in", out, "--workers", workers, "--threads", 1]
    return subprocess.Popen([sys.executable, "-m", "segpipe", "--quiet", *map(str, words)], stdout=subprocess.DEVNULL)


def ended(out: Path) -> dict[str, int]:
    """Attempts of the cases that have their label map."""
    if not (out / LEDGER).exists():
        return {}
    connection = sqlite3.connect(out / LEDGER, 60)
    try:
        return dict(connection.execute("SELECT name, attempts FROM cases WHERE state IN ('done', 'skipped')"))
    except sqlite3.OperationalError:  # the table is not made yet
        return {}
    finally:
        connection.close()


def killed(root: Path, scans: int, kills: int, workers: int, seed: int) -> tuple[Path, float]:
    """The output folder of a call that was killed `kills` times and then left alone; seconds in all."""
    out, rng = root / "killed", random.Random(seed)
    begin = time.perf_counter()
    for number in range(kills):
        process = start(root, out, workers)
        goal = rng.randint(scans * number // (kills + 1), scans * (number + 1) // (kills + 1))
        while len(ended(out)) < goal and process.poll() is None:
            time.sleep(0.05)
        time.sleep(rng.random() * 0.2)
        children = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        process.wait()
        _, alive = psutil.wait_procs(children, timeout=30)
        assert not alive, f"workers that outlive their command: {alive}"
        print(f"kill {number + 1}: {len(ended(out))} of {scans} done", flush=True)
    assert start(root, out, workers).wait() == 0
    return out, time.perf_counter() - begin


def main() -> None:
    """Run both, compare, print and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scans", type=int, default=2000)
    parser.add_argument("--kills", type=int, default=9)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        make_model(root / "model.ts")
        make_scans(root / "in", options.scans)
        begin = time.perf_counter()
        assert start(root, root / "whole", options.workers).wait() == 0
        undisturbed = time.perf_counter() - begin
        out, seconds = killed(root, options.scans, options.kills, options.workers, options.seed)
        whole = {path.name: path.read_bytes() for path in (root / "whole").glob("*.nii.gz")}
        found = {path.name: path.read_bytes() for path in out.glob("*.nii.gz")}
        attempts = ended(out)
        ours = {*whole, "predictions.sqlite", "predictions.csv", "labels.json"}
        figures = {
            "scans": options.scans,
            "kills": options.kills,
            "workers": options.workers,
            "outputs": len(found),
            "differ": sum(found.get(name) != data for name, data in whole.items()),
            "left over": sorted({path.name for path in out.rglob("*")} - ours),
            "segmented twice": sum(attempts.values()) - len(attempts),
            "seconds undisturbed": round(undisturbed, 1),
            "seconds killed": round(seconds, 1),
        }
    for key, value in figures.items():
        print(f"{key:>20}  {value}")
    if options.out:
        options.out.write_text(json.dumps(figures, indent=2))
    assert figures["outputs"] == options.scans == len(whole) and not figures["differ"] and not figures["left over"]
    assert figures["segmented twice"] <= options.kills * options.workers * MOST_IN_HAND


if __name__ == "__main__":
    main()
