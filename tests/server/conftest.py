"""A server with the small package of the bundle's tests, in a process of its own, as it is used."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.bundle.conftest import made as made  # noqa: PLC0414 - the fixture
from tests.conftest import REPOSITORY

STARTED = re.compile(r"at http://127\.0\.0\.1:(\d+)")
_SECONDS = 120.0


class Server:
    """`segpipe serve` in a process of its own.

    Args:
        log: file that it writes its log into.
    """

    def __init__(self, models: list[Path], data: Path, log: Path, *options: str) -> None:
        self.data, self.log = data, log
        paths = os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH", "")]))
        port = "0" if "--port" not in options else options[options.index("--port") + 1]
        words = [*map(str, models), "--data", str(data), "--port", port, "--device", "cpu", "--threads", "1", *options]
        with log.open("ab") as file:
            self._begin = file.tell()
            self.process = subprocess.Popen(
                [sys.executable, "-m", "segpipe", "serve", *words], env={**os.environ, "PYTHONPATH": paths}, stderr=file, stdout=file
            )
        self.port = self._port()
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=60.0, trust_env=False)
        until(self._answers)

    def _port(self) -> int:
        found = until(lambda: STARTED.search(self.log.read_text()[self._begin :]) or self._ended())
        return int(found[1])

    def _ended(self) -> None:
        assert self.process.poll() is None, self.log.read_text()

    def _answers(self) -> bool:
        self._ended()
        with contextlib.suppress(httpx.TransportError):
            return self.client.get("/health").status_code == 200
        return False

    def send(self, *files: Path, status: int = 202, **fields: str) -> dict[str, Any]:
        """Send a scan; what is answered."""
        with contextlib.ExitStack() as stack:
            parts = [("files", (path.name, stack.enter_context(path.open("rb")))) for path in files]
            answer = self.client.post("/v1/jobs", files=parts, data=fields)
        assert answer.status_code == status, answer.text
        return dict(answer.json())

    def ended(self, id: str) -> dict[str, Any]:
        """A job once it is over."""
        return dict(until(lambda: found if (found := self.client.get(f"/v1/jobs/{id}").json())["ended"] else None))

    def result(self, id: str, format: str = "nifti") -> bytes:
        answer = self.client.get(f"/v1/jobs/{id}/results/{format}")
        assert answer.status_code == 200, answer.text
        return answer.content

    def kill(self) -> None:
        """As a power cut does."""
        self.process.kill()
        self.process.wait(_SECONDS)
        self.client.close()

    def stop(self) -> int:
        """As a system does that ends it; its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(_SECONDS)
        self.client.close()
        return code


def until(look: Callable[[], Any], seconds: float = _SECONDS) -> Any:
    """What `look` gives once it gives something."""
    end = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < end, "it takes too long"
        time.sleep(0.02)
    return found


@pytest.fixture(scope="session")
def package(made: Path) -> Path:
    """The small package, as an archive; its scan is `made/scans/*.nii.gz`."""
    return made / "package.zip"


@pytest.fixture(scope="session")
def scan(made: Path) -> Path:
    return made / "scans" / "mueller_hans_1950.nii.gz"


@pytest.fixture(scope="module")
def served(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for the tests of a file."""
    folder = tmp_path_factory.mktemp("served")
    before = os.environ.get("SEGPIPE_CACHE")
    os.environ["SEGPIPE_CACHE"] = str(folder / "cache")
    server = Server([package], folder / "data", folder / "log")
    yield server
    code = server.stop()
    if before is None:
        del os.environ["SEGPIPE_CACHE"]
    else:
        os.environ["SEGPIPE_CACHE"] = before
    assert code == 0, server.log.read_text()
