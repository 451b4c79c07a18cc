"""The budget of a run (steps or minutes) and the learning rate that reaches zero exactly when it is spent."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from segpipe.errors import ConfigError
from segpipe.io.atomic import write_text

POLY_EXPONENT = 0.9
SCHEDULE_FORMAT = 1


def lr_factor(progress: float, schedule: str, warmup: float) -> float:
    """Share of the highest learning rate at `progress` (0..1) of the budget: linear warm-up, then cosine or poly to zero.

    Poly after Chen et al. 2018 (exponent 0.9, as nnU-Net); cosine after Loshchilov & Hutter 2017.
    """
    progress = min(max(progress, 0.0), 1.0)
    if progress < warmup:
        return max(progress / warmup, 0.01)
    rest = (progress - warmup) / (1.0 - warmup)
    if schedule == "poly":
        return float((1.0 - rest) ** POLY_EXPONENT)
    return 0.5 * (1.0 + math.cos(math.pi * rest))


@dataclass
class Budget:
    """How much of the run is spent.

    Attributes:
        max_steps: number of steps, or 0 when time rules.
        max_seconds: seconds from `started`, or 0 when steps rule.
        used_seconds: seconds that earlier, interrupted parts of this run took.
        reserved_seconds: time kept back for the last validation and the export.
        replay: learning rates of an earlier run, one a step, repeated as they were.
        replay_shares: shares of the budget that were spent before each of these steps; empty: all steps took as long.
        replay_features: widths of the network that took them; empty: not told.
        replay_batch: patches that each of them took; 0: not told.
        rates: learning rates so far.
        shares: shares of the budget spent before each step so far.
    """

    max_steps: int = 0
    max_seconds: float = 0.0
    used_seconds: float = 0.0
    reserved_seconds: float = 0.0
    replay: list[float] = field(default_factory=list)
    replay_shares: list[float] = field(default_factory=list)
    replay_features: tuple[int, ...] = ()
    replay_batch: int = 0
    rates: list[float] = field(default_factory=list)
    shares: list[float] = field(default_factory=list)
    clock: Callable[[], float] = time.monotonic
    started: float = field(init=False)

    def __post_init__(self) -> None:
        self.started = self.clock()

    @property
    def elapsed_seconds(self) -> float:
        return self.used_seconds + self.clock() - self.started

    @property
    def is_timed(self) -> bool:
        """Whether time rules, which no two processes read alike."""
        return not (self.replay or self.max_steps)

    def progress(self, step: int) -> float:
        """Share of the budget (0..1) that is spent before step number `step` (counted from 0)."""
        if self.replay:
            return step / len(self.replay)
        if self.max_steps:
            return step / self.max_steps
        return min(1.0, self.elapsed_seconds / max(self.max_seconds - self.reserved_seconds, 1e-9))

    def share(self, step: int) -> float:
        """As `progress`; of a repeated run, what it was then (a step that began late may have had 1)."""
        return self.replay_shares[step] if step < len(self.replay_shares) else self.progress(step)

    def remaining_seconds(self, step: int, seconds_per_step: float) -> float:
        """Estimate of the time left."""
        steps = len(self.replay) or self.max_steps
        if steps:
            return max(0.0, (steps - step) * seconds_per_step)
        return max(0.0, self.max_seconds - self.elapsed_seconds)


def save_schedule(path: Path, budget: Budget, schedule: str, features: Sequence[int], batch: int) -> None:
    """Write the steps, their learning rates, the widths and the batch, so that the run can be repeated with `training.schedule_file`."""
    values = {
        "format": SCHEDULE_FORMAT,
        "schedule": schedule,
        "steps": len(budget.rates),
        "seconds": round(budget.elapsed_seconds, 3),
        "learning_rates": budget.rates,
        "shares": budget.shares,
        "features": list(features),
        "batch_size": batch,
    }
    write_text(path, json.dumps(values))


def load_schedule(path: Path) -> Budget:
    """The budget that repeats an earlier run: its learning rates, one a step, and what else its file tells.

    Raises:
        ConfigError: the file is missing or is not a schedule.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        rates = [float(rate) for rate in values["learning_rates"]]
        shares = [float(share) for share in values.get("shares", [])]
        features = tuple(int(width) for width in values.get("features", []))
        batch = int(values.get("batch_size", 0))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path}: cannot be read as a schedule ({error}); give the schedule.json of an earlier run") from error
    if not rates:
        raise ConfigError(f"{path}: the schedule has no steps; give the schedule.json of a run that took at least one")
    return Budget(max_steps=len(rates), replay=rates, replay_shares=shares, replay_features=features, replay_batch=batch)
