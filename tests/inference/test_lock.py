"""One process at a time in a folder."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from segpipe.inference import lock
from segpipe.inference.lock import locked


@pytest.fixture(params=["system", "file"])
def folder(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    if request.param == "file":  # as on Windows
        monkeypatch.setattr(lock, "_lock_folder", lambda folder: None)
    return tmp_path


def test_the_second_waits_for_the_first_and_nothing_is_left(folder: Path) -> None:
    order: list[str] = []

    def second() -> None:
        with locked(folder):
            order.append("second")

    with locked(folder):
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.1)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"] and not list(folder.iterdir())


def test_an_error_inside_frees_the_lock(folder: Path) -> None:
    with pytest.raises(KeyError), locked(folder):
        raise KeyError
    with locked(folder):
        pass


def test_a_lock_file_of_a_killed_process_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "_lock_folder", lambda folder: None)
    (tmp_path / ".lock").touch()
    os.utime(tmp_path / ".lock", (0, 0))
    with locked(tmp_path):
        pass
    assert not list(tmp_path.iterdir())
