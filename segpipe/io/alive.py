"""Which process made something, and whether it still lives: on this machine at once, on others never known."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import re
import secrets
import socket
from collections.abc import Iterator
from contextvars import ContextVar

_TOKEN = re.compile(r"(?P<machine>[0-9a-f]{8})-(?P<process>\d+)-[0-9a-f]{8}")
TOKEN = _TOKEN.pattern.replace("?P<machine>", "?:").replace("?P<process>", "?:")
"""What `new_token` makes, as a regular expression without names."""
_given: ContextVar[str] = ContextVar("given", default="")
_NAMESPACE = "/proc/self/ns/pid"
"""Containers of one host name number their processes each for themselves; Linux only."""


@functools.cache
def _machine() -> str:
    try:
        numbering = os.readlink(_NAMESPACE)  # noqa: PTH115 - the text of the link, which leads to no path
    except OSError:
        numbering = ""
    return hashlib.blake2b(f"{socket.gethostname()} {numbering}".encode(), digest_size=4).hexdigest()


def new_token() -> str:
    """A name for something that this process makes: machine, process and eight random digits.

    Inside `acting_as` the name that was given there.
    """
    return _given.get() or f"{_machine()}-{os.getpid()}-{secrets.token_hex(4)}"


@contextlib.contextmanager
def acting_as(token: str) -> Iterator[None]:
    """Name what this thread makes by a token of the process that it works for, perhaps on another machine: that one knows when it ends."""
    before = _given.set(token)
    try:
        yield
    finally:
        _given.reset(before)


def is_gone(token: str) -> bool:
    """Whether the process that made `token` has ended, as far as this machine can tell: False for one of another machine.

    The system gives numbers of processes again after a while, so that False may be wrong; True never is.
    """
    match = _TOKEN.fullmatch(token)
    if match is None or match["machine"] != _machine():
        return False
    import psutil

    try:
        return bool(psutil.Process(int(match["process"])).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True
    except psutil.AccessDenied:
        return False
