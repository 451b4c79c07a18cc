"""Patches for training: prepared cases in memory or on disk, cut so that batch number `step` is the same in every run."""

from __future__ import annotations

import logging
import math
import shutil
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from segpipe.cores import available_cores
from segpipe.dataset.case import Case
from segpipe.dataset.open import open_case
from segpipe.errors import ConfigError, DataError, SegpipeError
from segpipe.geometry.grid import Shape
from segpipe.io.atomic import replacing
from segpipe.patches.sampling import cut, draw_centre, positions
from segpipe.plan.plan import Plan
from segpipe.prepare.prepare import prepare
from segpipe.prepare.prepared import Prepared
from segpipe.progress import track
from segpipe.training.memory import memory_advice, smaller_scan
from segpipe.training.seed import generator

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingCase:
    """A prepared case with its name and the voxels of each class (flat indices)."""

    name: str
    prepared: Prepared
    positions: dict[int, Tensor]

    @property
    def label(self) -> Tensor:
        if self.prepared.label is None:
            raise DataError(f"{self.name}: has no label map; only annotated cases can be trained or validated")
        return self.prepared.label


def prepare_case(case: Case, plan: Plan) -> TrainingCase:
    """Read and prepare one case.

    Raises:
        DataError, GeometryError: naming the file.
    """
    try:
        with memory_advice(f"to prepare the case {case.name}", smaller_scan(case.name)):
            opened = open_case(case)
            prepared = prepare(opened.image, plan, opened.label)
    except ConfigError:
        raise
    except SegpipeError as error:
        raise type(error)(f"case {case.name}: {error}") from error
    found = positions(prepared.label) if prepared.label is not None else {}
    return TrainingCase(case.name, prepared, found)


_CHUNK = 8


def prepare_cases(cases: Sequence[Case], plan: Plan, threads: int, limit_gb: float, folder: Path) -> list[TrainingCase]:
    """Prepare all cases in parallel, in the order given.

    Args:
        limit_gb: gigabytes that may be kept in memory by this process.
        folder: takes what is over, as memory-mapped arrays.
    """
    kept: list[TrainingCase] = []
    used = 0.0
    with ThreadPoolExecutor(max(1, threads)) as pool:
        for done in track(_in_chunks(pool, cases, plan), f"preparing {len(cases)} cases", len(cases)):
            size = (done.prepared.image.numel() * 4 + done.label.numel()) / 1e9
            if used + size <= limit_gb:
                used += size
                kept.append(done)
            else:
                kept.append(_on_disk(done, folder))
    return kept


def _in_chunks(pool: ThreadPoolExecutor, cases: Sequence[Case], plan: Plan) -> Iterator[TrainingCase]:
    """Cases as they are prepared, so that no more than a few wait in memory before they are written to the cache."""
    for start in range(0, len(cases), _CHUNK):
        yield from pool.map(lambda case: prepare_case(case, plan), cases[start : start + _CHUNK])


def _on_disk(case: TrainingCase, folder: Path) -> TrainingCase:
    """Move the arrays of a case into memory-mapped files: a patch is then read alone."""
    arrays = []
    for kind, tensor in (("image", case.prepared.image), ("label", case.label)):
        path = folder / f"{case.name}.{kind}.npy"
        with replacing(path) as temporary:  # another process of the run may have the file in use: it keeps its own
            np.save(temporary, tensor.numpy())
        arrays.append(torch.from_numpy(np.load(path, mmap_mode="c")))
    return replace(case, prepared=replace(case.prepared, image=arrays[0], label=arrays[1]))


class PatchBatches(IterableDataset[dict[str, Any]]):
    """Endless batches of patches; batch number `step` depends on seed, step and rank alone.

    Each item holds `image` (B, C, *size) float32, `label` (B, *size) uint8, `cases` (names) and `step`. The last patches of a batch
    are centred on a labelled voxel: of the first n batches of a run, `foreground x n x B` patches, rounded down.
    The share is exact over the run and never rounded up in each batch, which for two patches a step would leave no place for the
    rest of the scan: a network that has never seen it finds structures all over it.

    Args:
        sizes: voxels of a patch, which lies inside the scan where it fits, and of the piece that is read around it (see `Augment`).
        foreground: share of all patches that is centred on a labelled voxel.
    """

    def __init__(self, cases: Sequence[TrainingCase], sizes: tuple[Shape, Shape], batch: int, foreground: float, seed: int) -> None:
        super().__init__()
        self.cases, self.batch, self.seed = cases, batch, seed
        self.patch_size, self.size = sizes
        self.foreground = foreground
        self.first_step, self.rank = 0, 0
        self._with_foreground = [n for n, case in enumerate(cases) if any(index > 0 for index in case.positions)]
        if not self._with_foreground:
            raise DataError("no training case has a labelled voxel: check the label maps and dataset.label_names")

    @property
    def batch_bytes(self) -> int:
        """Of the pieces of one batch, images and label maps."""
        return self.batch * math.prod(self.size) * (4 * self.cases[0].prepared.image.shape[0] + 1)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        worker = get_worker_info()
        step, stride = self.first_step, 1
        if worker is not None:
            step, stride = step + worker.id, worker.num_workers
        while True:
            yield self.draw(step)
            step += stride

    def draw(self, step: int) -> dict[str, Any]:
        """Batch number `step` (counted from 0)."""
        random = generator(self.seed, "patch", step, self.rank)
        images, labels, names = [], [], []
        share = self._forced(step + 1) - self._forced(step)
        for number in range(self.batch):
            forced = number >= self.batch - share
            case = self._choose(forced, random)
            centre = draw_centre(case.label.shape, case.positions, forced, self.patch_size, random)
            image, label = cut(case.prepared.image, case.label, centre, self.size)
            images.append(image)
            labels.append(label)
            names.append(case.name)
        return {"image": torch.stack(images), "label": torch.stack(labels), "cases": names, "step": step}

    def _forced(self, steps: int) -> int:
        """How many patches of the first `steps` batches are centred on a labelled voxel."""
        return math.floor(round(self.foreground * self.batch * steps, 6))

    def _choose(self, forced: bool, random: torch.Generator) -> TrainingCase:
        pool = self._with_foreground if forced else range(len(self.cases))
        return self.cases[pool[int(torch.randint(len(pool), (1,), generator=random))]]


_MOST_WORKERS, _AHEAD = 4, 2
"""Loader processes for a GPU, and batches that each of them may have ready."""


def loader_workers(wanted: int, device: str, batch_bytes: int, processes: int = 1) -> int:
    """Loader processes of each training process: as wanted, or, where that is -1, some for a GPU, which takes patches faster than one
    process can cut and augment them, and none for a processor, whose cores all learn.

    Args:
        device: `cpu` or `cuda`.
        batch_bytes: of a batch before augmentation; those that are ready lie in shared memory, of which containers often have little.
        processes: of the training on this machine.
    """
    if wanted >= 0 or device == "cpu":
        return max(wanted, 0)
    workers = min(_MOST_WORKERS, available_cores() // (2 * processes))
    memory = Path("/dev/shm")
    if memory.is_dir():  # half of what is free, and a batch in each hand besides those that are ready
        workers = min(workers, int(shutil.disk_usage(memory).free / 2 / processes / ((_AHEAD + 1) * batch_bytes)))
    return workers


class PatchData(pl.LightningDataModule):
    """Lightning's door to `PatchBatches`.

    Args:
        workers: loader processes.
        pin: whether batches are laid where a GPU fetches them while it works.
    """

    def __init__(self, batches: PatchBatches, workers: int, pin: bool = False) -> None:
        super().__init__()
        self.batches, self.workers, self.pin = batches, workers, pin

    def train_dataloader(self) -> DataLoader[dict[str, Any]]:
        trainer = self.trainer
        if trainer is not None:
            self.batches.first_step, self.batches.rank = trainer.global_step, trainer.global_rank
        ahead = _AHEAD if self.workers else None
        return DataLoader(
            self.batches,
            batch_size=None,
            num_workers=self.workers,
            prefetch_factor=ahead,
            worker_init_fn=_leave_signals,
            pin_memory=self.pin,
        )


def _leave_signals(worker: int) -> None:
    """A terminal or a scheduler signals all processes: the training decides when it ends, and its loaders end with it."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
