"""One training from settings to a finished run folder: audit, plan, prepare, learn, prove, report."""

from __future__ import annotations

import json
import logging
import os
import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import pytorch_lightning as pl
import torch
from torch import nn

from segpipe.dataset.case import Case
from segpipe.dataset.fingerprint import Fingerprint
from segpipe.dataset.split import Split, check_split, load_split, make_split, save_split
from segpipe.errors import ConfigError
from segpipe.io.atomic import write_text
from segpipe.package.device import choose_device
from segpipe.package.precision import Compute, fast_bf16
from segpipe.patches.augment import Augment
from segpipe.plan.plan import Plan
from segpipe.settings import Settings
from segpipe.training.callbacks import ProgressDisplay, Record, Validation
from segpipe.training.checkpoint import WholeFiles, read_checkpoint, step_of
from segpipe.training.checks import check_settings
from segpipe.training.custom import build_callback, build_trainable
from segpipe.training.data import PatchBatches, PatchData, TrainingCase, loader_workers, prepare_cases
from segpipe.training.decide import plan_for
from segpipe.training.finish import Finished, finish
from segpipe.training.heap import keep_freed_memory
from segpipe.training.log_file import log_to
from segpipe.training.loggers import build_loggers
from segpipe.training.memory import loader_advice, memory_advice, smaller_step
from segpipe.training.module import SegmentationModule
from segpipe.training.run_folder import RunFolder, check_same_config, is_first_rank, opened_run, read_plan, write_environment
from segpipe.training.schedule import Budget, load_schedule, save_schedule
from segpipe.training.seed import derived_seed
from segpipe.training.stop import OrderlyStop
from segpipe.training.survey import survey
from segpipe.training.transfer import begin_with, find_source

log = logging.getLogger(__name__)

DEFAULT_MINUTES = 30.0


def choose_compute(settings: Settings) -> Compute:
    """Device and precision from the settings and the machine; sets torch's threads, makes the process keep its memory, and a GPU repeat
    its numbers (here, so that steps that are measured before the training are as long as its own)."""
    device = choose_device(settings.device).type
    if device == "cpu":
        keep_freed_memory()
    else:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS does not
        torch.use_deterministic_algorithms(True, warn_only=True)
        # torch would then fill all memory that it reserves: four hundred kernels in a step of 1200
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    if settings.threads:
        torch.set_num_threads(settings.threads)
    wanted = settings.training.precision
    return Compute(device, wanted == "bf16" or (wanted == "auto" and fast_bf16(device)))


def run_training(settings: Settings, config_yaml: str) -> Finished | None:
    """Train as the settings say; returns None in a DDP process that is not the first.

    Args:
        config_yaml: the resolved configuration, kept in the run folder.

    Raises:
        ConfigError, DataError, GeometryError, ModelError: see `errors`.
    """
    budget = make_budget(settings)
    check_settings(settings)
    compute = choose_compute(settings)
    root = Path(settings.run_dir or f"runs/{settings.name}")
    with opened_run(root, settings.training.resume == "auto") as run, log_to(run.log) if is_first_rank() else nullcontext():
        resumed = settings.training.resume == "auto" and run.last.exists()
        if resumed:
            check_same_config(run.config, config_yaml)
        elif settings.training.init:
            find_source(Path(settings.training.init))  # before the data are read
        cases, fingerprint = survey(settings)
        if budget.max_seconds and not settings.training.max_minutes:
            log.info("no training.max_minutes and no training.max_steps: training for %g minutes", DEFAULT_MINUTES)
        plan, split = _decide(run, settings, compute, (cases, fingerprint), budget, resumed)
        module = _module(settings, plan, budget, resumed)  # refuses what does not go with the plan, before anything is written
        if is_first_rank():
            if not resumed:
                _freeze(run, plan, split, fingerprint)
            write_text(run.config, config_yaml)
            write_environment(run.environment, compute.device, "bf16" if compute.bf16 else "fp32")
        by_name = {case.name: case for case in cases}
        chosen = [by_name[name] for name in (*split.train, *split.validation)]
        prepared = prepare_cases(chosen, plan, torch.get_num_threads(), settings.training.cache_gb, run.cache)
        training, validation = prepared[: len(split.train)], prepared[len(split.train) :]
        if budget.max_seconds and budget.progress(0) >= 1.0 and not resumed:
            raise ConfigError(
                f"training.max_minutes is {settings.training.max_minutes:g}, and reading and preparing the data alone took "
                f"{budget.elapsed_seconds / 60:.2g} minutes: give more minutes, or training.max_steps"
            )
        record = Record(run.metrics if is_first_rank() else None, plan, plan.batch_size * settings.training.devices)
        with OrderlyStop(module) as stop:
            _fit(settings, compute, run, module, training, [stop, *_callbacks(settings, run, record, validation)], resumed)
            if not is_first_rank():
                return None
            save_schedule(run.schedule, budget, settings.training.schedule, plan.network.features, plan.batch_size)
            return finish(settings, compute, run, module, record, validation, stop)


def make_budget(settings: Settings) -> Budget:
    """An earlier run's schedule rules where it is given, then steps, then minutes."""
    training = settings.training
    if training.schedule_file:
        return load_schedule(Path(training.schedule_file))
    if training.max_steps:
        return Budget(max_steps=training.max_steps)
    return Budget(max_seconds=60.0 * (training.max_minutes or DEFAULT_MINUTES))


def _decide(
    run: RunFolder, settings: Settings, compute: Compute, data: tuple[Sequence[Case], Fingerprint], budget: Budget, resumed: bool
) -> tuple[Plan, Split]:
    """Plan and split: made, or read from the run that goes on (and by the other ranks of a DDP run)."""
    cases, fingerprint = data
    if resumed or not is_first_rank():
        split = load_split(run.splits)
        check_split(run.splits, split, cases)
        return read_plan(run.plan), split
    plan = plan_for(fingerprint, settings, compute, budget, cases)
    drawn = settings.dataset.split_seed
    split = make_split(cases, settings.dataset, settings.seed if drawn < 0 else drawn)
    log.info("%d cases to train, %d to validate; %s", len(split.train), len(split.validation), describe(plan))
    return plan, split


def _freeze(run: RunFolder, plan: Plan, split: Split, fingerprint: Fingerprint) -> None:
    """Write what was decided: with it the run goes on from now on."""
    write_text(run.plan, plan.to_json())
    write_text(run.fingerprint, json.dumps(fingerprint.to_dict(), indent=1))
    save_split(run.splits, split)


def describe(plan: Plan) -> str:
    """One line for people."""
    spacing = "own pixels" if plan.spacing_mm is None else "x".join(f"{mm:.3g}" if mm else "own" for mm in plan.spacing_mm) + " mm"
    patch = "x".join(map(str, plan.patch_size[: plan.dims]))
    features = "-".join(map(str, plan.network.features))
    return f"{plan.dims}D {plan.network.name} {features}, {spacing}, {plan.batch_size} patches of {patch} a step"


def _module(settings: Settings, plan: Plan, budget: Budget, resumed: bool) -> SegmentationModule:
    torch.manual_seed(derived_seed(settings.seed, "weights"))
    network: nn.Module = build_trainable(plan, settings.network.target)
    if settings.training.init and not resumed:
        begin_with(network, plan, settings.training.init)
    augment = Augment(settings.augment, plan.dims, plan.flips, plan.patch_size, plan.spacing_mm)
    return SegmentationModule(network, plan, augment, settings.training, budget, settings.seed)


def _callbacks(settings: Settings, run: RunFolder, record: Record, validation: Sequence[TrainingCase]) -> list[pl.Callback]:
    wanted = settings.training
    validator = Validation(validation[: wanted.validate_cases], len(validation), wanted, settings.inference, run, record)
    return [ProgressDisplay(record), validator, *build_callback(wanted.callback)]


def _fit(
    settings: Settings,
    compute: Compute,
    run: RunFolder,
    module: SegmentationModule,
    cases: Sequence[TrainingCase],
    callbacks: list[pl.Callback],
    resumed: bool,
) -> None:
    """Train what is left of the budget; a signal that ended it early is in `module.stopped_by`."""
    wanted, plan = settings.training, module.plan
    batches = PatchBatches(cases, (plan.patch_size, module.augment.read_size), plan.batch_size, wanted.foreground, settings.seed)
    trainer = _trainer(settings, compute, run, module.budget, callbacks)
    checkpoint = run.last if resumed else None
    if checkpoint is not None and _is_spent(module.budget, checkpoint):
        log.info("%s: its budget is spent; nothing is left to train", run.root)
        module.load_state_dict(read_checkpoint(checkpoint)["state_dict"])
        return
    if checkpoint is not None:
        left = f"{module.budget.max_steps} steps" if module.budget.max_steps else f"{module.budget.max_seconds / 60:.3g} minutes"
        log.info("going on from step %d of the run in %s, whose budget is now %s in all", step_of(checkpoint), run.root, left)
    patches = f"for {plan.batch_size} patches of {'x'.join(map(str, plan.patch_size))}"
    workers = loader_workers(wanted.workers, compute.device, batches.batch_bytes, wanted.devices)
    with memory_advice(patches, smaller_step(plan)), loader_advice(workers):
        trainer.fit(module, PatchData(batches, workers, compute.device == "cuda"), ckpt_path=checkpoint, weights_only=True)


def _is_spent(budget: Budget, checkpoint: Path) -> bool:
    kept = read_checkpoint(checkpoint)
    if budget.max_steps:
        spent = int(kept["global_step"]) >= budget.max_steps
    else:
        spent = float(kept["segpipe"]["seconds"]) + float(kept["segpipe"]["reserved_seconds"]) >= budget.max_seconds
    if spent:
        budget.rates = list(kept["segpipe"]["learning_rates"])
        budget.shares = list(kept["segpipe"].get("shares", []))
        budget.used_seconds += float(kept["segpipe"]["seconds"])
    return spent


def _trainer(settings: Settings, compute: Compute, run: RunFolder, budget: Budget, callbacks: list[pl.Callback]) -> pl.Trainer:
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"pytorch_lightning|lightning_fabric")
    wanted = settings.training
    return pl.Trainer(
        accelerator="gpu" if compute.device == "cuda" else "cpu",
        devices=wanted.devices,
        strategy="ddp" if wanted.devices > 1 else "auto",
        precision="bf16-mixed" if compute.bf16 else "32-true",
        max_steps=budget.max_steps or -1,
        max_epochs=-1,
        gradient_clip_val=wanted.clip or None,
        logger=build_loggers(wanted, settings.name, run.root) if is_first_rank() else [],
        callbacks=callbacks,
        plugins=[WholeFiles()],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        deterministic="warn" if compute.device == "cuda" else None,
        default_root_dir=run.root,
    )
