"""What a training will take, measured on this machine before it starts: a few real steps, a case prepared, a case validated."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import torch

from segpipe.dataset.case import Case
from segpipe.package.precision import Compute
from segpipe.plan.plan import Plan
from segpipe.settings import Settings
from segpipe.training.callbacks import EXPORT_SECONDS, MOST_RESERVED, VALIDATION_SHARE, VALIDATIONS_IN_STEPS
from segpipe.training.custom import build_trainable
from segpipe.training.data import TrainingCase, prepare_case
from segpipe.training.pace import measure_pace
from segpipe.training.schedule import Budget
from segpipe.training.validation import validate

SECONDS = 4.0
"""For the steps that are timed."""
_PREPARED = 3
_GB = 1e9


@dataclass(frozen=True)
class Estimate:
    """Attributes:
    step_seconds: of one step, patches and augmentation included.
    steps: that fit into the budget, or that were asked for.
    seconds: of the whole training, from the start of the command to the model file.
    memory_gb: the most that the process will hold at a time (on a GPU: the most on the GPU while stepping).
    """

    step_seconds: float
    steps: int
    seconds: float
    memory_gb: float


def estimate(cases: Sequence[Case], plan: Plan, settings: Settings, compute: Compute, budget: Budget) -> Estimate:
    """Measure and add up.

    Args:
        cases: annotated ones; the largest file is prepared and validated, as it takes the most memory.
        budget: of the training; what has been used of it (the audit) counts.
    """
    read_seconds = budget.elapsed_seconds
    largest = sorted(cases, key=lambda case: -sum(_bytes(path) for path in case.files))
    chosen = [largest[0], *largest[len(largest) // 2 :][: _PREPARED - 1]]
    started = time.perf_counter()
    prepared = [prepare_case(case, plan) for case in chosen]
    each = (time.perf_counter() - started) / len(prepared)
    held_out = max(1, round(settings.dataset.fraction * len(cases)))
    network = build_trainable(plan, settings.network.target).to(compute.device)
    with _Memory(compute.device) as stepping:
        pace = measure_pace(network, prepared, plan, settings, compute, SECONDS)
    with _Memory(compute.device) as validating:
        started = time.perf_counter()
        validate(network, prepared[:1], plan, settings.inference, compute)
        validation = time.perf_counter() - started
    prepare_seconds = each * len(cases) / max(1, torch.get_num_threads())
    before = read_seconds + prepare_seconds + pace.compile_seconds
    steps, seconds = _time(settings, budget, pace.step_seconds, before, validation, held_out)
    cached = min(settings.training.cache_gb, sum(_case_gb(case) for case in prepared) / len(prepared) * len(cases))
    own = sum(_case_gb(case) for case in prepared)
    memory = max(stepping.gained_gb, validating.gained_gb) + (0.0 if compute.device == "cuda" else stepping.before_gb - own + cached)
    return Estimate(pace.step_seconds, steps, seconds, memory)


def _time(settings: Settings, budget: Budget, step: float, before: float, validation: float, held_out: int) -> tuple[int, float]:
    """Steps and seconds of the whole.

    Args:
        step: seconds of a step.
        before: seconds before the first.
        validation: seconds of validating one case.
        held_out: cases that are validated at the end.
    """
    last = validation * held_out + EXPORT_SECONDS
    if budget.max_seconds:
        left = budget.max_seconds - before - min(last, MOST_RESERVED * budget.max_seconds)
        return max(0, int(left * (1.0 - VALIDATION_SHARE) / step)), max(budget.max_seconds, before + last)
    steps = len(budget.replay) or budget.max_steps
    every = settings.training.validate_steps
    count = steps // every if every else VALIDATIONS_IN_STEPS - 1
    on_the_way = count * min(settings.training.validate_cases, held_out) * validation
    return steps, before + steps * step + on_the_way + last


def _bytes(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _case_gb(case: TrainingCase) -> float:
    return (case.prepared.image.numel() * 4 + case.label.numel()) / _GB


@dataclass
class _Memory:
    """The most memory that was held inside a `with`, above what was held before; watched, because what was freed is not told afterwards."""

    device: str
    before_gb: float = 0.0
    gained_gb: float = 0.0
    _end: threading.Event = field(default_factory=threading.Event)
    _watch: threading.Thread | None = None

    def __enter__(self) -> _Memory:
        if self.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
            return self
        process = psutil.Process()
        self.before_gb = process.memory_info().rss / _GB

        def watch() -> None:
            while not self._end.wait(0.01):
                self.gained_gb = max(self.gained_gb, process.memory_info().rss / _GB - self.before_gb)

        self._watch = threading.Thread(target=watch, daemon=True)
        self._watch.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.device == "cuda":
            self.gained_gb = torch.cuda.max_memory_allocated() / _GB
            return
        self._end.set()
        if self._watch is not None:
            self._watch.join()
