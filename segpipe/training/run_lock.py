"""One training at a time in a run folder."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil

from segpipe.errors import ConfigError

if sys.platform != "win32":
    import fcntl

log = logging.getLogger(__name__)

NAME = ".lock"
"""Of the file in the folder; it holds the process id, and is removed at the end."""


@contextlib.contextmanager
def sole(folder: Path) -> Iterator[None]:
    """Hold `folder`, which is there, for this process. The lock of a killed process is free at once.

    Raises:
        ConfigError: another process holds it.
    """
    path = folder / NAME
    handle = _take(path)
    try:
        yield
    finally:
        os.ftruncate(handle, 0)
        with contextlib.suppress(OSError):  # Windows removes no open file: it stays, and names nobody
            path.unlink()  # while the lock is held: see `_take`
        os.close(handle)


def _take(path: Path) -> int:
    """An open handle that holds the lock.

    Not `flock`, which the children of a killed process would go on to hold: the lock of `lockf` belongs to one process.
    """
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        if not _lock(handle):
            holder = _holder(handle)
            os.close(handle)
            raise ConfigError(
                f"{path.parent}: another training{f' (process {holder})' if holder else ''} writes into this folder; "
                "wait for its end, end it, or choose another run_dir=..."
            )
        if _is_still(handle, path):
            os.ftruncate(handle, 0)
            os.lseek(handle, 0, os.SEEK_SET)
            with contextlib.suppress(OSError):  # a full disk: the lock holds all the same
                os.write(handle, str(os.getpid()).encode())
            return handle
        os.close(handle)  # its holder has just removed the file, and another process may have made a new one


def _lock(handle: int) -> bool:
    """Whether the lock is ours. Where the system has none (Windows), a process that lives holds the file that names it."""
    if sys.platform == "win32":
        holder = _holder(handle)
        return not holder or holder == os.getpid() or not psutil.pid_exists(holder)
    try:
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            return False
        log.debug("no locks on this disk: %s", error)  # some network disks; better no lock than no training
    return True


def _is_still(handle: int, path: Path) -> bool:
    """Whether `path` is the file that was opened."""
    try:
        return sys.platform == "win32" or os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _holder(handle: int) -> int:
    """The process id in the file; 0 where there is none (yet)."""
    os.lseek(handle, 0, os.SEEK_SET)
    text = os.read(handle, 32)
    return int(text) if text.isdigit() else 0
