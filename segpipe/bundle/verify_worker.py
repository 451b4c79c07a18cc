"""The process in which `segpipe verify` runs the networks of a package: they may never end, eat memory or crash, and only it dies."""

from __future__ import annotations

import dataclasses
import logging
import queue
import threading
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from segpipe.bundle.open import open_package
from segpipe.errors import ModelError, SegpipeError
from segpipe.inference.messages import Message, error_to_json, send
from segpipe.inference.worker import converse


@dataclass(frozen=True)
class VerifyOrder:
    """What the worker needs.

    Attributes:
        folder: of the package.
        sha256: its identity, by which it must still be the package that was looked through.
        shown: the package as messages name it.
        parent: process that the worker must not outlive.
    """

    folder: str
    sha256: str
    shown: str
    device: str
    level: int = 20
    parent: int = 0


def main() -> None:
    """Prove the package that is ordered, say what came of it, and wait for the end."""
    converse(lambda order, inbox, outbox: _serve(VerifyOrder(**order), inbox, outbox))


def _serve(order: VerifyOrder, inbox: queue.Queue[Message], outbox: BinaryIO) -> None:
    _log_to(outbox, order.level)
    try:
        from segpipe.bundle.prove import prove

        package = open_package(Path(order.folder))
        if package.sha256 != order.sha256:
            raise ModelError(f"{order.shown}: refused: it has changed since it was looked through: try again")
        send(outbox, {"proof": dataclasses.asdict(prove(package, Path(order.shown), order.device))})
    except Exception as error:  # whatever a hostile network makes torch raise
        logging.getLogger(__name__).debug("%s", traceback.format_exc())
        known = isinstance(error, (SegpipeError, MemoryError))
        refused = error if known else ModelError(f"{order.shown}: refused: its network fails: {_first_line(error)}: ask who made it")
        send(outbox, {"refused": error_to_json(refused, out_of_memory=False)})
    threading.Event().wait()  # until the command closes the pipe, so that it reads this and not an end


def _first_line(error: Exception) -> str:
    return ascii((str(error).strip() or type(error).__name__).splitlines()[-1][:200])


class _Handler(logging.Handler):
    """Says every record to the command, which shows it as its own."""

    def __init__(self, outbox: BinaryIO) -> None:
        super().__init__()
        self._outbox = outbox

    def emit(self, record: logging.LogRecord) -> None:
        send(self._outbox, {"log": [record.name, record.levelno, self.format(record)]})


def _log_to(outbox: BinaryIO, level: int) -> None:
    own = logging.getLogger("segpipe")
    own.setLevel(level)
    own.propagate = False
    own.addHandler(_Handler(outbox))
    logging.getLogger().addHandler(logging.NullHandler())
    logging.captureWarnings(True)
