"""`segpipe doctor`: what this machine can do, and what is missing for which feature."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from segpipe.commands.machine import machine
from segpipe.commands.outcome import Outcome
from segpipe.errors import ConfigError
from segpipe.io.atomic import check_file, write_text

_NEEDED = (
    "torch", "monai", "pytorch-lightning", "nibabel", "SimpleITK", "hydra-core", "omegaconf", "typer", "rich",
    "scipy", "numpy", "matplotlib", "pillow", "psutil",
)  # fmt: skip

_REFUSED = {
    "torch": (("2.9.",), "slow, and wrong in bf16 convolutions on GPUs"),
    "pytorch-lightning": (("2.6.2", "2.6.3"), "a malicious release; treat the secrets of this machine as known to others"),
    "omegaconf": (("2.4.",), "does not work with Hydra 1.3"),
}
"""Versions that must not be used, by package, and why."""

_LITTLE_MEMORY_GB = 4.0
_LITTLE_DISK_GB = 5.0
_LITTLE_SHARED_GB = 0.5
_FASTER = 1.2
"""Speed from which bf16 is worth its rounding."""


@dataclass(frozen=True)
class Feature:
    """Attributes:
    state: ok, or missing (the feature is off), or broken (segpipe cannot work).
    cure: what to do about it; the empty string when there is nothing to do.
    """

    name: str
    state: str
    what: str
    cure: str = ""


def doctor(json_path: Path | None) -> Outcome:
    """Look at the machine and the installation.

    Args:
        json_path: file for everything that was found; None: not written.

    Returns:
        Tables; exit code 2 when something is missing or refused without which segpipe cannot work.

    Raises:
        ConfigError: the file cannot be written.
    """
    if json_path is not None:
        check_file(json_path)
    facts = machine()
    found = features(facts)
    shown: list[Any] = [_versions_table(facts), _machine_table(facts), _features_table(found)]
    if json_path is not None:
        document = {**facts, "features": [asdict(feature) for feature in found]}
        write_text(json_path, json.dumps(document, indent=2) + "\n")
        shown.append(f"written: {json_path}")
    broken = any(feature.state == "broken" for feature in found)
    return Outcome(shown, ConfigError.exit_code if broken else 0)


def features(facts: dict[str, Any]) -> list[Feature]:
    """What works on this machine and what is missing for what does not, from the values of `machine`."""
    return [
        *_packages(facts["versions"]),
        _gpu(facts),
        _bf16(facts["bf16"]),
        _compiler(facts["compiler"], facts["headers"]),
        _extra(facts, "tensorboard", "tensorboard", "training.tensorboard=true"),
        _extra(facts, "mlflow-skinny", "mlflow", "training.mlflow=file:./mlruns"),
        _extra(facts, "pydicom", "dicom", "DICOM series"),
        _extra(facts, "highdicom", "dicom", "DICOM-SEG and reports of predictions", "dicom results"),
        _extra(facts, "python-gdcm", "dicom", "series compressed as JPEG, JPEG-LS or JPEG 2000", "compressed dicom"),
        _extra(facts, "requests", "pacs", "--from and --to dicomweb://", "dicomweb"),
        _extra(facts, "pynetdicom", "pacs", "listen, and predict --to dicom://"),
        _extra(facts, "fastapi", "serve", "models over HTTP"),
        _extra(facts, "submitit", "slurm", "launch.cluster=slurm"),
        _extra(facts, "ray", "ray", "predict --engine ray"),
        _extra(facts, "openvino", "cpu", "predict --runtime openvino", "openvino"),
        _extra(facts, "onnx", "cpu", "export --to onnx", "onnx"),
        _enough("memory", facts["memory"]["available_gb"], _LITTLE_MEMORY_GB, "close other programs, or lower training.cache_gb"),
        _enough("loader processes", facts["memory"]["shared_free_gb"], _LITTLE_SHARED_GB, "set training.workers=0, or enlarge /dev/shm"),
        *(_enough(f"disk {place}", free, _LITTLE_DISK_GB, "free some space") for place, free in facts["disk_free_gb"].items()),
    ]


def _packages(versions: dict[str, str | None]) -> list[Feature]:
    """Packages without which, or with which, segpipe does not work; one line when all is well."""
    found = []
    for name in _NEEDED:
        version = versions.get(name)
        bad, why = _REFUSED.get(name, ((), ""))
        if version is None:
            found.append(Feature(name, "broken", "not installed", f"pip install '{name}'"))
        elif f"{version.split('+')[0]}.".startswith(tuple(f"{start.rstrip('.')}." for start in bad)):
            found.append(Feature(name, "broken", f"{version}: {why}", f"pip install --upgrade '{name}' within segpipe's requirements"))
    return found or [Feature("packages", "ok", "all that segpipe needs")]


def _gpu(facts: dict[str, Any]) -> Feature:
    if facts["gpus"]:
        return Feature("GPU", "ok", ", ".join(f"{gpu['name']} ({gpu['memory_gb']:.0f} GB)" for gpu in facts["gpus"]))
    if facts["cuda"] is None:
        return Feature("GPU", "missing", "this torch is built for processors only", "with an NVIDIA GPU: install a CUDA build of torch")
    return Feature("GPU", "missing", f"torch is built for CUDA {facts['cuda']} and finds none", "with an NVIDIA GPU: install its driver")


def _bf16(measured: dict[str, Any]) -> Feature:
    ratio = f"a convolution takes {1000 * measured['fp32_seconds']:.1f} ms in fp32, {1000 * measured['bf16_seconds']:.1f} ms in bf16"
    if measured["used"] and measured["faster"] >= _FASTER:
        return Feature("bf16 on the processor", "ok", f"{measured['faster']:.1f} times faster: {ratio}")
    if measured["used"]:
        cure = "training.precision=fp32 may be faster; look again when the machine is idle"
        return Feature("bf16 on the processor", "missing", f"known, but not faster: {ratio}", cure)
    return Feature("bf16 on the processor", "missing", f"no AMX or AVX512-BF16: {ratio}", "training.precision=auto uses fp32")


def _compiler(path: str | None, headers: bool) -> Feature:
    use = "for training.compile and predict --compile"
    if path is None:
        return Feature("torch.compile", "missing", "finds no C++ compiler", f"{use}: install g++, or set CXX")
    if not headers:
        return Feature("torch.compile", "missing", "finds no Python.h", f"{use}: install Python's headers (python3-dev)")
    return Feature("torch.compile", "ok", f"training.compile=true, predict --compile ({path})")


def _extra(facts: dict[str, Any], package: str, extra: str, use: str, name: str = "") -> Feature:
    """A package of an extra, under the extra's name or its own."""
    version = facts["versions"].get(package)
    if version:
        return Feature(name or extra, "ok", f"{use} ({package} {version})")
    return Feature(name or extra, "missing", f"{use} needs {package}", f"pip install 'segpipe[{extra}]'")


def _enough(name: str, free_gb: float, least_gb: float, cure: str) -> Feature:
    state = "ok" if free_gb >= least_gb else "missing"
    return Feature(name, state, f"{free_gb:.1f} GB free", "" if state == "ok" else f"less than {least_gb:g} GB: {cure}")


def _versions_table(facts: dict[str, Any]) -> Table:
    table = Table(title="Versions")
    table.add_column("package")
    table.add_column("version")
    for name, version in facts["versions"].items():
        table.add_row(name, version or "not installed")
    return table


def _machine_table(facts: dict[str, Any]) -> Table:
    processor, memory = facts["processor"], facts["memory"]
    table = Table(title="Machine")
    table.add_column("what")
    table.add_column("is")
    table.add_row("system", facts["system"]["platform"])
    table.add_row("processor", f"{processor['model']}: {processor['cores']} cores, {processor['usable']} threads usable")
    table.add_row("features", ", ".join(name for name, has in processor["features"].items() if has) or "none of note")
    table.add_row("AMX", "yes" if processor["torch_amx"] else "no")
    table.add_row("AVX512-BF16", "yes" if processor["torch_avx512_bf16"] else "no")
    table.add_row("memory", f"{memory['total_gb']:.1f} GB, {memory['available_gb']:.1f} GB available")
    for gpu in facts["gpus"]:
        table.add_row("GPU", f"{gpu['name']}, {gpu['memory_gb']:.0f} GB, compute capability {gpu['capability']}")
    return table


def _features_table(found: list[Feature]) -> Table:
    table = Table(title="Features")
    for column in ("feature", "state", "what", "cure"):
        table.add_column(column, overflow="fold")
    for feature in found:
        table.add_row(feature.name, feature.state, feature.what, feature.cure)
    return table
