"""Whether a package is what it says, and does on this machine what it did where it was made."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import metadata as installed
from pathlib import Path
from typing import Any

from segpipe.bundle.open import Package, open_package
from segpipe.bundle.samples import Difference, compare_sample
from segpipe.bundle.unpack import unpacked
from segpipe.errors import ModelError, SegpipeError
from segpipe.inference.api import load_model
from segpipe.inference.predictor import Predictor
from segpipe.package.extra import installed as is_installed
from segpipe.package.runtime import Runtime
from segpipe.plan.plan import Plan


@dataclass(frozen=True)
class Compared:
    """One sample, segmented here by one of the model files."""

    model: str
    sample: str
    labels: list[Difference]

    @property
    def fits(self) -> bool:
        return all(label.fits for label in self.labels)


@dataclass(frozen=True)
class Verdict:
    """What came of a package.

    Attributes:
        package: looked through.
        compared: each sample by each model file.
        skipped: model files that cannot be run here, and why.
        here: versions of this machine, by name.
    """

    package: Package
    device: str
    compared: list[Compared]
    skipped: list[str] = field(default_factory=list)
    here: dict[str, str] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        return bool(self.compared) and all(one.fits for one in self.compared)

    @property
    def other_versions(self) -> list[str]:
        """What differs between the machine that made it and this one: `torch 2.12.0, here 2.13.0`."""
        made = self.package.document["made_with"]
        return [f"{name} {made[name]}, here {version}" for name, version in self.here.items() if made.get(name, version) != version]


def verify(path: Path, device: str = "auto") -> Verdict:
    """Look a package through, then segment its samples on this machine and compare.

    Nothing of it is executed but the graphs of its networks.

    Raises:
        ModelError: the package is refused, or a model in it cannot be read or says other than the package.
        ConfigError: no such device, or no room to unpack it.
        DataError: a sample cannot be segmented.
    """
    package = open_package(path)
    compared: list[Compared] = []
    skipped: list[str] = []
    where = ""
    with unpacked(package) as root:
        for name in package.document["models"]:
            if name.endswith(".onnx") and not is_installed("onnx", "openvino"):
                skipped.append(f"{name}: onnx and openvino are not installed: pip install 'segpipe[cpu]'")
                continue
            predictor = _load(root / name, "cpu" if name.endswith(".onnx") else device, package)
            where = where or predictor.device.type
            compared += _samples(package, root, name, predictor)
    return Verdict(package, where, compared, skipped, _here(where))


def _load(path: Path, device: str, package: Package) -> Predictor:
    runtime: Runtime = "auto" if path.suffix == ".onnx" else "torch"
    try:
        predictor = load_model(path, device, precision="fp32", runtime=runtime)
    except ModelError as error:
        raise ModelError(f"{package.path}: {str(error).replace(f'{path.parent.parent}/', '')}") from error
    _check_told(predictor.plan, package)
    return predictor


def _check_told(plan: Plan, package: Package) -> None:
    """Refuse a package that tells other labels or channels than its model has."""
    document = package.document
    told: list[Any] = [[(one["value"], one["name"]) for one in document["labels"]], [one["channel"] for one in document["inputs"]]]
    real = [[(label.value, label.name) for label in plan.labels], [channel.name for channel in plan.channels]]
    if told != real:
        raise ModelError(f"{package.path}: refused: its segpipe.json tells other labels or channels than its model: ask who made it")


def _samples(package: Package, root: Path, name: str, predictor: Predictor) -> Iterator[Compared]:
    for sample in package.document["samples"]:
        try:
            yield Compared(name, sample["name"], compare_sample(sample, root, predictor))
        except SegpipeError as error:
            raise type(error)(f"{package.path}: {str(error).replace(f'{root}/', '')}") from error


def _here(device: str) -> dict[str, str]:
    versions = {name: installed.version(name) for name in ("torch", "numpy", "monai")}
    return {"python": platform.python_version(), "device": device, **versions}
