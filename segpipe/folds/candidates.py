"""Which configuration becomes the model: one alone, or two together, by the cases that they held out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from segpipe.dataset.case import Case
from segpipe.folds.evidence import LEAST_GAIN, OutOfFold, dice_of_cases, predict_held_out
from segpipe.folds.members import Member
from segpipe.plan.configurations import pairs_of
from segpipe.settings import Settings

OUT_OF_FOLD = "out_of_fold"
"""Under the run folder: label maps of all held-out cases, of several candidates in a folder each."""


@dataclass(frozen=True)
class Candidate:
    """Attributes:
    members: the trainings that make it up.
    out: folder of the label maps.
    found: what they predict of the cases that they held out.
    mean_dice: over cases and labels; empty in truth and prediction counts as 1.
    """

    configurations: tuple[str, ...]
    members: tuple[Member, ...]
    out: Path
    found: OutOfFold
    mean_dice: float

    @property
    def name(self) -> str:
        return " + ".join(self.configurations)


def try_candidates(run_dir: Path, members: Sequence[Member], cases: Sequence[Case], settings: Settings) -> list[Candidate]:
    """Predict the held-out cases with each configuration and each pair of them; what is predicted already is kept.

    Raises:
        DataError: a case could not be predicted.
    """
    every = pairs_of(list(dict.fromkeys(member.configuration for member in members)))
    candidates = []
    for configurations in every:
        own = [member for member in members if member.configuration in configurations]
        out = run_dir / OUT_OF_FOLD if len(every) == 1 else run_dir / OUT_OF_FOLD / "+".join(configurations)
        found = predict_held_out(run_dir, own, cases, settings, out)
        candidates.append(Candidate(configurations, tuple(own), out, found, float(dice_of_cases(found).mean())))
    return candidates


def best_of(candidates: Sequence[Candidate]) -> Candidate:
    """The highest Dice; two together, which take the time of both, only where they gain more than nothing over the best one alone."""
    alone = max((one for one in candidates if len(one.configurations) == 1), key=lambda one: one.mean_dice)
    best = max(candidates, key=lambda one: one.mean_dice)
    return best if best.mean_dice > alone.mean_dice + LEAST_GAIN else alone
