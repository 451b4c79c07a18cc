"""The folder of one training: what lies where, and when it may be written."""

from __future__ import annotations

import csv
import dataclasses
import json
import logging
import os
import platform
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

from segpipe import __version__
from segpipe.errors import ConfigError
from segpipe.io.atomic import write_text
from segpipe.plan.plan import Plan, plan_from_dict
from segpipe.settings import Settings
from segpipe.training.run_lock import NAME as LOCK
from segpipe.training.run_lock import sole

log = logging.getLogger(__name__)

_MAY_CHANGE = frozenset(
    ["run_dir", "out", "device", "threads", "dataset.root", "launch.cluster"]
    + [
        f"training.{name}"
        for name in (
            *(
                "max_steps",
                "max_minutes",
                "schedule_file",
                "resume",
                "devices",
                "workers",
                "cache_gb",
                "precision",
                "compile",
                "cuda_graph",
            ),
            *("validate_steps", "validate_cases", "overlays", "tensorboard", "mlflow", "callback"),
        )
    ]
)
"""Settings with which a run may be resumed differently: budget, place, machine, what is watched."""
_RANKS = ("RANK", "LOCAL_RANK")
_PACKAGES = ("torch", "monai", "pytorch-lightning", "hydra-core", "omegaconf", "numpy", "scipy", "nibabel", "SimpleITK", "pillow")


class RunFolder:
    """Paths of a run; the folder is made by `opened_run`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.config = root / "config.yaml"
        self.plan = root / "plan.json"
        self.splits = root / "splits.json"
        self.fingerprint = root / "fingerprint.json"
        self.environment = root / "environment.json"
        self.metrics = root / "metrics.csv"
        self.validation = root / "validation.json"
        self.schedule = root / "schedule.json"
        self.log = root / "log.txt"
        self.curves = root / "curves.png"
        self.overlays = root / "overlays"
        self.checkpoints = root / "checkpoints"
        self.last = self.checkpoints / "last.ckpt"
        self.best = self.checkpoints / "best.ckpt"
        self.model = root / "model.ts"
        self.cache = root / "cache"


def is_first_rank() -> bool:
    """Whether this process is the one that writes (the only one, or rank 0 of a DDP run)."""
    return int(next((os.environ[key] for key in _RANKS if os.environ.get(key)), "0")) == 0


def open_run(root: Path, resume: bool) -> RunFolder:
    """Make the folder, or open it to go on.

    Raises:
        ConfigError: it holds a run already and `resume` is off, or it cannot be written.
    """
    run = RunFolder(root)
    if not is_first_rank():
        return run
    if (run.last.exists() or run.model.exists()) and not resume:
        raise ConfigError(f"{root}: holds a run already; choose another run_dir=..., go on with training.resume=auto, or delete the folder")
    try:
        run.checkpoints.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{root}: cannot be made ({error.strerror}); choose a run_dir=... that you may write to") from error
    if not os.access(root, os.W_OK):
        raise ConfigError(f"{root}: is not writable; choose a run_dir=... that you may write to")
    return run


@contextmanager
def opened_run(root: Path, resume: bool) -> Iterator[RunFolder]:
    """The folder of a run, held for this process alone; other ranks of its DDP run go in and out as they like.

    At the end its cache is removed: patients' scans do not belong into a folder that people hand on, and each run writes its own.

    Raises:
        ConfigError: see `open_run`; or another training writes into the folder.
    """
    run = open_run(root, resume)
    if not is_first_rank():
        yield run
        return
    with sole(root):
        failed = True
        try:
            yield run
            failed = False
        finally:
            shutil.rmtree(run.cache, ignore_errors=True)
            if failed:
                leave_nothing(run)


def leave_nothing(run: RunFolder) -> None:
    """Take away the folder of a run that failed before anything was decided: a log, a lock and empty folders."""
    nothing = (run.log, run.root / LOCK)
    if any(path.is_file() and path not in nothing for path in run.root.rglob("*")):
        return
    for path in nothing:
        path.unlink(missing_ok=True)
    for folder in (run.checkpoints, run.root):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def check_same_config(path: Path, text: str) -> None:
    """Refuse to go on with other settings than the run began with; those of `_MAY_CHANGE` may differ.

    A setting that the run's version did not know had what is its default now.

    Raises:
        ConfigError: naming the first setting that differs.
    """
    before, now = (_leaves(yaml.safe_load(words)) for words in (path.read_text(encoding="utf-8") if path.exists() else "", text))
    if not before or not now:
        return
    defaults = _leaves(dataclasses.asdict(Settings()))
    before, now = defaults | before, defaults | now
    for key in sorted(before.keys() | now.keys()):
        if before.get(key) != now.get(key) and key not in _MAY_CHANGE and not key.startswith("launch.options"):
            raise ConfigError(
                f"{key} is {now.get(key)!r}, but the run in {path.parent} began with {before.get(key)!r}: "
                "give the same setting to go on, or another run_dir to begin anew"
            )


def _leaves(values: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(values, dict):
        return {prefix: values} if prefix else {}
    return {
        key: value for name, inner in values.items() for key, value in _leaves(inner, f"{prefix}.{name}" if prefix else str(name)).items()
    }


def read_plan(path: Path) -> Plan:
    """The plan of a run folder.

    Raises:
        ConfigError: no such file, or not a plan.
    """
    try:
        return plan_from_dict(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); give the folder of a run that segpipe train made") from error
    except ValueError as error:
        raise ConfigError(f"{path}: is not JSON ({error}); the file is damaged: train again or restore it") from error


def environment() -> dict[str, Any]:
    """What the run ran on."""
    return {
        "segpipe": __version__,
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "command": sys.argv,
    }


def write_environment(path: Path, device: str, precision: str) -> None:
    write_text(path, json.dumps(environment() | {"device": device, "precision": precision}, indent=2))


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        log.debug("no /proc/cpuinfo")
    return platform.processor() or "unknown"


class MetricsFile:
    """`metrics.csv`: one row a report; a resumed run appends, and drops rows that it repeats.

    Raises:
        OSError: naming the file also where the system does not (a full disk).
    """

    def __init__(self, path: Path, columns: list[str], first_step: int = 0) -> None:
        self.path, self.columns = path, columns
        kept = [row for row in self.read(path) if int(row["step"]) <= first_step] if first_step else []
        with _naming(path), path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(kept)

    @staticmethod
    def read(path: Path) -> list[dict[str, str]]:
        """All rows, or none where there is no file."""
        if not path.exists():
            return []
        with path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    def add(self, row: Mapping[str, object]) -> None:
        with _naming(self.path), self.path.open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, self.columns, restval="").writerow({key: row[key] for key in self.columns if key in row})


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """The system names the file that it cannot open, not the one that it cannot write."""
    try:
        yield
    except OSError as error:
        if error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error
