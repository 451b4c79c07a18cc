"""Who trains and who validates: by seed, whole patients only, frozen in `splits.json`."""

from __future__ import annotations

import dataclasses
import difflib
import json
import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from segpipe.dataset.case import Case
from segpipe.dataset.facts import CaseFacts, Values
from segpipe.errors import ConfigError, DataError
from segpipe.io.atomic import write_text
from segpipe.settings import DatasetSettings

log = logging.getLogger(__name__)

SPLIT_VERSION = 1
FEW = 5
"""Below this number of cases a score says little; the note says so."""


@dataclass(frozen=True)
class Split:
    """Attributes:
    train, validation: case names, sorted; both the same where nothing can be held out.
    note: how the split came about, and a warning where its scores mislead.
    """

    train: tuple[str, ...]
    validation: tuple[str, ...]
    note: str

    @property
    def held_out(self) -> bool:
        """Whether no case that validates was trained on."""
        return not set(self.train) & set(self.validation)


def make_split(cases: Sequence[Case], settings: DatasetSettings, seed: int) -> Split:
    """Hold out cases for validation; cases of one group never part.

    In this order: `validation_cases`, the manifest's folds, then `split` with `seed`. The order of `cases` does not matter.
    One case alone trains and validates, and the note says that the score means nothing.

    Args:
        cases: those without a label map are passed over.

    Raises:
        ConfigError: the settings name a case or a fold that is not there, or leave nothing to train on.
        DataError: no case has a label map.
    """
    labelled = sorted((case for case in cases if case.label is not None), key=lambda case: case.name)
    if not labelled:
        raise DataError("no case has a label map: there is nothing to train on; add label maps")
    if settings.validation_cases:
        held, how = _chosen(labelled, settings.validation_cases)
    elif any(case.fold is not None for case in labelled):
        held, how = _fold_of_manifest(labelled, settings.fold)
    else:
        held, how = _drawn(labelled, settings, seed)
    notes = [how]
    names = {case.name for case in labelled}
    if not held:
        held = names
        notes.append("WARNING: training and validation use the same cases; the validation score says nothing about other scans")
    elif held == names:
        cure = "name fewer in dataset.validation_cases"
        raise ConfigError(f"all {len(names)} cases are held out; at least one must be left to train on: {cure}")
    train = names - held or names
    notes += _leaks(labelled, train, held)
    if 1 < len(labelled) < FEW:  # of one, it has just been said
        notes.append(f"WARNING: {len(labelled)} labelled case(s) only; a score on so few says little")
    for note in notes[1:]:
        log.warning(note.removeprefix("WARNING: "))
    return Split(tuple(sorted(train)), tuple(sorted(held)), "; ".join(notes))


def fold_numbers(cases: Sequence[Case], settings: DatasetSettings) -> list[int]:
    """The folds that there are: those of the manifest, else as many as are wanted and the groups allow.

    Raises:
        DataError: fewer than two.
    """
    labelled = [case for case in cases if case.label is not None]
    fixed = sorted({case.fold for case in labelled if case.fold is not None})
    count = len(_units(labelled, 0)[0])
    found = fixed or list(range(min(settings.folds, count)))
    if len(found) < 2:
        raise DataError(f"{len(labelled)} labelled case(s) cannot be divided into folds; at least two are needed: add cases")
    return found


def keep_together(cases: Sequence[Case], facts: Iterable[CaseFacts]) -> tuple[Case, ...]:
    """The cases with one group for all that share image content or a group, so that a copy never validates its twin.

    Args:
        facts: what `measure` found on these cases; only the content hashes are used.
    """
    parent = {case.name: case.name for case in cases}

    def root(name: str) -> str:
        while parent[name] != name:
            name = parent[name]
        return name

    seen: dict[str, str] = {}
    contents = {case.case: [image.content for image in case.images if image.content and _varies(image.whole)] for case in facts}
    for case in cases:
        for key in [f"group {case.group}"] * bool(case.group) + [f"content {content}" for content in contents.get(case.name, [])]:
            other = seen.setdefault(key, case.name)
            parent[root(case.name)] = root(other)
    members: dict[str, list[Case]] = defaultdict(list)
    for case in cases:
        members[root(case.name)].append(case)
    names = {case.name: _common_group(together) for together in members.values() for case in together}
    return tuple(dataclasses.replace(case, group=names[case.name]) for case in cases)


def _common_group(together: list[Case]) -> str:
    """The first group that is known, else the first name; a case on its own without a group stays so."""
    known = sorted(case.group for case in together if case.group)
    names = sorted(case.name for case in together)
    return known[0] if known else names[0] if len(names) > 1 else ""


def _varies(values: Iterable[Values]) -> bool:
    return any(channel.minimum != channel.maximum for channel in values)


def _chosen(cases: list[Case], wanted: list[str]) -> tuple[set[str], str]:
    names = [case.name for case in cases]
    for name in wanted:
        if name not in names:
            near = difflib.get_close_matches(name, names, 3) or names[:3]
            raise ConfigError(f"dataset.validation_cases names {name!r}, which is no labelled case; similar: {', '.join(near)}")
    if len(names) == 1:
        return set(), "one case, which dataset.validation_cases holds out"
    return set(wanted), f"{len(set(wanted))} cases held out by dataset.validation_cases"


def _fold_of_manifest(cases: list[Case], fold: int) -> tuple[set[str], str]:
    folds = sorted({case.fold for case in cases if case.fold is not None})
    if fold not in folds:
        raise ConfigError(f"dataset.fold is {fold}; the manifest has the folds {', '.join(map(str, folds))}: choose one of them")
    held = {case.name for case in cases if case.fold == fold}
    if len(held) == len(cases):
        return set(), f"the manifest puts all cases into fold {fold}"
    return held, f"fold {fold} of the manifest held out"


def _drawn(cases: list[Case], settings: DatasetSettings, seed: int) -> tuple[set[str], str]:
    """Draw whole groups; a case without one is a group of its own. With one group only, draw cases."""
    units, grouped = _units(cases, seed)
    by = f"by {'group (patients, and cases that show the same scan, stay together)' if grouped else 'case'}, seed {seed}"
    if len(units) == 1:
        return set(), "one case"
    if settings.split == "folds":
        held, count = _fold(units, settings.folds, settings.fold)
        fewer = f" (not {settings.folds}: there are no more to divide)" if count < settings.folds else ""
        return held, f"fold {settings.fold} of {count}{fewer} held out, {by}"
    if settings.fraction == 0:
        return set(), "nothing held out (dataset.fraction is 0)"
    return _share(units, settings.fraction), f"{settings.fraction:g} of the cases held out, {by}"


def _units(cases: Sequence[Case], seed: int) -> tuple[list[list[str]], bool]:
    """Cases that never part, in an order drawn by seed, and whether groups made them."""
    by_group: dict[str, list[str]] = defaultdict(list)
    for case in cases:
        by_group[f"group {case.group}" if case.group else f"case {case.name}"].append(case.name)
    grouped = any(case.group for case in cases)
    if len(by_group) == 1 and len(cases) > 1:
        by_group = {case.name: [case.name] for case in cases}
        grouped = False
    keys = sorted(by_group)
    return [by_group[keys[place]] for place in np.random.default_rng(seed).permutation(len(keys))], grouped


def _fold(units: list[list[str]], wanted: int, fold: int) -> tuple[set[str], int]:
    """One of equally large folds: each unit, the largest first, goes to the smallest fold so far."""
    count = min(wanted, len(units))
    if fold >= count:
        raise ConfigError(f"dataset.fold is {fold}; must be below {count}, the number of folds")
    folds: list[list[str]] = [[] for _ in range(count)]
    for unit in sorted(units, key=len, reverse=True):
        min(folds, key=len).extend(unit)
    return set(folds[fold]), count


def _share(units: list[list[str]], fraction: float) -> set[str]:
    """Units until the wanted share of the cases is reached as closely as they allow; at least one, never all."""
    target = max(1.0, fraction * sum(len(unit) for unit in units))
    held: set[str] = set()
    taken = 0
    for unit in units:
        if taken == len(units) - 1:
            break
        if not held or abs(len(held) + len(unit) - target) < abs(len(held) - target):
            held |= set(unit)
            taken += 1
    return held


def _leaks(cases: list[Case], train: set[str], held: set[str]) -> list[str]:
    if train == held:
        return []
    groups = [{case.group for case in cases if case.group and case.name in side} for side in (train, held)]
    both = sorted(groups[0] & groups[1])
    return [f"WARNING: {', '.join(both[:3])} on both sides; the validation score is too good"] if both else []


def save_split(path: Path, split: Split) -> None:
    """Write `splits.json` atomically."""
    write_text(path, json.dumps({"version": SPLIT_VERSION, **dataclasses.asdict(split)}, indent=2) + "\n")


def load_split(path: Path) -> Split:
    """Read `splits.json`.

    Raises:
        DataError: missing, damaged or of another version.
    """
    cure = "delete it to draw a new split, or restore it"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DataError(f"{path}: cannot be read as a split ({error}): {cure}") from error
    if not isinstance(values, dict) or values.get("version") != SPLIT_VERSION:
        raise DataError(f"{path}: is no split of version {SPLIT_VERSION}: {cure}")
    sides = [values.get("train"), values.get("validation")]
    if not all(isinstance(side, list) and side and all(isinstance(name, str) for name in side) for side in sides):
        raise DataError(f"{path}: must list case names under 'train' and 'validation': {cure}")
    return Split(tuple(values["train"]), tuple(values["validation"]), str(values.get("note", "")))


def check_split(path: Path, split: Split, cases: Sequence[Case]) -> None:
    """Refuse a frozen split of which the data set has lost a case; new cases stay out of it, with a warning.

    Raises:
        DataError: a case of the split is no longer there, or no longer has a label map.
    """
    there = {case.name for case in cases if case.label is not None}
    known = {*split.train, *split.validation}
    lost = sorted(known - there)
    if lost:
        more = f" and {len(lost) - 3} more" if len(lost) > 3 else ""
        raise DataError(
            f"{path}: names {', '.join(lost[:3])}{more}, which the data set no longer has; "
            "restore the case(s), or start a new run in another run_dir"
        )
    if there - known:
        log.warning("%d cases are new since the split was frozen in %s; they are not used", len(there - known), path)
