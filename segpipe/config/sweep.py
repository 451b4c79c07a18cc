"""`segpipe train -m conf=prostate seed=1,2,3`: one run for each combination, through Hydra's sweeper and launcher."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from segpipe.config.compose import Composed, check_composed, compose_settings, plain_errors, search_path
from segpipe.config.folder import PRIMARY, TASKS, conf_folder
from segpipe.config.words import Words, literal, read_words, single
from segpipe.errors import ConfigError, SegpipeError

log = logging.getLogger(__name__)

RUNS = "runs"


def sweep(words: Sequence[str], command: str, run: Callable[[Composed], None]) -> None:
    """Call `run` once for each combination of the swept settings.

    Each job has a run folder of its own, RUN_DIR/seed=1, unless `run_dir` itself says how, `run_dir=runs/${name}-${seed}`. While
    a job runs, `sys.argv` is that of the single run that would do the same, so that the ranks of DDP start that and not the sweep.

    Args:
        command: the word after `segpipe` that repeats one job, `train`.
        run: gets each job's settings. What it raises is logged and does not stop the jobs after it.

    Raises:
        ConfigError: as `compose_settings`, or two jobs with the same run folder.
        SegpipeError: the first that a job raised, after the last job.
    """
    read = read_words(words, sweep=True)
    with search_path(read) as extra:
        own = [] if any(word.startswith("hydra.sweep.dir") for word in words) else [f"hydra.sweep.dir='{_sweep_folder(words, read)}'"]
        fixed = ["hydra.sweep.subdir=.", "hydra.output_subdir=null", "hydra.job.name=segpipe", "hydra.job.chdir=false"]
        quiet = ["hydra/job_logging=none", "hydra/hydra_logging=none"]
        used: set[str] = set()
        failed: list[SegpipeError] = []

        def job(composed: DictConfig) -> None:
            try:
                _run_job(composed, read, command, run, used)
            except SegpipeError as error:
                log.error("run %d of the sweep: %s", len(used), error)
                failed.append(error)

        with _arguments(["-m", *fixed, *quiet, *own, *extra, *read.overrides]), _whole_errors(), plain_errors(read.files):
            hydra.main(config_path=str(conf_folder()), config_name=PRIMARY, version_base="1.3")(job)()
    if failed:
        raise failed[0]


def _run_job(composed: DictConfig, read: Words, command: str, run: Callable[[Composed], None], used: set[str]) -> None:
    task = list(HydraConfig.get().overrides.task)
    checked = check_composed(composed)
    run_dir = checked.settings.run_dir
    if not OmegaConf.is_interpolation(composed, "run_dir"):
        base = Path(run_dir or Path(RUNS) / checked.settings.name)
        composed.run_dir = run_dir = str(base / _suffix(task, read)) if read.swept else str(base)
        checked = check_composed(composed)
    if run_dir in used:
        raise ConfigError(f"run_dir: is {run_dir} for two runs of the sweep; leave it out, or name what changes: run_dir=runs/${{seed}}")
    used.add(run_dir)
    log.info("run %d of the sweep: %s", len(used), run_dir)
    with _arguments([command, *single(read, task), literal("run_dir", run_dir)]), _outside_hydra(), _environment():
        run(checked)


def _suffix(task: Sequence[str], read: Words) -> str:
    """`seed=1,network=vnet`: what makes this job different, as a folder name."""
    parser = OverridesParser.create()
    values = {item.key_or_group: item.get_value_element_as_str() for item in parser.parse_overrides(list(task))}
    parts = [f"{_short(key, read.swept)}={_word(key, values[key], read)}" for key in read.swept if key in values]
    return re.sub(r"[^\w.,=+\-]+", "_", ",".join(parts)) or "run"


def _short(key: str, swept: Sequence[str]) -> str:
    last = key.rsplit(".", 1)[-1]
    return key if sum(other.rsplit(".", 1)[-1] == last for other in swept) > 1 else last


def _word(key: str, value: str, read: Words) -> str:
    return read.files[value].stem if key == TASKS and value in read.files else value.strip("'\"")


def _sweep_folder(words: Sequence[str], read: Words) -> str:
    """Where Hydra writes its own record of the sweep: the folder that holds the runs."""
    fixed = [word for word in words if word.partition("=")[0].lstrip("+") not in read.swept and not word.startswith(("hydra.", "hydra/"))]
    template = next((word.partition("=")[2] for word in fixed if word.partition("=")[0].lstrip("+") == "run_dir"), "")
    if "${" in template:
        return template.split("${")[0].rpartition("/")[0] or RUNS
    settings = compose_settings(fixed).settings
    unnamed = TASKS in read.swept and not settings.run_dir
    return RUNS if unnamed else settings.run_dir or f"{RUNS}/{settings.name}"


@contextlib.contextmanager
def _arguments(arguments: list[str]) -> Iterator[None]:
    """The program's own arguments for the time of a `with`."""
    original = list(sys.argv)
    sys.argv[1:] = arguments
    try:
        yield
    finally:
        sys.argv[:] = original


@contextlib.contextmanager
def _environment() -> Iterator[None]:
    """Leave no trace of a job's DDP in the environment, or the next job takes itself for one of its ranks."""
    before = dict(os.environ)
    try:
        yield
    finally:
        for name in set(os.environ) - set(before):
            del os.environ[name]
        os.environ.update(before)


@contextlib.contextmanager
def _whole_errors() -> Iterator[None]:
    """Hydra prints errors and exits; with this variable it raises them, and ours reach the command line as they are."""
    before = os.environ.get("HYDRA_FULL_ERROR")
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        yield
    finally:
        os.environ.pop("HYDRA_FULL_ERROR") if before is None else os.environ.update(HYDRA_FULL_ERROR=before)


@contextlib.contextmanager
def _outside_hydra() -> Iterator[None]:
    """Let Lightning see no Hydra job, so that it starts DDP ranks with `sys.argv` and nothing more."""
    holder = HydraConfig.instance()
    before, holder.cfg = holder.cfg, None
    try:
        yield
    finally:
        holder.cfg = before
