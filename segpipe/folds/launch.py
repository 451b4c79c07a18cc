"""The trainings of a cross-validation as jobs of their own, side by side: on Slurm, or on this machine, through submitit."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from segpipe.errors import ConfigError, DataError
from segpipe.folds.members import DONE, Ledger, Member
from segpipe.progress import track
from segpipe.settings import Settings

log = logging.getLogger(__name__)

FOLDER = "jobs"
"""Under the run folder: submitit's scripts and logs."""
_WEEK = 7 * 24 * 60
_SPARE_MINUTES = 30
_LOOK_SECONDS = 2.0


def launch_all(members: Sequence[Member], run_dir: Path, settings: Settings, command: Callable[[Member], list[str]]) -> None:
    """Submit what is not done yet, all at once, and wait for it; Ctrl-C cancels what has not ended.

    Args:
        command: the words that train one member.

    Raises:
        ConfigError: submitit is not installed, or does not know an option or the cluster.
        DataError: a training failed; the others are kept.
    """
    ledger = Ledger(run_dir)
    left = [member for member in members if not ledger.is_done(member, run_dir)]
    if len(left) < len(members):
        log.info("%d of %d trainings are done already", len(members) - len(left), len(members))
    if not left:
        return
    for member in left:
        ledger.put(member, "begun")  # from now on the plans stay
    jobs = _submit(left, run_dir, settings, command)
    log.info("%d jobs submitted to %s: %s", len(jobs), settings.launch.cluster, ", ".join(str(job.job_id) for job in jobs))
    failed: dict[str, str] = {}
    try:
        for member, job in track(_as_they_end(left, jobs), f"waiting for {len(jobs)} jobs", len(jobs)):
            reason = _reason(job)
            if reason:
                failed[member.name] = reason
            else:
                ledger.put(member, DONE)
    except KeyboardInterrupt:
        for job in jobs:
            if not job.done():
                job.cancel(check=False)
        raise
    if failed:
        name, reason = next(iter(failed.items()))
        raise DataError(
            f"{len(failed)} of {len(jobs)} trainings failed; {run_dir / name}: {reason}; logs are in {run_dir / FOLDER}, "
            "the others are kept: mend it, and go on with the same command and training.resume=auto"
        )


def _submit(members: Sequence[Member], run_dir: Path, settings: Settings, command: Callable[[Member], list[str]]) -> list[Any]:
    try:
        import submitit
    except ModuleNotFoundError as error:
        raise ConfigError(f"launch.cluster={settings.launch.cluster} needs submitit: pip install 'segpipe[slurm]'") from error
    minutes = settings.training.max_minutes
    timed = minutes and not (settings.training.max_steps or settings.training.schedule_file)
    options: dict[str, Any] = {"name": settings.name, "timeout_min": round(1.5 * minutes) + _SPARE_MINUTES if timed else _WEEK}
    try:
        executor = submitit.AutoExecutor(folder=run_dir / FOLDER, cluster=settings.launch.cluster)
        executor.update_parameters(**(options | _typed(settings.launch.options)))
        with executor.batch():
            return [executor.submit(submitit.helpers.CommandFunction(command(member), verbose=False, cwd=Path.cwd())) for member in members]
    except (NameError, TypeError, ValueError, RuntimeError, OSError) as error:
        raise ConfigError(
            f"launch: submitit cannot start the jobs ({' '.join(str(error).split())}): correct launch.cluster or launch.options"
        ) from error


def _typed(options: Mapping[str, str]) -> dict[str, Any]:
    """Whole numbers as such: submitit hands the rest to Slurm as text."""
    return {key: int(value) if value.isdigit() else value for key, value in options.items()}


def _as_they_end(members: Sequence[Member], jobs: Sequence[Any]) -> Any:
    waiting = list(zip(members, jobs, strict=True))
    while waiting:
        for pair in [one for one in waiting if one[1].done()]:
            waiting.remove(pair)
            yield pair
        if waiting:
            time.sleep(_LOOK_SECONDS)


def _reason(job: Any) -> str:
    """The last line of what a failed job had to say; empty when it went well."""
    error = job.exception()
    if error is None:
        return ""
    lines = [line.strip() for line in f"{job.stderr() or ''}\n{error}".splitlines()]
    told = [line for line in lines if line.startswith("error: ")]
    return (told or [line for line in lines if line] or [type(error).__name__])[-1].removeprefix("error: ")
