"""Proving a package runs its networks in a process of their own: one that never ends, eats memory or crashes ends alone."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from segpipe.bundle.open import open_package
from segpipe.bundle.verify import Limits, verify
from segpipe.errors import ModelError
from tests.bundle.conftest import change_document
from tests.bundle.test_hostile import code_with
from tests.conftest import Run

Started = Callable[[], list[psutil.Process]]

ENDLESS = b"for _9 in range(9223372036854775807):\n      x = torch.neg(x)"
HUNGRY = b"_8 = torch.ones([1048576])\n    for _9 in range(40):\n      _8 = torch.cat([_8, _8])\n    x = torch.add(x, _8[0])"


@pytest.fixture
def started() -> Started:
    """The processes that were started since the test began; others belong to tests before it, such as a browser."""
    there = set(psutil.Process().children(recursive=True))
    return lambda: [child for child in psutil.Process().children(recursive=True) if child not in there]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not end when it is told to is ended sooner."""
    monkeypatch.setattr("segpipe.inference.crew._LAST_SECONDS", 0.5)


@pytest.mark.usefixtures("impatient")
def test_a_network_that_never_ends_is_given_up(folder: Path, started: Started) -> None:
    code_with(ENDLESS)(folder)
    began = time.monotonic()
    with pytest.raises(ModelError, match="take more than 8 s.*--timeout") as caught:
        verify(folder, "cpu", Limits(seconds=8))
    assert time.monotonic() - began < 60
    assert str(folder) in str(caught.value)
    assert started() == []


@pytest.mark.usefixtures("impatient")
def test_a_network_that_eats_memory_is_given_up(folder: Path, started: Started) -> None:
    code_with(HUNGRY)(folder)
    with pytest.raises(ModelError, match=r"takes more than 1.5 GB.*--memory-gb"):
        verify(folder, "cpu", Limits(memory_gb=1.5))
    assert started() == []


def test_a_network_that_fails_is_told_in_one_line(folder: Path) -> None:
    code_with(b"x = torch.add(x, torch.ones([7, 7, 7, 7, 7, 7, 7]))")(folder)
    with pytest.raises(ModelError, match="refused") as caught:
        verify(folder, "cpu")
    assert str(caught.value).isprintable()
    assert str(folder) in str(caught.value)


def test_a_network_that_ends_its_process_is_told_in_one_line(folder: Path, started: Started) -> None:
    """As a crash in torch does; here somebody else ends it."""
    code_with(ENDLESS)(folder)

    def ends() -> None:
        end = time.monotonic() + 60
        while not (children := started()) and time.monotonic() < end:
            time.sleep(0.05)
        children[0].send_signal(signal.SIGSEGV)

    thread = threading.Thread(target=ends)
    thread.start()
    with pytest.raises(ModelError, match="refused: the process that ran its network crashed .SIGSEGV."):
        verify(folder, "cpu", Limits(seconds=60))
    thread.join()


def test_samples_that_unpack_to_too_much_together_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("segpipe.bundle.open.MOST_BYTES", 3000)  # each of the two has less
    with pytest.raises(ModelError, match="its samples unpack to more than 3000 bytes"):
        open_package(folder)


def test_a_package_that_changes_before_the_process_looks_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from segpipe.bundle import verify as module

    real = module.folder_of

    def changed(package: module.Package) -> Path:
        change_document(folder, lambda document: document["card"].update(summary="Another model."))
        return real(package)

    monkeypatch.setattr(module, "folder_of", changed)
    with pytest.raises(ModelError, match="has changed since it was looked through"):
        verify(folder, "cpu")


def test_the_program_gives_up_a_network_that_never_ends(folder: Path, segpipe: Run) -> None:
    code_with(ENDLESS)(folder)
    done = segpipe("verify", str(folder), "--device", "cpu", "--timeout", "2")  # whether its network runs by then or not
    assert (done.returncode, done.stdout) == (5, "")
    [line] = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "take more than 2 s" in line
