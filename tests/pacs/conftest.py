"""A real Orthanc where one is installed, and the program in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.commands.test_predict import untrained_model
from tests.pacs import drill
from tests.pacs import orthanc as real

Program = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def installed() -> None:
    """Skip without Orthanc or a library."""
    for name in ("pydicom", "highdicom", "pynetdicom", "requests"):
        pytest.importorskip(name)
    if real.why_not():
        pytest.skip(real.why_not())


@pytest.fixture
def orthanc(installed: None, tmp_path: Path) -> Iterator[real.Orthanc]:
    """One that runs, and is empty."""
    server = real.Orthanc(tmp_path / "orthanc").start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return untrained_model(tmp_path_factory.mktemp("model") / "model.ts", patch_size=(8, 8, 8))


@pytest.fixture
def program(tmp_path: Path) -> Program:
    """Call it in a process of its own: `program("predict", ...)`."""

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "segpipe", *arguments]
        return subprocess.run(
            command, cwd=tmp_path, env={**drill.surroundings(), **environment}, capture_output=True, text=True, timeout=120
        )

    return run
