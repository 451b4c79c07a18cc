"""What this machine and this installation are, as plain JSON values."""

from __future__ import annotations

import importlib.metadata as metadata
import os
import platform
import shutil
import statistics
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import torch

import segpipe
from segpipe.cores import available_cores
from segpipe.package.precision import fast_bf16

PACKAGES = (
    "torch", "monai", "pytorch-lightning", "nibabel", "SimpleITK", "hydra-core", "omegaconf", "typer", "rich",
    "scipy", "numpy", "matplotlib", "pillow", "psutil", "tensorboard", "mlflow-skinny", "pydicom", "highdicom", "pynetdicom", "requests",
    "fastapi", "submitit", "ray", "openvino", "onnx", "onnxscript", "python-gdcm", "pylibjpeg-openjpeg", "pyjpegls",
)  # fmt: skip

CPU_FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_tile", "amx_bf16")
_GB = 1e9
_CHANNELS, _EDGE = 32, 32
"""Size of the test convolution: 32 channels on 32^3 voxels, large enough to be arithmetic and over in a fraction of a second."""


def versions() -> dict[str, str | None]:
    """Version of segpipe, Python and each package; None where one is not installed."""
    found: dict[str, str | None] = {"segpipe": segpipe.__version__, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found


def processor() -> dict[str, Any]:
    """Model, cores, and the features that decide which precision is fast."""
    info = _cpuinfo()
    flags = set(info.get("flags", info.get("Features", "")).split())
    return {
        "model": info.get("model name", platform.processor() or platform.machine()),
        "cores": psutil.cpu_count(logical=False),
        "threads": psutil.cpu_count(),
        "usable": available_cores(),
        "features": {flag: flag in flags for flag in CPU_FLAGS},
        "torch_amx": _torch_says("_is_amx_tile_supported"),
        "torch_avx512_bf16": _torch_says("_is_avx512_bf16_supported"),
        "onednn": torch.backends.mkldnn.is_available(),
    }


def _cpuinfo() -> dict[str, str]:
    """The first processor of Linux's own list; empty on other systems."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").split("\n\n")[0].splitlines()
    except OSError:
        return {}
    pairs = (line.partition(":") for line in lines)
    return {name.strip(): value.strip() for name, _, value in pairs}


def _torch_says(probe: str) -> bool | None:
    """One of torch's private probes of the processor; None where this torch has none."""
    function = getattr(torch.cpu, probe, None)
    return bool(function()) if function is not None else None


def gpus() -> list[dict[str, Any]]:
    """NVIDIA GPUs that torch can use."""
    found = []
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        facts = torch.cuda.get_device_properties(index)
        capability = f"{facts.major}.{facts.minor}"
        memory = facts.total_memory / _GB
        found.append({"name": facts.name, "memory_gb": memory, "capability": capability, "bf16": fast_bf16(f"cuda:{index}")})
    return found


def compiler() -> str | None:
    """The C++ compiler that torch.compile would call; None where there is none."""
    usual = {"darwin": "clang++", "win32": "cl"}.get(sys.platform, "g++")
    return shutil.which(os.environ.get("CXX", usual))


def headers() -> bool:
    """Whether Python's own headers are here, which code of torch.compile for a processor is built with."""
    return (Path(sysconfig.get_path("include")) / "Python.h").is_file()


def memory() -> dict[str, float]:
    """Main memory, and the shared memory that loader processes hand patches through, in GB (10^9 bytes)."""
    now = psutil.virtual_memory()
    shared = Path("/dev/shm")
    free_shared = shutil.disk_usage(shared).free / _GB if shared.is_dir() else 0.0
    return {"total_gb": now.total / _GB, "available_gb": now.available / _GB, "shared_free_gb": free_shared}


def disks() -> dict[str, float]:
    """Free space in GB of the current folder and of the one for temporary files."""
    return {str(folder): shutil.disk_usage(folder).free / _GB for folder in (Path.cwd(), Path(tempfile.gettempdir()))}


def bf16() -> dict[str, Any]:
    """Time of one 3D convolution in fp32 and in bf16 on the processor; `faster` is their ratio.

    The convolution is 3x3x3, 32 channels on 32^3 voxels, channels last; the median of a few runs after one to warm up.
    """
    weight = torch.randn(_CHANNELS, _CHANNELS, 3, 3, 3).contiguous(memory_format=torch.channels_last_3d)
    image = torch.randn(1, _CHANNELS, _EDGE, _EDGE, _EDGE).contiguous(memory_format=torch.channels_last_3d)
    with torch.inference_mode():
        full = _seconds(lambda: torch.conv3d(image, weight, padding=1))
        small_image, small_weight = image.bfloat16(), weight.bfloat16()
        half = _seconds(lambda: torch.conv3d(small_image, small_weight, padding=1))
    return {"fp32_seconds": full, "bf16_seconds": half, "faster": full / half, "used": fast_bf16("cpu")}


def _seconds(work: Callable[[], object], runs: int = 5) -> float:
    work()
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def machine() -> dict[str, Any]:
    """All of it."""
    return {
        "versions": versions(),
        "system": {"platform": platform.platform(), "executable": sys.executable},
        "processor": processor(),
        "bf16": bf16(),
        "gpus": gpus(),
        "cuda": torch.version.cuda,
        "compiler": compiler(),
        "headers": headers(),
        "memory": memory(),
        "disk_free_gb": disks(),
    }
