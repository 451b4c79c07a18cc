"""How a call ends: the readable table written, and, when it was stopped, what is done and how to go on."""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

from segpipe.errors import ConfigError
from segpipe.inference.ledger import Ledger

log = logging.getLogger(__name__)

TERMINATED = 128 + signal.SIGTERM
"""Exit code after SIGTERM."""


@contextlib.contextmanager
def table_at_end(ledger: Ledger, stopped: Callable[[], None]) -> Iterator[None]:
    """Write `predictions.csv` at the end, however it comes.

    Args:
        stopped: called when a signal ends the block.
    """
    try:
        yield
    except BaseException as error:
        with contextlib.suppress(ConfigError):  # what has stopped the call is told, not what follows from it
            ledger.export()
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            stopped()
        raise
    ledger.export()


def tell_stopped(done: int, total: int, out: Path, overwrite: bool) -> None:
    """What a call that was stopped has done, and how to go on."""
    log.warning(
        "stopped after %d of %d scan(s), whose label maps are in %s; the same command%s does the others",
        *(done, total, out, " without --overwrite" if overwrite else ""),
    )


@contextlib.contextmanager
def sigterm_ends() -> Iterator[None]:
    """Let SIGTERM end the block as Ctrl-C does, by an exception, with the exit code `TERMINATED`.

    Only a program's main thread hears signals; elsewhere nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_IGN)  # once: what follows is the orderly end
        raise SystemExit(TERMINATED)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
