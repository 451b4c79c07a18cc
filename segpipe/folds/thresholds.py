"""Whether an output should be taken sooner or later than at even odds: tried on cases that the networks did not train on.

Only voxels whose outputs are close can change, so these alone are kept, of every case a sample of them, and many offsets are tried on them.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from segpipe.dataset.case import Case
from segpipe.dataset.open import open_case
from segpipe.errors import DataError
from segpipe.folds.evidence import LEAST_GAIN, Refusal, predictors, true_indices
from segpipe.folds.members import Member
from segpipe.inference.predictor import Predictor
from segpipe.plan.plan import IGNORED
from segpipe.prepare.readout import Readout, readout_of
from segpipe.progress import track
from segpipe.settings import Settings

log = logging.getLogger(__name__)

OFFSETS = (-0.85, -0.4, -0.2, 0.2, 0.4, 0.85)
"""That are tried, in logits: of a region, thresholds of 0.7, 0.6, 0.55, 0.45, 0.4 and 0.3."""
_MOST_VOXELS = 50_000
"""Of a case that are kept."""
_MOST_NUMBERS = 2**27
"""Outputs x voxels of a scan (half a gigabyte, of which several copies are made); larger ones are left out."""


@dataclass(frozen=True)
class Doubt:
    """One case.

    Attributes:
        scores: (N, V) of the voxels that offsets may change.
        true: (V,) their true class.
        weight: voxels that each of them stands for.
        sure: (3, classes) of all other voxels: those that are right, predicted, true.
    """

    scores: Tensor
    true: Tensor
    weight: float
    sure: NDArray[np.float64]


@dataclass(frozen=True)
class Moved:
    """The offset that was best for one output.

    Attributes:
        before, after: mean Dice over cases and labels; empty in truth and prediction counts as 1.
        refusal: why it is no part of the model; empty when it is.
    """

    output: str
    offset: float
    before: float
    after: float
    refusal: Refusal = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return dataclasses.asdict(self) | {"accepted": not self.refusal}


def choose_offsets(
    run_dir: Path, members: Sequence[Member], cases: Sequence[Case], settings: Settings
) -> tuple[tuple[float, ...], list[Moved]]:
    """Offsets for the outputs (empty where none helps), and what was tried.

    One output after the other takes the offset with the highest mean Dice, where that gains and no label falls.
    """
    doubts: list[Doubt] = []
    readout, names = Readout(), [""]
    for predictor, held_out in predictors(run_dir, members, cases, settings):
        readout = readout_of(predictor.plan)
        names = list(predictor.plan.targets) if readout.paint else [label.name for label in predictor.plan.labels]
        doubts += _doubts(predictor, held_out)
    if not doubts:
        log.warning("no scan on which thresholds could be tried: even odds are kept")
        return (), []
    offsets, tried = [0.0] * len(names), []
    best = dice_with(doubts, readout, offsets)
    for number, name in enumerate(names):
        if number == 0 and not readout.paint:
            continue  # the background: the other classes against it are enough
        found = {value: dice_with(doubts, readout, [*offsets[:number], value, *offsets[number + 1 :]]) for value in OFFSETS}
        value = max(found, key=lambda one: found[one].mean())
        dice = found[value]
        gains, falls = dice.mean() > best.mean() + LEAST_GAIN, bool((dice.mean(0) < best.mean(0)).any())
        refusal: Refusal = "no gain" if not gains else "a label falls" if falls else ""
        tried.append(Moved(name, value, float(best.mean()), float(dice.mean()), refusal))
        if not refusal:
            offsets[number], best = value, dice
    return (tuple(offsets) if any(offsets) else ()), tried


def _doubts(predictor: Predictor, held_out: Sequence[Case]) -> Iterator[Doubt]:
    plan = predictor.plan
    readout = readout_of(plan)
    for case in track(held_out, "trying thresholds", len(held_out)):
        opened = open_case(case)
        volume = opened.image
        if opened.label is None or plan.outputs * volume.array[0].size > _MOST_NUMBERS:
            log.info("%s: too large for thresholds to be tried on it", case.name)
            continue
        try:
            shares = predictor.predict(volume, probabilities=True).probabilities
        except DataError as error:  # out of memory, say: the label map alone could be made
            log.warning("%s: thresholds are not tried on it: %s", case.name, error)
            continue
        if shares is None:
            continue
        true = true_indices(opened.label, plan).reshape(-1)
        scores = readout.scores(torch.from_numpy(shares).reshape(plan.outputs, -1))
        judged = torch.from_numpy(true != IGNORED)
        yield doubt_of(scores[:, judged], torch.from_numpy(true)[judged], readout, plan.classes)


def doubt_of(scores: Tensor, true: Tensor, readout: Readout, classes: int) -> Doubt:
    """Args:
    scores: (N, V) of all voxels.
    true: (V,) class indices.
    """
    reach = max(map(abs, OFFSETS)) * (1 if readout.paint else 2)  # of two classes one may rise and the other fall
    if readout.paint:
        close = (scores.abs() <= reach).any(0)
    else:
        top = scores.topk(2, dim=0).values
        close = top[0] - top[1] <= reach
    sure = _counts(readout.indices(scores[:, ~close]), true[~close], classes)
    kept = close.nonzero()[:, 0]
    count = kept.numel()
    if count > _MOST_VOXELS:
        kept = kept[torch.randperm(count, generator=torch.Generator().manual_seed(0))[:_MOST_VOXELS]]
    return Doubt(scores[:, kept], true[kept], count / max(1, kept.numel()), sure)


def dice_with(doubts: Sequence[Doubt], readout: Readout, offsets: Sequence[float]) -> NDArray[np.float64]:
    """(cases, labels): Dice with these offsets."""
    moved = dataclasses.replace(readout, offsets=tuple(offsets))
    rows = []
    for one in doubts:
        right, predicted, true = one.sure + one.weight * _counts(moved.indices(one.scores), one.true, one.sure.shape[1])
        both = predicted + true
        rows.append(np.where(both > 0, 2.0 * right / np.maximum(both, 1e-9), 1.0)[1:])
    return np.array(rows)


def _counts(predicted: Tensor, true: Tensor, classes: int) -> NDArray[np.float64]:
    """(3, classes): voxels that are right, predicted, true."""
    sides = (true[predicted == true], predicted, true)
    return np.stack([torch.bincount(side.long(), minlength=classes).numpy().astype(np.float64) for side in sides])
