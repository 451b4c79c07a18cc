"""Training on a GPU: steps a second, how busy the GPU is, and how often a step makes the processor wait for it.

    python benchmarks/gpu.py hippocampus                                # the task as it ships
    python benchmarks/gpu.py hippocampus --set augment=strong training.cuda_graph=false
    python benchmarks/gpu.py phantom --set plan.rules=nnunet

Each is a whole `segpipe train` of `--steps` steps. Counted are steps from `FIRST` on: the rate over half of them, without a look at the
GPU; the share of that time in which it ran kernels, as `nvidia-smi` samples it; then a few with torch's profiler (milliseconds of
kernels, kernels a step); and a few in which each wait for the GPU is noted with its place. `phantom` is a made data set of large
volumes, so that patches of any size find room.
"""

from __future__ import annotations

import argparse
import collections
import os
import shutil
import statistics
import subprocess
import tempfile
import time
import traceback
import warnings
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytorch_lightning as pl
import torch

from segpipe.config.compose import compose_settings
from segpipe.training.run import run_training

DATA = Path(os.environ.get("SEGPIPE_DATA", "../shared/data"))
TASKS = {
    "hippocampus": ["conf=hippocampus", f"dataset.root={DATA / 'Task04_Hippocampus'}"],
    "prostate": ["conf=prostate", f"dataset.root={DATA / 'prostate_t2'}", "dataset.labels=zones_pz_tz"],
}
FIRST, PROFILED, NOTED = 60, 10, 20


class Watch(pl.Callback):
    """Looks on while the steps are taken, and prints what it saw."""

    def __init__(self) -> None:
        self.last = int(os.environ["SEGPIPE_GPU_STEPS"])
        self.began = 0.0
        self.sampler: subprocess.Popen[str] | None = None
        self.profile: Any = None
        self.waits: collections.Counter[str] = collections.Counter()

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int) -> None:
        step, timed = int(trainer.global_step), self.last - PROFILED - NOTED
        if step == FIRST:
            torch.cuda.synchronize()
            command = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "-lms", "100"]
            self.sampler = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            torch.cuda.reset_peak_memory_stats()
            self.began = time.perf_counter()
        elif step == timed:
            torch.cuda.synchronize()
            seconds = (time.perf_counter() - self.began) / (timed - FIRST)
            print(f"steps: {1 / seconds:.1f} a second, {1000 * seconds:.2f} ms each; GPU memory at most {self._peak():.2f} GB")
            print(f"busy (nvidia-smi): {self._busy()}")
            kinds = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
            self.profile = torch.profiler.profile(activities=kinds).__enter__()
        elif step == self.last - 1:
            torch.cuda.set_sync_debug_mode("default")
        elif step == timed + PROFILED:
            torch.cuda.synchronize()
            self.profile.__exit__(None, None, None)
            self._kernels()
            torch.cuda.set_sync_debug_mode("warn")
            warnings.simplefilter("always")
            warnings.showwarning = self._note  # type: ignore[assignment]

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        print(f"waits: {sum(self.waits.values()) / NOTED:.2f} a step")
        for place, count in self.waits.most_common(12):
            print(f"    {count / NOTED:6.2f}  {place}")

    def _peak(self) -> float:
        return torch.cuda.max_memory_allocated() / 1e9

    def _busy(self) -> str:
        assert self.sampler is not None
        self.sampler.terminate()
        samples = [int(line) for line in self.sampler.communicate()[0].split() if line.isdigit()]
        used = samples[2:]  # the first ones look back to before the counted steps
        return f"median {statistics.median(used):.0f} %, mean {statistics.mean(used):.0f} %, {len(used)} samples" if used else "too short"

    def _kernels(self) -> None:
        events = [event for event in self.profile.events() if event.device_type == torch.autograd.DeviceType.CUDA]
        spans = sorted((event.time_range.start, event.time_range.end) for event in events)
        busy, end = 0.0, 0.0
        for start, stop in spans:
            busy += max(0.0, stop - max(start, end))
            end = max(end, stop)
        print(f"kernels: {len(spans) / PROFILED:.0f} a step, which take {busy / PROFILED / 1000:.2f} ms")
        if os.environ.get("SEGPIPE_GPU_TABLE"):
            for by in ("self_cuda_time_total", "self_cpu_time_total"):
                print(self.profile.key_averages().table(sort_by=by, row_limit=18, max_name_column_width=70))

    def _note(self, message: Any, *rest: Any, **named: Any) -> None:
        if "synchroniz" not in str(message):
            return
        frames = [frame for frame in traceback.extract_stack()[:-1] if "site-packages/torch" not in frame.filename]
        self.waits[" < ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in reversed(frames[-4:]))] += 1


def write_balls(folder: Path, size: int = 160, cases: int = 6) -> None:
    """Noisy volumes of `size` voxels a side, each with a ball of label 1 somewhere."""
    random = np.random.default_rng(0)
    places = np.stack(np.meshgrid(*[np.arange(size)] * 3, indexing="ij"), -1)
    for number in range(cases):
        label = (np.linalg.norm(places - random.uniform(50, size - 50, 3), axis=-1) < random.uniform(15, 40)).astype(np.uint8)
        image = (label + random.normal(0, 1, label.shape)).astype(np.float32)
        for kind, array in (("images", image), ("labels", label)):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), folder / kind / f"ball_{number}.nii.gz")


def main() -> None:
    """Command line of the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=[*TASKS, "phantom"])
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--set", nargs="*", default=[], help="settings of the training")
    parser.add_argument("--table", action="store_true", help="print the profiler's tables, too")
    options = parser.parse_args()
    os.environ |= {"SEGPIPE_GPU_STEPS": str(options.steps)} | ({"SEGPIPE_GPU_TABLE": "1"} if options.table else {})
    folder = Path(tempfile.mkdtemp())
    try:
        if options.task == "phantom":
            write_balls(folder / "data")
            words = [f"dataset.root={folder / 'data'}"]
        else:
            root = {"hippocampus": "Task04_Hippocampus", "prostate": "prostate_t2"}[options.task]
            words = [
                f"conf={options.task}",
                f"dataset.root={DATA / root}",
                *(["dataset.labels=zones_pz_tz"] * (options.task == "prostate")),
            ]
        words += [f"run_dir={folder / 'run'}", "seed=7", f"training.max_steps={options.steps}", "training.callback=gpu.Watch", *options.set]
        words += [f"training.validate_steps={10 * options.steps}", "dataset.fraction=0.02"]
        print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}: {options.task} {' '.join(options.set)}", flush=True)
        run_training(compose_settings(words).settings, "")
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
