"""What happens around the steps: validation, checkpoints, records, progress."""

from __future__ import annotations

import logging
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from segpipe.package.precision import Compute
from segpipe.plan.plan import Plan
from segpipe.settings import InferenceSettings, TrainingSettings
from segpipe.training.data import TrainingCase
from segpipe.training.module import SegmentationModule
from segpipe.training.run_folder import MetricsFile, RunFolder
from segpipe.training.validation import CaseDice, class_means, mean_dice, validate

log = logging.getLogger(__name__)

VALIDATIONS_IN_STEPS = 5
VALIDATION_SHARE = 0.05
"""Validation may take this share of a time budget, the final one not counted."""
FIRST_VALIDATION = 0.1
"""Share of a time budget after which the first validation measures what one costs."""
EXPORT_SECONDS = 6.0
MOST_RESERVED = 0.25
"""Largest share of a time budget that is held back for the last validation."""
ROW_SECONDS = 10.0
LINE_SECONDS = 15.0


class Record:
    """What the run knows about itself while it goes: for the progress line and metrics.csv."""

    def __init__(self, path: Path | None, plan: Plan, batch: int) -> None:
        self.labels = list(plan.targets)
        self.columns = ["step", "seconds", "lr", "loss", "patches_per_second", *(f"dice {name}" for name in self.labels), "dice mean"]
        self.path, self.batch = path, batch
        self.file: MetricsFile | None = None
        self.dice, self.best = math.nan, -1.0
        self._since, self._step = time.monotonic(), 0

    def begin(self, step: int) -> None:
        self._since, self._step = time.monotonic(), step
        if self.path is not None:
            self.file = MetricsFile(self.path, self.columns, step)

    def paused(self, seconds: float) -> None:
        """Time since the last row in which no patch was trained on."""
        self._since += seconds

    def row(self, module: SegmentationModule, scores: Sequence[CaseDice] = ()) -> dict[str, float]:
        """Write a row on the steps since the last one, with Dice where there was a validation."""
        step, now = int(module.global_step), time.monotonic()
        row: dict[str, float] = {"step": step, "seconds": round(module.budget.elapsed_seconds, 2)}
        if module.budget.rates:
            row["lr"] = module.budget.rates[-1]
        if module.losses:
            row["loss"] = sum(module.losses) / len(module.losses)
        row["patches_per_second"] = round((step - self._step) * self.batch / max(now - self._since, 1e-9), 3)
        if scores:
            row |= {f"dice {name}": value for name, value in zip(self.labels, class_means(scores), strict=True)}
            row["dice mean"] = mean_dice(scores)
        module.losses.clear()
        self._since, self._step = now, step
        self.add(row, module)
        return row

    def add(self, row: dict[str, float], module: SegmentationModule) -> None:
        """Write a row to metrics.csv and to the loggers; what is NaN stays empty."""
        known = {key: value for key, value in row.items() if not math.isnan(value)}
        if self.file is not None:
            self.file.add(known)
        for logger in module.loggers:
            values = {key.replace(" ", "/", 1): value for key, value in known.items() if key != "step"}
            logger.log_metrics(values, step=int(row["step"]))
            logger.save()


class Validation(pl.Callback):
    """Validates on whole volumes when it is due, then writes the checkpoints. Ranks share the cases.

    In a time budget it keeps to `VALIDATION_SHARE` of it and holds back what the last validation of all cases will take.
    """

    def __init__(
        self,
        cases: Sequence[TrainingCase],
        total: int,
        settings: TrainingSettings,
        window: InferenceSettings,
        run: RunFolder,
        record: Record,
    ) -> None:
        self.cases, self.total, self.settings, self.window = list(cases), total, settings, window
        self.run, self.record = run, record
        self._every = settings.validate_steps
        self._due_seconds, self._last_row = 0.0, time.monotonic()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        module = _own(pl_module)
        steps = len(module.budget.replay) or module.budget.max_steps
        if not self._every and steps:
            self._every = max(1, math.ceil(steps / VALIDATIONS_IN_STEPS))
        self._due_seconds = max(module.budget.elapsed_seconds, FIRST_VALIDATION * module.budget.max_seconds)
        self.record.begin(int(module.global_step))

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        module = _own(pl_module)
        if self._is_due(trainer, module):
            self.run_now(trainer, module)
        elif time.monotonic() - self._last_row > ROW_SECONDS:
            self.record.row(module)
            self._last_row = time.monotonic()

    def _is_due(self, trainer: pl.Trainer, module: SegmentationModule) -> bool:
        ends = bool(module.stopped_by) or module.budget.progress(int(module.global_step)) >= 1.0
        if trainer.world_size > 1:  # each process has its own clock, and a signal may reach one only: all must go the same way
            ends = bool(trainer.strategy.reduce_boolean_decision(ends, all=False))
        if ends:
            return False  # the last validation follows, on all cases
        if self._every:
            return int(module.global_step) % self._every == 0
        due = module.budget.elapsed_seconds >= self._due_seconds
        return bool(trainer.strategy.broadcast(due)) if trainer.world_size > 1 else due

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        module = _own(pl_module)
        module.settle()
        module.step_loss.release()
        self.record.row(module)
        trainer.save_checkpoint(self.run.last)
        if self.record.best < 0:  # nothing was validated on the way: the last weights are the best that are known
            trainer.save_checkpoint(self.run.best)

    def run_now(self, trainer: pl.Trainer, module: SegmentationModule) -> None:
        """Validate, record, write checkpoints, and decide when the next validation is due."""
        module.settle()
        if module.device.type == "cuda" and _is_short(module.device):
            module.step_loss.release()  # its recorded step keeps as much memory as the step took
        started = time.monotonic()
        mine = self.cases[trainer.global_rank :: trainer.world_size]
        budget = module.budget
        compute = Compute(str(module.device), trainer.precision == "bf16-mixed")
        limit = MOST_RESERVED * budget.max_seconds if budget.max_seconds else math.inf
        scores = _gather(validate(module.inference_network(), mine, module.plan, self.window, compute, seconds=limit), trainer)
        took = time.monotonic() - started
        self.record.paused(took)
        row = self.record.row(module, scores)
        self._last_row = time.monotonic()
        self.record.dice = row.get("dice mean", math.nan)
        better = self.record.dice > self.record.best
        self.record.best = self.record.dice if better else self.record.best
        if budget.max_seconds:
            # Ranks share the cases that are validated here; the last validation runs on the first rank alone.
            last = took * trainer.world_size / max(len(scores), 1) * self.total + EXPORT_SECONDS
            if not budget.reserved_seconds and last > limit and trainer.is_global_zero:
                log.warning(
                    "validating all %d cases at the end will take about %.2g minutes, more than a quarter of the budget: "
                    "the run ends about %.2g minutes after training.max_minutes; hold out fewer cases (dataset.fraction) to avoid it",
                    *(self.total, last / 60, (last - limit) / 60),
                )
            budget.reserved_seconds = min(limit, last)
            self._due_seconds = budget.elapsed_seconds + max(took / VALIDATION_SHARE, budget.max_seconds / 20)
        # After all that they hold is known: a run that is killed and resumed must know its best score and its reserve.
        if better:
            trainer.save_checkpoint(self.run.best)
        trainer.save_checkpoint(self.run.last)
        if trainer.is_global_zero:
            log.info("step %d: Dice %s on %d validation cases", module.global_step, _dice_text(row, self.record), len(scores))

    def on_save_checkpoint(self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
        budget = _own(pl_module).budget
        checkpoint["segpipe"] = {
            "learning_rates": list(budget.rates),
            "shares": list(budget.shares),
            "seconds": budget.elapsed_seconds,
            "reserved_seconds": budget.reserved_seconds,
            "best": self.record.best,
        }

    def on_load_checkpoint(self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
        budget, kept = _own(pl_module).budget, checkpoint["segpipe"]
        budget.rates = list(kept["learning_rates"])
        budget.shares = list(kept.get("shares", []))
        budget.used_seconds += float(kept["seconds"])
        budget.reserved_seconds = float(kept["reserved_seconds"])
        self.record.best = float(kept["best"])


class ProgressDisplay(pl.Callback):
    """Loss, Dice, patches a second and the time left: a bar on a terminal, a line now and then elsewhere."""

    def __init__(self, record: Record) -> None:
        self.record = record
        self._progress: Progress | None = None
        self._loss, self._rate, self._last = math.nan, math.nan, time.monotonic()
        self._line = time.monotonic()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.is_global_zero and sys.stderr.isatty():
            self._progress = Progress(TextColumn("training"), BarColumn(), TextColumn("{task.fields[text]}"), console=Console(stderr=True))
            self._progress.start()
            self._progress.add_task("training", total=1.0, text="")

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        module, now = _own(pl_module), time.monotonic()
        seconds, self._last = now - self._last, now
        self._rate = seconds if math.isnan(self._rate) else 0.9 * self._rate + 0.1 * seconds
        if module.losses:
            loss = module.losses[-1]
            self._loss = loss if math.isnan(self._loss) else 0.95 * self._loss + 0.05 * loss
        if not trainer.is_global_zero:
            return
        text = self._text(module)
        if self._progress is not None:
            self._progress.update(self._progress.task_ids[0], completed=module.budget.progress(int(module.global_step)), text=text)
        elif now - self._line > LINE_SECONDS:
            log.info("%s", text)
            self._line = now

    def _text(self, module: SegmentationModule) -> str:
        step = int(module.global_step)
        left = module.budget.remaining_seconds(step, self._rate)
        dice = "-" if math.isnan(self.record.dice) else f"{self.record.dice:.3f}"
        speed = self.record.batch / max(self._rate, 1e-9)
        return f"step {step}  mean loss {self._loss:.3f}  Dice {dice}  {speed:.1f} patches/s  {int(left // 60)}:{int(left % 60):02d} left"

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.close()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self.close()

    def close(self) -> None:
        if self._progress is not None:
            self._progress.stop()


def _own(module: pl.LightningModule) -> SegmentationModule:
    if not isinstance(module, SegmentationModule):
        raise TypeError(f"these callbacks work on a SegmentationModule, not on {type(module).__name__}")
    return module


def _is_short(device: torch.device) -> bool:
    """Whether less than half of a GPU's memory is left for a validation beside what the training keeps."""
    free, total = torch.cuda.mem_get_info(device)
    return free < total / 2


def _gather(scores: list[CaseDice], trainer: pl.Trainer) -> list[CaseDice]:
    if trainer.world_size == 1:
        return scores
    parts: list[list[CaseDice]] = [[] for _ in range(trainer.world_size)]
    torch.distributed.all_gather_object(parts, scores)
    return [score for part in parts for score in part]


def _dice_text(row: dict[str, float], record: Record) -> str:
    single = ", ".join(f"{name} {row[f'dice {name}']:.3f}" for name in record.labels if f"dice {name}" in row)
    return f"{row.get('dice mean', math.nan):.4f}" + (f" ({single})" if len(record.labels) > 1 else "")
