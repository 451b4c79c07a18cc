"""`segpipe serve` before it serves: what it needs, and what it refuses."""

from __future__ import annotations

import importlib.util
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")

from segpipe.commands.serve import check_installed
from segpipe.errors import ConfigError
from tests.bundle.conftest import write_model
from tests.conftest import REPOSITORY

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def test_without_its_packages_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec

    def find(name: str, *rest: Any) -> Any:
        return None if name in ("uvicorn", "python_multipart") else real(name, *rest)

    monkeypatch.setattr(importlib.util, "find_spec", find)
    with pytest.raises(ConfigError, match=r"^serve: needs uvicorn and python_multipart: pip install 'segpipe\[serve\]'$"):
        check_installed()


def test_the_server_itself_loads_no_torch() -> None:
    code = "import segpipe.commands.serve, segpipe.server.app, sys; print('torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY, timeout=120)
    assert (run.stdout, run.returncode) == ("False\n", 0), run.stderr


def test_a_port_that_another_program_has_is_told(tmp_path: Path, segpipe: Run) -> None:
    model = write_model(tmp_path / "model.ts")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        run = segpipe("serve", str(model), "--port", str(taken.getsockname()[1]), "--data", str(tmp_path / "data"))
    assert run.returncode == ConfigError.exit_code
    assert "cannot be listened at (Address already in use): choose another --port" in run.stderr
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--host", "0.0.0.0"), "--host 0.0.0.0: others can reach it, and anybody could use it; must have a token: give --token-file FILE"),
        (("--token-file", "none"), "--token-file none: cannot be read"),
        (("--max-queue", "0"), "--max-queue"),
        (("--device", "cpu", "--device", "gpu"), "--device: is 'gpu'; must be auto, cpu, cuda (every GPU) or cuda:N"),
    ],
)
def test_what_cannot_be_is_one_line(tmp_path: Path, segpipe: Run, words: tuple[str, ...], line: str) -> None:
    run = segpipe("serve", str(write_model(tmp_path / "model.ts")), "--port", "0", *words)
    assert run.returncode == ConfigError.exit_code
    assert run.stderr.startswith(f"error: {line}")
    assert len(run.stderr.splitlines()) == 1
