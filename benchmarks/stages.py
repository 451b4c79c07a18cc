"""The stages of a folder of scans in turn and side by side: whole time, how busy the networks are, and whether the files are the same.

    python benchmarks/stages.py [--networks fixed elsewhere tiny medium] [--scans 12] [--turns 3] [--threads 1] [--json FILE]

Scans of 160 x 160 x 100 voxels of 1 x 1 x 1.2 mm (noise and ellipsoids, int16, gzipped), a network grid of 1.2 mm, windows of 64^3 that
overlap by half, four labels, every label map written gzipped on the scan's grid. Both ways run in this process, one after the other, in
`--turns` alternating turns; every figure is the median. `busy` is the share of the whole time in which the networks work. Networks:
tiny (features 4 to 16) and medium (16 to 64) are U-Nets on the processor with random weights, where the stages share its cores;
`elsewhere` takes 30 ms a window without the processor, as a network on a device of its own does. `fixed` has no scans at all: its stages
take fixed times (read 0.1 s, networks 0.5 s in ten blocks, restore 0.1 s, write 0.2 s), so that it tells how well they mesh on any
machine, however busy.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from segpipe.geometry.grid import Grid, Volume
from segpipe.inference.gather import Examination, gather
from segpipe.inference.pipeline import Pipeline
from segpipe.inference.predictor import Predictor
from segpipe.inference.segment import Attempt, Mark, Segmenter
from segpipe.inference.table import Row
from segpipe.inference.task import FolderOptions
from segpipe.io.write import write_volume
from segpipe.network.build import build_network
from segpipe.package.export import export_model
from segpipe.package.model_file import load_model
from segpipe.plan.plan import Channel, Label, NetworkPlan, Plan
from segpipe.progress import Told

SHAPE, SPACING_MM, WINDOW = (160, 160, 100), (1.0, 1.0, 1.2), (64, 64, 64)
FEATURES = {"elsewhere": (4, 8, 16), "tiny": (4, 8, 16), "medium": (16, 32, 64)}
WINDOW_SECONDS = 0.03


class Elsewhere:
    """A network that takes time and no processor: class 1 above 0, class 2 above 1."""

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        time.sleep(WINDOW_SECONDS * x.shape[0])
        return torch.cat([torch.zeros_like(x), x, 2 * x - 1, x - 9], dim=1)


class FixedStages:
    """A segmenter whose stages take time and nothing else."""

    seconds: ClassVar = {"read": 0.1, "network": 0.5, "restore": 0.1, "write": 0.2}
    blocks = 10

    def read(self, scan: Examination, before: Row | None, followed: bool) -> Attempt:
        time.sleep(self.seconds["read"])
        return Attempt(scan, Row(scan.case, "", "", "failed"), before)

    def compute(self, attempt: Attempt, told: Told) -> Iterator[int]:
        for number in range(self.blocks):
            time.sleep(self.seconds["network"] / self.blocks)
            yield number

    def restore(self, attempt: Attempt, part: int) -> None:
        time.sleep(self.seconds["restore"] / self.blocks)

    def write(self, attempt: Attempt, mark: Mark) -> Row:
        time.sleep(self.seconds["write"])
        return replace(attempt.row, status="done", seconds=self.seconds)


class Scan:
    """A scan of the pipeline, with nobody to tell but the list of rows."""

    def __init__(self, scan: Examination, rows: list[Row]) -> None:
        self.scan, self.before, self.followed, self._rows = scan, None, False, rows

    def mark(self, row: Row) -> None: ...

    def told(self, done: int, total: int) -> None: ...

    def stage(self, name: str) -> None: ...

    def end(self, row: Row | None) -> None:
        assert row is not None and row.status == "done", row
        self._rows.append(row)


def make_scans(folder: Path, count: int) -> None:
    """Noise with ellipsoids, another one in each file."""
    i, j, k = (np.linspace(-1, 1, n, dtype=np.float32) for n in SHAPE)
    for number in range(count):
        rng = np.random.default_rng(number)
        array = rng.normal(0, 20, SHAPE).astype(np.float32)
        for _ in range(6):
            centre, size = rng.uniform(-0.6, 0.6, 3), rng.uniform(0.1, 0.4, 3)
            places = zip((i[:, None, None], j[None, :, None], k[None, None, :]), centre, size, strict=True)
            array[sum((axis - middle) ** 2 / radius**2 for axis, middle, radius in places) < 1] += 100
        affine = np.diag([*SPACING_MM, 1.0])
        write_volume(folder / f"case_{number:03}.nii.gz", Volume(array[None].astype(np.int16), Grid(SHAPE, affine)))


def make_predictor(root: Path, name: str) -> Predictor:
    """On the processor, in fp32, by torch."""
    features = FEATURES[name]
    network = NetworkPlan("unet", features, ((3,) * 3,) * 3, ((1,) * 3, (2,) * 3, (2,) * 3))
    labels = tuple(Label(number, number, f"structure {number}" if number else "background") for number in range(4))
    channels, axes, flips = (Channel("MR", "zscore"),), (0, 1, 2), (True,) * 3
    plan = Plan("stages", 3, channels, labels, True, axes, (1.2,) * 3, WINDOW, 1, False, flips, network)
    torch.manual_seed(0)
    export_model(build_network(network, 1, 4, 3), plan, {}, root / f"{name}.ts")
    model = load_model(root / f"{name}.ts")
    return Predictor([replace(model, network=Elsewhere()) if name == "elsewhere" else model])


def timed(segmenter: Any, scans: list[Examination], side_by_side: bool) -> dict[str, float]:
    """Whole seconds, those of each stage, and the processor's."""
    rows: list[Row] = []
    pipeline, left = Pipeline(segmenter, side_by_side), deque(scans)

    def feed() -> bool:
        if pipeline.hungry and left:
            pipeline.give(Scan(left.popleft(), rows))
        return len(rows) < len(scans)

    start, processor = time.perf_counter(), time.process_time()
    pipeline.run(feed)
    found = {"whole": time.perf_counter() - start, "processor": time.process_time() - processor}
    stages = {name: sum(row.seconds[name] for row in rows) for name in rows[0].seconds}
    return {**found, "busy": stages["network"] / found["whole"], **stages}


def compare(root: Path, name: str, turns: int) -> dict[str, dict[str, float]]:
    """The median figures of both ways."""
    scans = gather(root / "in", root / "out", ["MR"])
    ways = {"in turn": False, "side by side": True}
    segmenters: dict[str, Any] = {way: FixedStages() for way in ways}
    if name != "fixed":
        predictor = make_predictor(root, name)
        segmenters = {way: Segmenter(predictor, root / f"{name} {way}", "", FolderOptions()) for way in ways}
        timed(segmenters["in turn"], scans[:1], False)  # warm
    each: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
    for _ in range(turns):
        for way, side_by_side in ways.items():
            each[way].append(timed(segmenters[way], scans, side_by_side))
    files = [sorted((root / f"{name} {way}").rglob("*.nii.gz")) for way in ways]
    assert len(files[0]) == (0 if name == "fixed" else len(scans))
    assert [path.read_bytes() for path in files[0]] == [path.read_bytes() for path in files[1]], "the label maps differ"
    return {way: {key: statistics.median(one[key] for one in found) for key in found[0]} for way, found in each.items()}


def main() -> None:
    """Run, compare, print and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=["fixed", *FEATURES], default=["fixed", *FEATURES])
    parser.add_argument("--scans", type=int, default=12)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--threads", type=int, default=0, help="of each stage; 0: as many as torch takes")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make_scans(root / "in", options.scans)
        found = {name: compare(root, name, options.turns) for name in options.networks}
    about = f"{options.scans} scans, {torch.get_num_threads()} thread(s) a stage, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    print(f"{about}; the label maps of both ways are equal to the byte")
    columns = ["whole", "processor", "busy", "read", "prepare", "network", "restore", "write"]
    print(f"{'':24s}" + "".join(f"{column:>10s}" for column in columns) + f"{'ratio':>8s}")
    for name, ways in found.items():
        for way, figures in ways.items():
            ratio = figures["whole"] / ways["in turn"]["whole"]
            print(f"{name + ', ' + way:24s}" + "".join(f"{figures.get(column, 0.0):10.2f}" for column in columns) + f"{ratio:8.2f}")
    if options.json:
        options.json.write_text(json.dumps({"about": about, "networks": found}, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
