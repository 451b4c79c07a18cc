"""A call's hold on the cases that it segments: renewed while it lives, let go at its end."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator

from segpipe.errors import ConfigError
from segpipe.inference.ledger import LEASE_SECONDS, Ledger
from segpipe.io.alive import new_token

log = logging.getLogger(__name__)

_BEATS = 4
"""Renewals in the time of a lease, so that three may fail."""


@contextlib.contextmanager
def holding(ledger: Ledger) -> Iterator[str]:
    """Give the name under which to claim cases; claims under it are renewed in the background and let go at the end.

    A process that is killed renews nothing: on its own machine its claims are free at once, on others after `LEASE_SECONDS`.
    """
    worker, ended = new_token(), threading.Event()
    beat = threading.Thread(target=_renew, args=(ledger, worker, ended), name="lease", daemon=True)
    beat.start()
    try:
        yield worker
    finally:
        ended.set()
        beat.join()
        try:
            ledger.release(worker)
        except ConfigError as error:  # a full disk, say; this process ends, and its claims with it
            log.debug("the lease was not given back: %s", error)


def _renew(ledger: Ledger, worker: str, ended: threading.Event) -> None:
    while not ended.wait(LEASE_SECONDS / _BEATS):
        try:
            ledger.renew(worker)
        except ConfigError as error:  # the next beat may succeed; if none does, whoever takes a case over is the one who notes its end
            log.debug("the lease was not renewed: %s", error)
