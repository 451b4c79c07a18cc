"""Models by what users call them: a model file, a run folder, a package, or the `NAME@VERSION` of one that a hub gave."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from segpipe.bundle.contents import is_package
from segpipe.bundle.layout import MODEL, NAME, VERSION
from segpipe.bundle.open import Package, open_package
from segpipe.bundle.unpack import folder_of

if TYPE_CHECKING:
    from segpipe.inference.predictor import Precision, Predictor
    from segpipe.package.runtime import Runtime

_LABEL = re.compile(rf"({NAME.pattern})@({VERSION.pattern})", re.ASCII)
_RUN_MODEL = "model.ts"


@dataclass(frozen=True)
class Found:
    """Attributes:
    path: the model file.
    sha256: that its bytes must have when they are read, because the package that says so was looked through; empty: of no package.
    package: that it is of.
    """

    path: Path
    sha256: str = ""
    package: Package | None = None


def is_label(source: str | Path) -> bool:
    """Whether it is a `NAME@VERSION`, and no file or folder."""
    return _LABEL.fullmatch(str(source)) is not None and not Path(source).exists()


def find_model(source: str | Path) -> Found:
    """The model file of what a user names; packages are looked through first.

    Args:
        source: model file, run folder, package, or `NAME@VERSION` that was pulled before, or that the hub of `SEGPIPE_HUB` has.

    Raises:
        ConfigError: no such version is known.
        ModelError: the package is refused.
    """
    path = Path(source)
    if is_label(source) or is_package(path):
        package = named_package(path)
        return Found(folder_of(package) / MODEL, package.model_sha256, package)
    return Found(path / _RUN_MODEL if path.is_dir() else path)


def named_package(source: Path) -> Package:
    """A package by its place, or by its `NAME@VERSION`; looked through.

    Raises:
        ConfigError: no such version is known.
        ModelError: it is refused.
    """
    if is_label(source):
        from segpipe.bundle.named import find_package  # with all that a web address needs

        return find_package(str(source))
    return open_package(source)


def load_model(
    paths: str | Path | Sequence[str | Path],
    device: str = "auto",
    *,
    overlap: float = 0.5,
    batch: int = 0,
    precision: Precision = "auto",
    runtime: Runtime = "auto",
    tta: bool = False,
    memory_gb: float = 0.0,
    threads: int = 0,
    compile: bool = False,
) -> Predictor:
    """A model that is ready to segment, or an ensemble of several; `segpipe.load_model`.

    Args:
        paths: model file, run folder, package or `NAME@VERSION`, or a list of them.
        device, overlap, batch, precision, runtime, tta, memory_gb, threads, compile: see `inference.api.load_model`.

    Raises:
        ModelError, ConfigError: see `find_model` and `inference.api.load_model`.
    """
    from segpipe.inference.api import load_model as load

    found = [find_model(path) for path in ([paths] if isinstance(paths, (str, Path)) else paths)]
    return load(
        [one.path for one in found],
        device,
        overlap=overlap,
        batch=batch,
        precision=precision,
        runtime=runtime,
        tta=tta,
        memory_gb=memory_gb,
        threads=threads,
        compile=compile,
        sha256=[one.sha256 for one in found],
    )
