"""Which trainings make up a cross-validation: folds, seeds, configurations; what each is called, and which of them are done."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segpipe.errors import ConfigError, DataError
from segpipe.io.atomic import write_text
from segpipe.plan.configurations import plan_name
from segpipe.settings import Settings
from segpipe.training.run_folder import RunFolder

log = logging.getLogger(__name__)

LEDGER = "folds.json"
"""Which members are done; beside their folders."""
DONE = "done"


@dataclass(frozen=True)
class Member:
    """One training. `fold` is None where there is one split; `configuration` is empty where there is one plan."""

    fold: int | None
    seed: int
    name: str
    configuration: str = ""

    def root(self, run_dir: Path) -> Path:
        return run_dir / self.name


def members_of(settings: Settings, folds: Sequence[int], configurations: Sequence[str] = ("",)) -> list[Member]:
    """Every configuration on every fold with every seed, in this order.

    Args:
        folds: of the data set; empty: the one split of the settings.
        configurations: names of plans; one that is empty: the one plan of the settings.
    """
    seeds = range(settings.seed, settings.seed + settings.training.seeds)
    places: list[int | None] = [*folds] or [None]
    every = [(configuration, fold, seed) for configuration in configurations for fold in places for seed in seeds]
    return [Member(fold, seed, _name(configuration, fold, seed, len(seeds) == 1), configuration) for configuration, fold, seed in every]


def _name(configuration: str, fold: int | None, seed: int, alone: bool) -> str:
    """What tells a member from the others; `alone` says that there is one seed."""
    words = [configuration, "" if fold is None else f"fold_{fold}"]
    if not alone or not any(words):
        words.append(f"seed_{seed}")
    return "_".join(filter(None, words))


def member_settings(settings: Settings, member: Member, run_dir: Path) -> Settings:
    """Those of a single training with its configuration's plan, on a split that does not depend on the member's seed, which goes on where
    it was interrupted.
    """
    drawn = settings.dataset.split_seed
    dataset = dataclasses.replace(settings.dataset, split_seed=settings.seed if drawn < 0 else drawn)
    if member.fold is not None:
        dataset = dataclasses.replace(dataset, split="folds", fold=member.fold, validation_cases=[])
    training = dataclasses.replace(settings.training, seeds=1, resume="auto")
    plan = dataclasses.replace(settings.plan, file=str(run_dir / plan_name(member.configuration)))
    alone: dict[str, Any] = {"folds": "none", "configurations": [], "seed": member.seed, "run_dir": str(member.root(run_dir))}
    return dataclasses.replace(settings, dataset=dataset, plan=plan, training=training, **alone)


class Ledger:
    """The state of each member, kept in `folds.json`.

    Raises:
        ConfigError: the file cannot be understood.
    """

    def __init__(self, run_dir: Path) -> None:
        self._path = run_dir / LEDGER
        self._states: dict[str, str] = {}
        if self._path.exists():
            try:
                self._states = {str(name): str(state) for name, state in json.loads(self._path.read_text(encoding="utf-8")).items()}
            except (OSError, ValueError, AttributeError) as error:
                raise ConfigError(f"{self._path}: cannot be read ({error}): delete it, and finished folds are looked at again") from error

    def is_done(self, member: Member, run_dir: Path) -> bool:
        return self._states.get(member.name) == DONE and RunFolder(member.root(run_dir)).model.is_file()

    def put(self, member: Member, state: str) -> None:
        self._states[member.name] = state
        write_text(self._path, json.dumps(self._states, indent=1))


def train_all(members: Sequence[Member], run_dir: Path, train: Callable[[Member], int]) -> int:
    """Train what is not done yet, one after the other; 0, or the exit code of the training that was ended by a signal.

    Args:
        train: trains one member and returns its exit code.

    Raises:
        DataError: a training failed; those before it are kept.
    """
    ledger = Ledger(run_dir)
    left = [member for member in members if not ledger.is_done(member, run_dir)]
    if len(left) < len(members):
        log.info("%d of %d trainings are done already", len(members) - len(left), len(members))
    for number, member in enumerate(left, start=1):
        log.info("training %d of %d: %s", number, len(left), member.root(run_dir))
        ledger.put(member, "begun")
        code = train(member)
        if code >= 128:
            return code
        if code:
            raise DataError(
                f"{member.root(run_dir)}: its training ended with exit code {code}, see its own line above and log.txt; "
                "the others are kept: mend it, and go on with the same command and training.resume=auto"
            )
        ledger.put(member, DONE)
    return 0
