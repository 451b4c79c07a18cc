"""One process at a time in a folder."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

if sys.platform != "win32":
    import fcntl

_FILE = ".lock"
_POLL_SECONDS = 0.02
_STALE_SECONDS = 30.0
"""A lock file this old was left by a process that was killed: it is held while one small table is written."""


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Wait until no other process is inside; the system frees the lock of a killed process.

    Where the system cannot lock a folder (Windows, some network disks) a hidden file stands for the lock.
    """
    handle = _lock_folder(folder)
    if handle is None:
        with _lock_file(folder / _FILE):
            yield
        return
    try:
        yield
    finally:
        os.close(handle)


def _lock_folder(folder: Path) -> int | None:
    """An open handle that holds the lock, or None where there is no such lock."""
    if sys.platform == "win32":
        return None
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
    except OSError:
        os.close(handle)
        return None
    except BaseException:  # Ctrl-C while waiting
        os.close(handle)
        raise
    return handle


@contextlib.contextmanager
def _lock_file(path: Path) -> Iterator[None]:
    while True:
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
            break
        except FileExistsError:
            with contextlib.suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime > _STALE_SECONDS:
                    path.unlink()
            time.sleep(_POLL_SECONDS)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
