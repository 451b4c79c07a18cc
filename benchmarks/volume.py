"""One large CT-like volume through `segpipe predict`: wall time, peak memory, and the share of the time that is not the network.

    python benchmarks/volume.py --out volume [--classes 3 60] [--ensemble] [--shape 512 512 300] [--options "--runtime torch"] [--json FILE]

The volume: 512 x 512 x 300 voxels of 0.8 x 0.8 x 1.25 mm, a body of soft tissue with organs in it and air around it. The model: a 3D
U-Net of six stages, 32 to 320 features, on a grid of 1.5 mm, in windows of 128^3 that overlap by half, without mirroring. Its weights are
random (time and memory do not depend on them); with seed 0 the model file is the same on every machine. The peak is that of all
processes of the command, each at its own.

With `--ensemble` two small networks with different plans together, so that what happens around them shows: a 3D U-Net of three stages
on the same grid in windows of 64^3, and a 2D one on the scan's own slices in windows of 256^2, 8 to 32 features each.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from numpy.typing import NDArray

from segpipe.geometry.grid import Grid, Volume
from segpipe.io.write import write_volume
from segpipe.network.build import build_network
from segpipe.package.export import export_model, export_parts
from segpipe.plan.plan import Channel, Label, NetworkPlan, Plan

SHAPE, SPACING_MM = (512, 512, 300), (0.8, 0.8, 1.25)
_AIR, _FAT, _SOFT = -1000.0, -80.0, 40.0
_ORGANS = 40


def ct_like(shape: tuple[int, int, int], seed: int = 0) -> NDArray[np.int16]:
    """(I, J, K) Hounsfield units: an elliptic body with a rim of fat, ellipsoidal organs, and noise."""
    generator = np.random.default_rng(seed)
    i, j, k = (np.linspace(-1, 1, n, dtype=np.float32) for n in shape)
    radius = (i[:, None] / 0.85) ** 2 + (j[None, :] / 0.6) ** 2
    plane = np.where(radius < 1, np.where(radius < 0.85, _SOFT, _FAT), _AIR).astype(np.float32)
    volume = np.repeat(plane[:, :, None], shape[2], axis=2)
    for _ in range(_ORGANS):
        centre, size = generator.uniform(-0.5, 0.5, 3) * (1.2, 0.8, 1.8), generator.uniform(0.05, 0.2, 3)
        apart = (i[:, None, None] - centre[0]) ** 2 / size[0] ** 2 + (j[None, :, None] - centre[1]) ** 2 / size[1] ** 2
        volume[apart + (k[None, None, :] - centre[2]) ** 2 / size[2] ** 2 < 1] = generator.uniform(0, 200)
    for slab in range(shape[0]):
        volume[slab] += generator.normal(0, 12, shape[1:]).astype(np.float32)
    return volume.astype(np.int16)


def small_plans(classes: int) -> list[Plan]:
    """3D and 2D, of the second paragraph of the docstring."""
    plan, features = plan_of(classes), (8, 16, 32)
    solid = NetworkPlan("unet", features, ((3, 3, 3),) * 3, ((1, 1, 1), (2, 2, 2), (2, 2, 2)))
    flat = NetworkPlan("unet", features, ((3, 3),) * 3, ((1, 1), (2, 2), (2, 2)))
    return [
        replace(plan, patch_size=(64, 64, 64), network=solid),
        replace(plan, dims=2, patch_size=(256, 256, 1), spacing_mm=(*SPACING_MM[:2], 0.0), network=flat),
    ]


def plan_of(classes: int) -> Plan:
    """That of the table in the docstring."""
    return Plan(
        task=f"volume{classes}",
        dims=3,
        channels=(Channel("CT", "ct", -1000.0, 400.0, 0.0, 300.0),),
        labels=tuple(Label(index, index, f"structure {index}" if index else "background") for index in range(classes)),
        orient=True,
        axes=(0, 1, 2),
        spacing_mm=(1.5, 1.5, 1.5),
        patch_size=(128, 128, 128),
        batch_size=2,
        nonzero=False,
        flips=(True, True, True),
        network=NetworkPlan("unet", (32, 64, 128, 256, 320, 320), ((3, 3, 3),) * 6, ((1, 1, 1), *((2, 2, 2),) * 5)),
    )


def run(words: list[str]) -> dict[str, float]:
    """Seconds of a command, and the peak memory (GB) of it and its workers together, each at its own peak."""
    begun = time.perf_counter()
    peaks: dict[int, float] = {}
    process = psutil.Popen(words)
    while process.poll() is None:
        with contextlib.suppress(psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
            for one in (process, *process.children(recursive=True)):
                peaks[one.pid] = max(peaks.get(one.pid, 0.0), highest_gb(one.pid))
        time.sleep(0.05)
    if process.returncode:
        raise SystemExit(f"{words[:4]} ended with {process.returncode}")
    return {"seconds": time.perf_counter() - begun, "peak_gb": sum(peaks.values())}


def highest_gb(pid: int) -> float:
    """Highest resident memory of a process until now, by the system's own count."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1e9
    return 0.0


def measure(classes: int, ensemble: bool, out: Path, options: list[str]) -> dict[str, Any]:
    plans, name = (small_plans(classes), f"ensemble{classes}") if ensemble else ([plan_of(classes)], f"volume{classes}")
    model, place = out / f"{name}.ts", out / f"labels_{name}"
    if not model.exists():
        torch.manual_seed(0)
        networks = [build_network(plan.network, 1, classes, plan.dims) for plan in plans]
        if ensemble:
            export_parts(list(zip(networks, plans, strict=True)), {}, model)
        else:
            export_model(networks[0], plans[0], {}, model)
    words = [sys.executable, "-m", "segpipe", "predict", str(model), str(out / "scan.nii"), str(place), "--overwrite", *options]
    result: dict[str, Any] = {"classes": classes, "ensemble": ensemble, "options": options, **run(words)}
    with (place / "predictions.csv").open(encoding="utf-8") as file:
        row = next(csv.DictReader(file))
    phases = {key.removeprefix("seconds_"): float(value) for key, value in row.items() if key.startswith("seconds_") and value}
    return result | {"phases": phases, "outside_network": 1 - phases["network"] / sum(phases.values())}


def main() -> None:
    """Command line of the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("volume"), help="folder for scan, models and results")
    parser.add_argument("--classes", type=int, nargs="*", default=[3, 60])
    parser.add_argument("--ensemble", action="store_true", help="two small networks with different plans")
    parser.add_argument("--shape", type=int, nargs=3, default=SHAPE, help="voxels of the volume")
    parser.add_argument("--options", default="", help="further options of segpipe predict, in one text")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    scan = options.out / "scan.nii"
    if not scan.exists():
        affine = np.diag([*SPACING_MM, 1.0])
        shape = tuple(options.shape)
        write_volume(scan, Volume(ct_like(shape)[None], Grid(shape, affine)))
    results = [measure(classes, options.ensemble, options.out, options.options.split()) for classes in options.classes]
    print(json.dumps(results, indent=1))
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
