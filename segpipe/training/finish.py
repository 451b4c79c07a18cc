"""The end of a run: validation of all held-out cases, the model file, and pictures."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from segpipe.dataset.split import load_split
from segpipe.io.atomic import write_text
from segpipe.package import agreement
from segpipe.package.export import export_model
from segpipe.package.precision import Compute
from segpipe.plan.plan import IGNORED, Plan
from segpipe.progress import track
from segpipe.settings import Settings
from segpipe.training.callbacks import Record
from segpipe.training.data import TrainingCase
from segpipe.training.document import model_document
from segpipe.training.module import SegmentationModule
from segpipe.training.pictures import Overlay, cut_overlay, draw_curves, draw_overlay, spared
from segpipe.training.run_folder import MetricsFile, RunFolder
from segpipe.training.seen import FEW_STEPS
from segpipe.training.stop import OrderlyStop
from segpipe.training.validation import CaseDice, bf16_agreement, class_means, mean_dice, validate

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Finished:
    """What came out of a run.

    Attributes:
        root: the run folder.
        model: the model file.
        dice: mean Dice on the validated cases of each label, by name (NaN where undefined).
        mean_dice: mean over the labels.
        cases: number of validated cases.
        held_out: whether none of them was trained on.
        steps: optimiser steps taken.
        signal: name of the signal that ended it early, or the empty string.
        early: whether it ended before its budget was spent: by a signal, or by the user's own callback.
    """

    root: Path
    model: Path
    dice: dict[str, float]
    mean_dice: float
    cases: int
    held_out: bool
    steps: int
    signal: str
    early: bool


def finish(
    settings: Settings,
    compute: Compute,
    run: RunFolder,
    module: SegmentationModule,
    record: Record,
    cases: Sequence[TrainingCase],
    stop: OrderlyStop,
) -> Finished:
    """Validate, export, draw: pictures come last, because they are the least that a training is for.

    A run that was stopped early validates only the few cases that it validated while it went; one that is stopped here, no further one.
    """
    plan = module.plan
    chosen = list(cases[: settings.training.validate_cases] if module.stopped_by else cases)
    stop.turn_to("validating no further case")
    network = module.inference_network().to(compute.device)
    overlays: list[Overlay] = []
    cut = _cutter(overlays, plan, {case.name for case in chosen[: settings.training.overlays]})
    scores: list[CaseDice] = []
    for case in track(chosen, f"validating {len(chosen)} cases"):
        if stop.asked:
            break
        scores += validate(network, [case], plan, settings.inference, compute, cut)
    names = list(plan.targets)
    steps = len(module.budget.rates)
    same = _agreement(network, chosen, settings, plan, compute, stop)
    stop.turn_to("writing the model file")
    write_text(run.validation, json.dumps({"step": steps} | _report(names, scores) | {agreement.KEY: same}, indent=1))
    means, mean = dict(zip(names, class_means(scores), strict=False)), mean_dice(scores)
    spent = {"step": len(module.budget.rates), "seconds": round(module.budget.elapsed_seconds, 2)}
    record.add(spent | {"dice mean": mean} | {f"dice {name}": value for name, value in means.items()}, module)
    export_model(network.cpu().float().eval(), plan, model_document(run.root, plan, steps), run.model)
    _draw(run, plan, overlays)
    split = load_split(run.splits)
    early = bool(module.stopped_by) or steps < module.budget.max_steps
    if steps < FEW_STEPS and early:
        log.warning("stopped after %d steps; the model is hardly trained: go on with training.resume=auto", steps)
    elif steps < FEW_STEPS and module.budget.max_seconds:
        log.warning(
            "only %d steps fitted into the time; the model is hardly trained: give more training.max_minutes or a free machine", steps
        )
    return Finished(run.root, run.model, means, mean, len(scores), split.held_out, steps, module.stopped_by, early)


def _agreement(
    network: nn.Module, cases: Sequence[TrainingCase], settings: Settings, plan: Plan, compute: Compute, stop: OrderlyStop
) -> dict[str, Any] | None:
    """That of bf16 with fp32; no fault in it may cost the model, which is not written yet."""
    if stop.asked:
        return None
    try:
        return bf16_agreement(network, cases, plan, settings.inference, compute.device, lambda: stop.asked)
    except Exception as error:  # out of memory in fp32, or a kernel that bf16 does not have
        log.warning("bf16 was not compared with fp32 (%s: %s): predict will use fp32", type(error).__name__, " ".join(str(error).split()))
        return None


def _report(names: list[str], scores: Sequence[CaseDice]) -> dict[str, Any]:
    return {
        "checkpoint": "last",
        "cases": len(scores),
        "dice": {name: _known(value) for name, value in zip(names, class_means(scores), strict=False)},
        "mean_dice": _known(mean_dice(scores)),
        "each": [{"case": score.case, "dice": dict(zip(names, map(_known, score.dice), strict=True))} for score in scores],
    }


def _known(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 6)


def _cutter(overlays: list[Overlay], plan: Plan, names: set[str]) -> Callable[[TrainingCase, Tensor], None]:
    """What keeps the slices of the cases `names` while they are validated."""

    def cut(case: TrainingCase, indices: Tensor) -> None:
        if case.name not in names:
            return
        truth, prediction = case.label.numpy().astype(np.uint8), indices.numpy().astype(np.uint8)
        if plan.partly_judged:
            truth = np.where(truth == IGNORED, np.uint8(0), truth)
        with spared(f"the overlay of case {case.name}"):
            overlays.append(cut_overlay(case.name, case.prepared.image.numpy(), truth, prediction))

    return cut


def _draw(run: RunFolder, plan: Plan, overlays: Sequence[Overlay]) -> None:
    with spared(str(run.curves)):
        rows = MetricsFile.read(run.metrics)
        if rows:
            draw_curves(rows, list(plan.targets), run.curves)
    for overlay in overlays:
        with spared(f"the overlay of case {overlay.case}"):
            draw_overlay(overlay, run.overlays / f"{overlay.case}.png", plan)
