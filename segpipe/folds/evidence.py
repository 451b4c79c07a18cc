"""What out-of-fold predictions say: the score of every case by models that never saw it, and whether post-processing would help."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from segpipe.dataset.case import Case
from segpipe.dataset.open import write_truths
from segpipe.dataset.split import load_split
from segpipe.errors import DataError
from segpipe.evaluation.folder import Evaluation, evaluate_pairs
from segpipe.evaluation.names import LabelNames
from segpipe.evaluation.pairs import Pair, Pairs
from segpipe.folds.members import Member
from segpipe.geometry.grid import Volume
from segpipe.geometry.orient import closest_axes
from segpipe.inference.folder import FolderOptions, predict_scans
from segpipe.inference.gather import Examination
from segpipe.inference.postprocess import Rule, apply_rules, components, kept
from segpipe.inference.predictor import Predictor
from segpipe.inference.table import TABLE
from segpipe.io.read import read_beside, read_volume
from segpipe.package.device import choose_device
from segpipe.package.model_file import load_model
from segpipe.plan.plan import IGNORED, Plan
from segpipe.prepare.labels import ignore_empty_slices, to_indices
from segpipe.progress import track
from segpipe.settings import Settings
from segpipe.training.run_folder import RunFolder

log = logging.getLogger(__name__)

LEAST_GAIN = 1e-4
"""Of the mean Dice: a rule that changes less is not worth its explanation."""
SHARES = (0.01, 0.03, 0.1, 0.3)
"""Minimum sizes that are tried, as shares of the label's smallest true volume."""


@dataclass(frozen=True)
class OutOfFold:
    """Attributes:
    pairs: prediction and truth of every case that was held out once.
    plan: of the models.
    """

    pairs: Pairs
    plan: Plan


def predictors(
    run_dir: Path, members: Sequence[Member], cases: Sequence[Case], settings: Settings, offsets: tuple[float, ...] = ()
) -> Iterator[tuple[Predictor, list[Case]]]:
    """For each fold the members that were trained on it, and the cases that they held out."""
    device = choose_device(settings.device)
    by_name, inference = {case.name: case for case in cases}, settings.inference
    for fold in dict.fromkeys(member.fold for member in members):
        own = [RunFolder(member.root(run_dir)) for member in members if member.fold == fold]
        models = [load_model(run.model, device) for run in own]
        predictor = Predictor(models, device, inference.overlap, inference.batch, offsets=offsets)
        yield predictor, [by_name[name] for name in load_split(own[0].splits).validation]


def predict_held_out(
    run_dir: Path, members: Sequence[Member], cases: Sequence[Case], settings: Settings, out: Path, offsets: tuple[float, ...] = ()
) -> OutOfFold:
    """Label maps of all held-out cases in the folder `out`, each by the models that did not train on it; done ones are skipped.

    Args:
        offsets: see `Predictor`.

    Raises:
        DataError: a case could not be predicted.
    """
    pairs: list[Pair] = []
    plan: Plan | None = None
    unlike = 0
    for predictor, held_out in predictors(run_dir, members, cases, settings, offsets):
        plan = plan or predictor.plan
        scans = [Examination(case.name, case.images, slices=None if case.source is None else case.source.slices) for case in held_out]
        truths = write_truths(held_out, out.with_name(f"{out.name}_truth"))
        rows = predict_scans(predictor, scans, out, FolderOptions(tell_scans=False))
        unlike += sum(bool(row.warning) for row in rows)
        for case, row in zip(held_out, rows, strict=True):
            if row.status == "failed" or case.name not in truths:
                raise DataError(f"{case.name}: its held-out prediction failed: {row.reason}")
            pairs.append(Pair(case.name, out / row.output, truths[case.name]))
    if plan is None:
        raise DataError(f"{run_dir}: no training to predict with")
    if unlike:
        what = "%d of %d out-of-fold cases, or their label maps, are unlike the training scans: see the column warning of %s"
        log.warning(what, unlike, len(pairs), out / TABLE)
    return OutOfFold(Pairs(tuple(sorted(pairs, key=lambda pair: pair.case))), plan)


def dice_of_cases(found: OutOfFold) -> NDArray[np.float64]:
    """(cases, labels): Dice of each label as it was predicted; empty in truth and prediction counts as 1."""
    return _dice_of_all(found, (), "comparing with the truth")


def evaluate_held_out(found: OutOfFold) -> Evaluation:
    """Figures on the scans' own grids, as `segpipe evaluate` has them."""
    labels = found.plan.labels
    if found.plan.sparse != "none":
        log.warning("slices that were not annotated (dataset.sparse) count as background in the out-of-fold figures")
    names = {label.value: label.name for label in labels[1:]}
    return evaluate_pairs(found.pairs, LabelNames(labels[0].value, names, found.plan.ignore))


Refusal = Literal["", "no gain", "another rule gains more", "a label falls"]


@dataclass(frozen=True)
class Choice:
    """One rule that was tried.

    Attributes:
        before, after: mean Dice of the label over the cases (of all labels, for a rule on all of them); empty in truth and
            prediction counts as 1, so that taking away a false finding is rewarded.
        refusal: why it is no part of the model; empty when it is.
    """

    rule: Rule
    before: float
    after: float
    refusal: Refusal = ""

    @property
    def accepted(self) -> bool:
        """Whether it is part of the model."""
        return not self.refusal


def choose_rules(found: OutOfFold) -> list[Choice]:
    """Try to keep the largest component of all labels together, then of each label, and minimum sizes; a rule is accepted only when
    the mean out-of-fold Dice rises and no label's falls.
    """
    classes = range(1, found.plan.classes)
    together = Rule(0, keep_largest=True)
    plain, alone = dice_of_cases(found), _dice_of_all(found, (together,), "trying the largest component")
    gains = alone.mean() > plain.mean() + LEAST_GAIN
    falls = any(alone[:, c - 1].mean() < plain[:, c - 1].mean() for c in classes)
    refusal: Refusal = "no gain" if not gains else "a label falls" if falls else ""
    choices = [Choice(together, float(plain.mean()), float(alone.mean()), refusal)]
    rises = choices[0].accepted
    before = (together,) if rises else ()
    smallest = _smallest_ml(found)
    candidates = [
        rule
        for c in classes
        for rule in (
            Rule(c, keep_largest=True),
            *(Rule(c, minimum_ml=round(share * smallest[c], 9)) for share in SHARES if smallest[c] > 0),
        )
    ]
    scores = _dice_of_each(found, before, candidates)
    for c in classes:
        base = float((alone if rises else plain)[:, c - 1].mean())
        own = [(float(scores[number].mean()), rule) for number, rule in enumerate(candidates) if rule.label == c]
        best = max(own, key=lambda one: one[0])
        choices += [Choice(rule, base, score, _refusal(score - base, rule is best[1])) for score, rule in own]
    return choices


def _refusal(gain: float, best: bool) -> Refusal:
    if gain <= LEAST_GAIN:
        return "no gain"
    return "" if best else "another rule gains more"


def _maps(found: OutOfFold, what: str) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8], float]]:
    """Class indices of prediction and truth of each case, voxels that nobody has judged being background in both, and a voxel's ml."""
    for pair in track(found.pairs.matched, what, len(found.pairs.matched)):
        prediction = read_volume(pair.prediction)
        truth = read_beside(pair.truth, pair.prediction)
        predicted = to_indices(prediction.array[0], found.plan.labels)
        true = true_indices(truth, found.plan)
        if found.plan.partly_judged:
            unjudged = true == IGNORED
            predicted, true = (np.where(unjudged, np.uint8(0), side) for side in (predicted, true))
        yield predicted, true, prediction.grid.voxel_volume_ml


def true_indices(truth: Volume, plan: Plan) -> NDArray[np.uint8]:
    """Class indices of a label map as it lies on disk; `IGNORED` where nobody has judged."""
    indices = to_indices(truth.array[0], plan.labels, plan.ignore)
    if plan.sparse == "none":
        return indices
    axes, _ = closest_axes(truth.grid)
    return ignore_empty_slices(indices, axes["xyz".index(plan.sparse)])


def _smallest_ml(found: OutOfFold) -> NDArray[np.float64]:
    """Smallest true volume of each class over the cases that have it; 0 where none has."""
    volumes = np.array(
        [np.bincount(true.reshape(-1), minlength=found.plan.classes) * ml for _, true, ml in _maps(found, "measuring labels")]
    )
    return np.array([column[column > 0].min() if (column > 0).any() else 0.0 for column in volumes.T])


def _dice(shared: float, predicted: float, true: float) -> float:
    return 2.0 * shared / (predicted + true) if predicted + true else 1.0


def _dice_of_all(found: OutOfFold, rules: Sequence[Rule], what: str) -> NDArray[np.float64]:
    """(cases, labels): Dice of each label after `rules`; `what` is told meanwhile."""
    rows = []
    for predicted, true, ml in _maps(found, what):
        clean = apply_rules(predicted, rules, ml)
        sides = [(clean == c, true == c) for c in range(1, found.plan.classes)]
        rows.append([_dice(int((p & t).sum()), int(p.sum()), int(t.sum())) for p, t in sides])
    return np.array(rows)


def _dice_of_each(found: OutOfFold, before: Sequence[Rule], candidates: Sequence[Rule]) -> NDArray[np.float64]:
    """(candidates, cases): Dice of a candidate's own label; it touches no other. One look at the components serves all candidates."""
    columns = []
    for predicted, true, ml in _maps(found, "trying components of each label"):
        clean = apply_rules(predicted, before, ml)
        parts = {c: _parts(clean == c, true == c) for c in {rule.label for rule in candidates}}
        columns.append([_kept_dice(*parts[rule.label], rule, ml) for rule in candidates])
    return np.array(columns).T


def _parts(predicted: NDArray[np.bool_], true: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
    """Voxels of each predicted component, those of them that are right, and the true voxels."""
    numbered, sizes = components(predicted)
    right = np.bincount(numbered[true], minlength=sizes.size + 1)[1:]
    return sizes, right, int(np.count_nonzero(true))


def _kept_dice(sizes: NDArray[np.int64], right: NDArray[np.int64], true: int, rule: Rule, ml: float) -> float:
    stays = kept(sizes, rule, ml)
    return _dice(float(right[stays].sum()), float(sizes[stays].sum()), float(true))


def accepted(choices: Sequence[Choice]) -> list[Rule]:
    """The rules that are part of the model, in the order in which they were chosen."""
    return [choice.rule for choice in choices if choice.accepted]


def as_dict(choice: Choice) -> dict[str, Any]:
    """Plain values for JSON."""
    return dataclasses.asdict(choice) | {"accepted": choice.accepted}
