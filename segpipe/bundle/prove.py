"""The samples of a package, segmented by each of its model files and compared: in this process; `verify` does it in one with limits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from segpipe.bundle.open import Package
from segpipe.bundle.samples import compare_sample
from segpipe.bundle.verdict import Compared, Proof
from segpipe.errors import ModelError, SegpipeError
from segpipe.inference.api import load_model
from segpipe.inference.predictor import Predictor
from segpipe.package.extra import installed
from segpipe.package.runtime import Runtime
from segpipe.plan.plan import Plan


def prove(package: Package, shown: Path, device: str) -> Proof:
    """Segment the samples of a package that is a folder, and compare.

    Args:
        shown: the package as messages name it, where this folder is what an archive was unpacked to.

    Raises:
        ModelError: a model in it cannot be read, or says other than the package.
        ConfigError: no such device.
        DataError: a sample cannot be segmented.
    """
    compared: list[Compared] = []
    skipped: list[str] = []
    where = ""
    for name in package.document["models"]:
        if name.endswith(".onnx") and not installed("onnx", "openvino"):
            skipped.append(f"{name}: onnx and openvino are not installed: pip install 'segpipe[cpu]'")
            continue
        try:
            predictor = _load(package, name, "cpu" if name.endswith(".onnx") else device)
            where = where or predictor.device.type
            compared += [Compared(name, sample["name"], compare_sample(sample, package.path, predictor)) for sample in _samples(package)]
        except SegpipeError as error:
            text = str(error).replace(f"{package.path}/", "").removeprefix(f"{shown}: ")
            raise type(error)(f"{shown}: {text}") from error
    return Proof(where, compared, skipped)


def _samples(package: Package) -> list[dict[str, Any]]:
    samples: list[dict[str, Any]] = package.document["samples"]
    return samples


def _load(package: Package, name: str, device: str) -> Predictor:
    runtime: Runtime = "auto" if name.endswith(".onnx") else "torch"
    sha256 = package.document["files"][name]["sha256"]
    predictor = load_model(package.path / name, device, precision="fp32", runtime=runtime, sha256=[sha256])
    _check_told(predictor.plan, package)
    return predictor


def _check_told(plan: Plan, package: Package) -> None:
    """Refuse a package that tells other labels or channels than its model has."""
    document = package.document
    told: list[Any] = [[(one["value"], one["name"]) for one in document["labels"]], [one["channel"] for one in document["inputs"]]]
    real = [[(label.value, label.name) for label in plan.labels], [channel.name for channel in plan.channels]]
    if told != real:
        raise ModelError("refused: its segpipe.json tells other labels or channels than its model: ask who made it")
