"""A real Orthanc where one is installed, and the program in a process of its own."""

from __future__ import annotations

import gc
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from segpipe.pacs.tls import TlsFiles
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


@pytest.fixture
def certificate(tmp_path: Path) -> TlsFiles:
    """Signed by itself, for this machine."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    key, pem = tmp_path / "key.pem", tmp_path / "cert.pem"
    words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", str(key), "-out", str(pem), "-days", "2"]
    subprocess.run([*words, "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"], check=True, capture_output=True)
    return TlsFiles(pem, pem, key)


@pytest.fixture(autouse=True)
def _collected() -> Iterator[None]:
    """pynetdicom lets go of sockets that failed to connect without closing them; Python says so in the test that is to blame."""
    yield
    gc.collect()
