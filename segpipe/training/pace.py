"""How long a step of training takes on this machine: a few real ones, timed."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence

import torch
from torch import nn

from segpipe.package.precision import Compute
from segpipe.patches.augment import Augment
from segpipe.plan.plan import Plan
from segpipe.settings import Settings
from segpipe.training.data import PatchBatches, TrainingCase
from segpipe.training.loss import loss_of, supervised

WARM_UP = 3
"""Steps that are not counted: the libraries choose their kernels in them."""
LEAST = 3


def step_seconds(
    network: nn.Module, cases: Sequence[TrainingCase], plan: Plan, settings: Settings, compute: Compute, seconds: float
) -> float:
    """Median seconds of the steps of a training: draw, augment, forward, backward, optimiser.

    Args:
        network: trained a little on the way.
        cases: that patches are drawn from.
        seconds: for the steps that are counted; at least `LEAST` of them.
    """
    wanted = settings.training
    augment = Augment(settings.augment, plan.dims, plan.flips, plan.patch_size, plan.spacing_mm)
    batches = PatchBatches(cases, (plan.patch_size, augment.read_size), plan.batch_size, wanted.foreground, settings.seed)
    loss, weights = loss_of(plan, wanted).to(compute.device), list(network.parameters())
    optimiser = torch.optim.AdamW(weights, wanted.lr, fused=True)
    random = torch.Generator().manual_seed(settings.seed)
    times: list[float] = []
    began = time.perf_counter()
    while len(times) < WARM_UP + LEAST or time.perf_counter() - began < seconds:
        started = time.perf_counter()
        batch = batches.draw(len(times))
        with torch.no_grad():
            image, label = augment(batch["image"].to(compute.device), batch["label"].to(compute.device), random)
        if plan.dims == 2:
            image, label = image.squeeze(-1), label.squeeze(-1)
        optimiser.zero_grad()
        with torch.autocast(compute.device, torch.bfloat16, enabled=compute.bf16):
            heads = network.forward_all(image)  # type: ignore[operator]
            total = supervised(loss, heads, label, network.steps, plan.partly_judged)  # type: ignore[arg-type]
        total.backward()
        nn.utils.clip_grad_norm_(weights, wanted.clip or 1.0)
        optimiser.step()
        total.item()  # waits for a GPU
        times.append(time.perf_counter() - started)
        if len(times) == WARM_UP:
            began = time.perf_counter()
    return statistics.median(times[WARM_UP:])
