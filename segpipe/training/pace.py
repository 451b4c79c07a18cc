"""How long a step of training takes on this machine: a few real ones, timed."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from segpipe.package.precision import Compute
from segpipe.patches.augment import Augment
from segpipe.plan.plan import Plan
from segpipe.settings import Settings
from segpipe.training.data import PatchBatches, PatchData, TrainingCase, loader_workers
from segpipe.training.in_flight import InFlight
from segpipe.training.loss import loss_of
from segpipe.training.memory import loader_advice
from segpipe.training.step_loss import StepLoss

WARM_UP = 3
"""Steps that are not counted: the libraries choose their kernels in them."""
LEAST = 3
_FIRST, _AHEAD_STEPS = 2, 3
"""Steps on a GPU that start its libraries, and of each loader process the batches that it has ready by then, with the one in its hand."""


class TimedSteps:
    """The steps of a training, one at a time: draw, augment, forward, backward, optimiser.

    Args:
        network: trained a little on the way; see `SegmentationModule`.
        cases: that patches are drawn from.

    Attributes:
        warming: steps at the beginning that say nothing: the first on a GPU starts its libraries and is recorded (see `Captured`), and
            loader processes have the next ones ready by then.
    """

    def __init__(self, network: nn.Module, cases: Sequence[TrainingCase], plan: Plan, settings: Settings, compute: Compute) -> None:
        wanted = settings.training
        self.network, self.plan, self.compute, self.clip = network, plan, compute, wanted.clip or 1.0
        self.augment = Augment(settings.augment, plan.dims, plan.flips, plan.patch_size, plan.spacing_mm)
        sizes = (plan.patch_size, self.augment.read_size)
        self.batches = PatchBatches(cases, sizes, plan.batch_size, wanted.foreground, settings.seed)
        self.loss, self.weights = loss_of(plan, wanted).to(compute.device), list(network.parameters())
        self.optimiser = torch.optim.AdamW(self.weights, wanted.lr, fused=True)
        self._workers = workers = loader_workers(wanted.workers, compute.device, self.batches.batch_bytes)
        ahead = PatchData(self.batches, workers, compute.device == "cuda").train_dataloader() if workers else None
        self._ahead = iter(ahead) if ahead is not None else None
        self.warming = 0 if compute.device == "cpu" else _FIRST + _AHEAD_STEPS * workers
        self.step_loss = StepLoss(network, self.loss, plan, wanted)
        self._in_flight = InFlight(1)

    def warm_up(self, limit: float) -> int:
        """Take the steps that say nothing, for no more than `limit` seconds once the first two are over; returns their number."""
        taken, began = 0, time.perf_counter()
        while taken < self.warming and (taken < _FIRST or time.perf_counter() - began < limit):
            self.seconds(taken)
            taken += 1
            if taken == _FIRST:
                began = time.perf_counter()
        return taken

    def close(self) -> None:
        """End the loader processes, which a process that ends with them alive waits for."""
        self._ahead = None

    def load(self, number: int) -> tuple[Tensor, Tensor]:
        """Augmented patches and their label maps, as the network and the loss take them; loader processes choose their own number."""
        with loader_advice(self._workers):
            batch = self.batches.draw(number) if self._ahead is None else next(self._ahead)
        random = torch.Generator().manual_seed(number)
        image, label = (batch[kind].to(self.compute.device, non_blocking=True) for kind in ("image", "label"))
        with torch.no_grad():
            image, label = self.augment(image, label, random)
        return (image.squeeze(-1), label.squeeze(-1)) if self.plan.dims == 2 else (image, label)

    def seconds(self, number: int, loaded: tuple[Tensor, Tensor] | None = None) -> float:
        """Seconds of step `number`, or of learning alone, from patches that were `loaded` before."""
        started = time.perf_counter()
        image, label = loaded or self.load(number)
        self.optimiser.zero_grad()
        with torch.autocast(self.compute.device, torch.bfloat16, enabled=self.compute.bf16):
            total = self.step_loss(image, label)
        total.backward()
        norm = nn.utils.clip_grad_norm_(self.weights, self.clip)
        self.optimiser.step()
        self._in_flight.put(total, norm, "")  # waits until a GPU is done with the step before
        return time.perf_counter() - started


@dataclass(frozen=True)
class Pace:
    """Attributes:
    step_seconds: of a step, the median.
    compile_seconds: that come before the first; 0 where the network is not to be compiled.
    """

    step_seconds: float
    compile_seconds: float


def measure_pace(
    network: nn.Module, cases: Sequence[TrainingCase], plan: Plan, settings: Settings, compute: Compute, seconds: float
) -> Pace:
    """Take a few steps.

    Args:
        seconds: for the steps that are counted; at least `LEAST` of them.
    """
    steps = TimedSteps(network, cases, plan, settings, compute)
    try:
        first = steps.warm_up(seconds)
        for number in range(first, first + WARM_UP):
            steps.seconds(number)
        times: list[float] = []
        began = time.perf_counter()
        while len(times) < LEAST or time.perf_counter() - began < seconds:
            times.append(steps.seconds(first + WARM_UP + len(times)))
        return Pace(statistics.median(times), steps.step_loss.seconds)
    finally:
        steps.close()


def step_seconds_within(steps: TimedSteps, limit: float) -> float:
    """Median seconds of a few steps, of the last one where `limit` seconds are over before; one step is taken in any case, after those
    that say nothing. Ends the loader processes."""
    try:
        first = steps.warm_up(limit)
        began, times = time.perf_counter(), [steps.seconds(first)]
        while len(times) < WARM_UP + LEAST and time.perf_counter() - began < limit:
            times.append(steps.seconds(first + len(times)))
        return statistics.median(times[WARM_UP:]) if len(times) > WARM_UP else times[-1]
    finally:
        steps.close()
