"""What a node has to say while it works: its log, its name, and why it refuses."""

from __future__ import annotations

import contextlib
import logging
import socket
from collections.abc import Iterator

from segpipe import __version__
from segpipe.errors import ConfigError, SegpipeError
from segpipe.inference.messages import Message, error_to_json


class Heard(logging.Handler):
    """Keeps what is logged until it is taken."""

    def __init__(self) -> None:
        super().__init__()
        self._records: list[list[object]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self._records.append([record.name, record.levelno, self.format(record)])

    def taken(self) -> Iterator[Message]:
        """What was logged since, as one message, or none. A generator, because Ray sends values into what is yielded from."""
        records, self._records = self._records, []
        if records:
            yield {"log": records}


@contextlib.contextmanager
def hearing(level: int) -> Iterator[Heard]:
    """Hear what segpipe logs inside."""
    own, heard = logging.getLogger("segpipe"), Heard()
    before = own.level
    own.setLevel(level)
    own.addHandler(heard)
    try:
        yield heard
    finally:
        own.removeHandler(heard)
        own.setLevel(before)


def here() -> str:
    """The name of this node."""
    return socket.gethostname()


def check_version(version: str) -> None:
    """Refuse to work for another segpipe, whose scans, plans and rows may look different.

    Raises:
        ConfigError: naming both.
    """
    if version != __version__:
        raise ConfigError(f"has segpipe {__version__}, the command {version}: install the same one on every node")


def refusal(error: Exception) -> Message:
    """Why this node cannot go on, with its name."""
    out_of_memory = False
    if not isinstance(error, SegpipeError):
        from segpipe.package.device import is_out_of_memory

        out_of_memory = is_out_of_memory(error)
    told = error_to_json(error, out_of_memory)
    return {"refused": {**told, "text": f"node {here()}: {told['text']}"}}
