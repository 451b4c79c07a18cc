"""What all tests share: the real scans, the program as a user calls it, and clean logging."""

from __future__ import annotations

import logging
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest

from tests.forked import Standby

REPOSITORY = Path(__file__).resolve().parent.parent

os.environ.setdefault("MPLBACKEND", "Agg")  # pictures without a screen
hypothesis.settings.register_profile("segpipe", deadline=None, print_blob=True)  # a shared machine has no even pace
hypothesis.settings.load_profile("segpipe")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a GPU where there is none."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    import torch

    if not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture
def real_scans() -> Path:
    """The folder of real scans, from SEGPIPE_DATA or beside the repository."""
    folder = Path(os.environ.get("SEGPIPE_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real scans in {folder}; set SEGPIPE_DATA")
    return folder


@pytest.fixture
def uncompiled_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch.compile follows a network and its gradients as always, and then computes them with torch's own kernels: in a second."""
    monkeypatch.setattr("segpipe.package.compiling.BACKEND", "aot_eager")
    monkeypatch.setattr("segpipe.package.compiling.OPTIONS", None)


@pytest.fixture(scope="session")
def _kept_code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("code")


@pytest.fixture
def compiler(_kept_code: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """torch.compile writes and builds code, which the tests share; of plain instructions, so that it tries none of the processor."""
    if shutil.which(os.environ.get("CXX", "g++")) is None:
        pytest.skip("needs a C++ compiler: install g++, or set CXX")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(_kept_code))
    monkeypatch.setenv("TORCHINDUCTOR_VEC_ISA_OK", "0")  # of programs that a test starts
    from torch._inductor import config

    with config.patch({"cpp.vec_isa_ok": False}):  # pytest's own way would leave torch without the setting
        yield


Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def segpipe(tmp_path: Path) -> Run:
    """Call the program in a process of its own, from an empty folder: `segpipe("train", "conf=phantom")`."""

    def run(*arguments: str, cwd: Path = tmp_path, **environment: str) -> subprocess.CompletedProcess[str]:
        paths = os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH", "")]))
        variables = {**os.environ, "PYTHONPATH": paths, **environment}
        command = [sys.executable, "-m", "segpipe", *arguments]
        return subprocess.run(command, cwd=cwd, env=variables, capture_output=True, text=True, timeout=240)

    return run


@pytest.fixture(scope="session")
def _standby() -> Iterator[Standby]:
    process = Standby()
    yield process
    process.close()


@pytest.fixture
def forked(tmp_path: Path, request: pytest.FixtureRequest) -> Run:
    """As `segpipe`, in a process that has its imports behind it: for tests that are not about the start of a command; see `forked.py`."""
    if sys.platform != "linux":
        started: Run = request.getfixturevalue("segpipe")
        return started
    standby: Standby = request.getfixturevalue("_standby")

    def run(*arguments: str, cwd: Path = tmp_path, **environment: str) -> subprocess.CompletedProcess[str]:
        paths = os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH", "")]))
        return standby.run([*map(str, arguments)], cwd, {**os.environ, "PYTHONPATH": paths, **environment})

    return run


@pytest.fixture
def forked_command(request: pytest.FixtureRequest) -> str:
    """As `forked`, for scripts: what stands there for `segpipe`."""
    python = shlex.quote(sys.executable)
    if sys.platform != "linux":
        return f"{python} -m segpipe"
    standby: Standby = request.getfixturevalue("_standby")
    return f"{python} -S {shlex.quote(str(REPOSITORY / 'tests' / 'forked.py'))} call {shlex.quote(str(standby.place))}"


@pytest.fixture(autouse=True)
def _logging_as_found() -> Iterator[None]:
    """The command line directs logs and warnings for its process; a test that calls it in ours must leave no trace."""
    own, root = logging.getLogger("segpipe"), logging.getLogger()
    before = (list(own.handlers), own.level, own.propagate, list(root.handlers))
    yield
    own.handlers[:], own.level, own.propagate, root.handlers[:] = before
    own.setLevel(before[1])
    logging.captureWarnings(False)
