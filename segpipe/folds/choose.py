"""All that held-out cases decide: which configuration, at which thresholds, with which post-processing."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from segpipe.dataset.case import Case
from segpipe.dataset.split import load_split
from segpipe.folds.assemble import Chosen
from segpipe.folds.candidates import Candidate, best_of, try_candidates
from segpipe.folds.evidence import Choice, OutOfFold, accepted, choose_rules, predict_held_out
from segpipe.folds.members import Member
from segpipe.folds.thresholds import Moved, choose_offsets
from segpipe.settings import Settings
from segpipe.training.run_folder import RunFolder

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Decision:
    """Attributes:
    held_out: whether any case was held out; else nothing but the configuration is chosen.
    best: of the `candidates`.
    found: what it predicts at its thresholds, before post-processing.
    moved, rules: what was tried.
    chosen: what is part of the model.
    """

    held_out: bool
    candidates: tuple[Candidate, ...]
    best: Candidate
    found: OutOfFold
    moved: tuple[Moved, ...]
    rules: tuple[Choice, ...]
    chosen: Chosen


def decide(run_dir: Path, members: Sequence[Member], cases: Sequence[Case], settings: Settings) -> Decision:
    """Predict what each training held out, and choose.

    Raises:
        DataError: a case could not be predicted.
    """
    candidates = tuple(try_candidates(run_dir, members, cases, settings))
    best = best_of(candidates)
    if not load_split(RunFolder(members[0].root(run_dir)).splits).held_out:
        log.warning("nothing was held out: no threshold and no post-processing is chosen, and the figures flatter")
        return Decision(False, candidates, best, best.found, (), (), Chosen())
    offsets, moved = choose_offsets(run_dir, best.members, cases, settings)
    found = predict_held_out(run_dir, best.members, cases, settings, best.out, offsets) if offsets else best.found
    rules = choose_rules(found)
    return Decision(True, candidates, best, found, tuple(moved), tuple(rules), Chosen(tuple(accepted(rules)), offsets))
