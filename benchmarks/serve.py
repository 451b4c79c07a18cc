"""Send many requests by many clients at once to a server, kill it while it works, and count; then measure what the server costs a scan.

    python benchmarks/serve.py --requests 200 --clients 16 --kills 1 --out serve.json
    python benchmarks/serve.py --model runs/hippocampus/model.ts --scans hippocampus/imagesTs --out serve.json

The first part needs nothing: its model compares voxels with thresholds, each request has a scan of its own, and each label map is compared
with what it must be. The kill is SIGKILL to the server, after which it is started again. With `--model` the same scans go through
`segpipe.predict_folder` in this process and, one after the other, through a server; the label maps must be equal, voxel by voxel, and what
is told is the time from the first byte that is sent to the last one of the label map that has come, less that of the engine's stages.
"""

from __future__ import annotations

import argparse
import gzip
import json
import statistics
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import nibabel as nib
import numpy as np

import segpipe
from segpipe.inference.task import FolderOptions
from tests.bundle.conftest import write_model
from tests.server.conftest import Server
from tests.server.drill import Drill


def storm(folder: Path, requests: int, clients: int, kills: int) -> dict[str, Any]:
    """Every job that was accepted, and what became of it."""
    drill = Drill([write_model(folder / "model.ts")], folder, requests, clients, kills)
    try:
        count = drill.run()
    finally:
        drill.server.stop()
    told = asdict(count) | {
        "accepted": len(set(count.accepted.values())),
        "kept": {state: count.kept.count(state) for state in set(count.kept)},
    }
    return told | {"server_mb": _ends(count.server_mb), "worker_mb": _ends(count.worker_mb)}


def _ends(values: list[float]) -> dict[str, float]:
    return {"first": round(values[0], 1), "last": round(values[-1], 1), "most": round(max(values), 1)}


def cost(model: Path, scans: list[Path], folder: Path, threads: int) -> dict[str, Any]:
    """Seconds a scan of the engine alone and through a server, in one run."""
    import torch

    torch.set_num_threads(threads)
    loaded = segpipe.load_model(model, "cpu")
    alone: dict[str, float] = {}
    direct: dict[str, Any] = {}
    for scan in scans:
        out = folder / "alone" / scan.name.partition(".")[0]
        [row] = segpipe.predict_folder(loaded, scan, out, FolderOptions(format="nii.gz"))
        alone[scan.name] = sum(row.seconds.values())  # read, prepare, network, restore, write: no ledger
        direct[scan.name] = np.asarray(nib.load(next(out.glob("*.nii.gz"))).dataobj)
    served, equal = _through(model, scans, folder, threads, direct)
    over = [served[scan.name] - alone[scan.name] for scan in scans[1:]]  # the first one loads and warms up
    engine = statistics.median(list(alone.values())[1:])
    return {
        "scans": len(scans),
        "equal": equal,
        "engine_s": round(engine, 3),
        "server_s": round(statistics.median(list(served.values())[1:]), 3),
        "over_s": round(statistics.median(over), 3),
        "over_share": round(statistics.median(over) / engine, 3),
    }


def _through(model: Path, scans: list[Path], folder: Path, threads: int, direct: dict[str, Any]) -> tuple[dict[str, float], bool]:
    server = Server([model], folder / "data", folder / "log", "--threads", str(threads))
    seconds, equal = {}, True
    try:
        for scan in scans:
            start = time.perf_counter()
            data = server.result(server.ended(server.send(scan)["id"])["id"])
            seconds[scan.name] = time.perf_counter() - start
            equal &= np.array_equal(np.asarray(nib.Nifti1Image.from_bytes(gzip.decompress(data)).dataobj), direct[scan.name])
    finally:
        server.stop()
    return seconds, equal


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--kills", type=int, default=1)
    parser.add_argument("--model", type=Path, help="also measure what the server costs a scan of this model")
    parser.add_argument("--scans", type=Path, help="folder of scans, .nii.gz")
    parser.add_argument("--most", type=int, default=10, help="scans")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    words = parser.parse_args()
    report: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        if words.requests:
            report["storm"] = storm(Path(name), words.requests, words.clients, words.kills)
        if words.model and words.scans:
            scans = sorted(words.scans.glob("*.nii.gz"))[: words.most]
            report["cost"] = cost(words.model, scans, Path(name) / "cost", words.threads)
    print(json.dumps(report, indent=2))
    if words.out:
        words.out.write_text(json.dumps(report, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
