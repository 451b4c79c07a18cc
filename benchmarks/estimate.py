"""How well `segpipe plan` foretells a training: its estimate of steps and memory beside what the same settings then take.

    python benchmarks/estimate.py hippocampus prostate --minutes 2

The scans lie in the folder that `SEGPIPE_DATA` names (default ../shared/data). Memory is the largest resident size of the process.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

DATA = Path(os.environ.get("SEGPIPE_DATA", "../shared/data"))
TASKS = {
    "hippocampus": ["conf=hippocampus", f"dataset.root={DATA / 'Task04_Hippocampus'}"],
    "hippocampus-2d": ["conf=hippocampus", f"dataset.root={DATA / 'Task04_Hippocampus'}", "plan.dims=2"],
    "hippocampus-vnet": ["conf=hippocampus", f"dataset.root={DATA / 'Task04_Hippocampus'}", "network=vnet"],
    "membrane": ["conf=membrane", f"dataset.root={DATA / 'isbi2012_membrane'}"],
    "prostate": ["conf=prostate", f"dataset.root={DATA / 'prostate_t2'}", "dataset.labels=zones_pz_tz"],
    "cord": ["name=cord", f"dataset.root={DATA / 'spinal_cord'}"],
}
_LINE = re.compile(r"about (?P<steps>\d+) steps in .*\((?P<step>[\d.]+) s a step.*\), (?P<gb>[\d.]+) GB")


def foretold(words: list[str]) -> dict[str, float]:
    """What `segpipe plan` says."""
    output = subprocess.run([sys.executable, "-m", "segpipe", "plan", *words], capture_output=True, text=True, check=True).stdout
    match = _LINE.search(" ".join(output.split()))
    if match is None:
        raise SystemExit(f"no estimate in what segpipe plan printed:\n{output}")
    return {"steps": float(match["steps"]), "memory_gb": float(match["gb"]), "step_seconds": float(match["step"])}


def taken(words: list[str], run: Path) -> dict[str, float]:
    """What the training took."""
    process = psutil.Popen([sys.executable, "-m", "segpipe", "train", *words, f"run_dir={run}"], stdout=subprocess.DEVNULL)
    peak = 0.0
    while process.poll() is None:
        try:
            peak = max(peak, process.memory_info().rss / 1e9)
        except psutil.NoSuchProcess:
            break
        time.sleep(0.05)
    if process.wait():
        raise SystemExit(f"segpipe train ended with exit code {process.returncode}")
    return {"steps": float(json.loads((run / "schedule.json").read_text())["steps"]), "memory_gb": peak}


def main() -> None:
    """Command line of the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="+", choices=sorted(TASKS))
    parser.add_argument("--minutes", type=float, default=2.0)
    options = parser.parse_args()
    place = Path(tempfile.mkdtemp(prefix="segpipe-estimate-"))
    try:
        for name in options.tasks:
            words = [*TASKS[name], f"training.max_minutes={options.minutes:g}", "seed=7"]
            before, after = foretold(words), taken(words, place / name)
            ratios = {key: round(before[key] / after[key], 3) for key in after}
            print(json.dumps({"task": name, "estimate": before, "taken": after, "estimate/taken": ratios}), flush=True)
    finally:
        shutil.rmtree(place)


if __name__ == "__main__":
    main()
