"""Sends what waits in the outbox, on a thread of its own, until it is told to end."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from segpipe.errors import DataError, SegpipeError
from segpipe.io.alive import new_token
from segpipe.pacs.faults import DeniedError, LaterError, RefusedError
from segpipe.pacs.outbox import Delivery, Outbox
from segpipe.pacs.parcel import Parcel
from segpipe.pacs.patience import Patience

log = logging.getLogger(__name__)

_LOOK_SECONDS = 1.0
_JOIN_SECONDS = 0.1
_LAST_SECONDS = 10.0
"""For the object in hand, when a call is stopped; what is cut is asked for by the next one."""


class Sender(Protocol):
    """A destination; see `Web` and `Node`."""

    def check(self) -> None:
        """Whether anything can be sent at all."""

    def has(self, parcel: Parcel) -> bool | None:
        """Whether an object lies there; None where that cannot be asked."""

    def store(self, parcel: Parcel, data: bytes) -> None:
        """Send an object."""

    def close(self) -> None:
        """Let go of connections; a later call opens new ones."""


class Courier:
    """Args:
        out: the output folder.
        patience: with what is tried again; a failure of the whole destination is waited out for all objects together.

    Attributes:
        gave_up: why nothing is sent any more; empty while it is.
    """

    def __init__(self, outbox: Outbox, sender: Sender, out: Path, patience: Patience) -> None:
        self._outbox, self._sender, self._out, self._patience = outbox, sender, out, patience
        self.gave_up = ""
        self._token = new_token()
        self._failures = 0
        self._fault: SegpipeError | None = None
        self._wake, self._last, self._stop = threading.Event(), threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._work, name="courier", daemon=True)
        self._thread.start()

    def deliver(self, scan: str, paths: Sequence[Path]) -> None:
        """Have a scan's files sent, if they have not been; returns at once, and they are sent even if this process is killed.

        Raises:
            ConfigError: the outbox cannot be written.
            DataError: a file is no DICOM.
        """
        self._raise()
        parcels = [(path.relative_to(self._out).as_posix(), Parcel.of_bytes(path.read_bytes(), str(path))) for path in paths]
        if self._outbox.put(scan, parcels):
            log.debug("%s: %d object(s) to send", scan, len(parcels))
        self._wake.set()

    def finish(self, seconds: float | None = None) -> bool:
        """Send what waits; whether it was all sent or refused, and not given up.

        Args:
            seconds: not longer, and not while nobody takes it; None: until the patience is over.

        Raises:
            ConfigError: the outbox cannot be written.
        """
        self._last.set()
        self._wake.set()
        end = time.monotonic() + (seconds or 0.0)
        while self._thread.is_alive() and (seconds is None or (time.monotonic() < end and not self._failures)):
            self._thread.join(_JOIN_SECONDS)
        self._raise()
        return not self._thread.is_alive() and not self.gave_up

    def told(self) -> tuple[dict[str, int], list[tuple[str, str, str]]]:
        """How many objects are in each state; scan, path and reason of each that is not sent."""
        return dict(self._outbox.counts()), self._outbox.reasons()

    def stop(self) -> None:
        """Send no more; what waits goes on with the next call."""
        self._stop.set()
        self._wake.set()
        self._thread.join(_LAST_SECONDS)

    def _raise(self) -> None:
        if self._fault is not None:
            raise self._fault

    def _work(self) -> None:
        try:
            while not self._stop.is_set() and not self.gave_up:
                self._wake.clear()
                delivery = self._outbox.claim(self._token)
                if delivery is not None:
                    self._send(delivery)
                    continue
                self._sender.close()
                if self._last.is_set():
                    return
                self._wake.wait(_LOOK_SECONDS)
        except SegpipeError as error:  # the outbox; told on the thread of the call
            self._fault = error
        finally:
            self._sender.close()

    def _send(self, delivery: Delivery) -> None:
        try:
            self._hand_over(delivery)
        except RefusedError as error:
            self._refused(delivery, str(error))
            self._failures = 0
        except (LaterError, DeniedError) as error:
            self._later(delivery, error)
        except DataError as error:
            self._refused(delivery, str(error))
        else:
            self._outbox.sent(delivery)
            if self._failures:
                log.info("%s: sending goes on", delivery.scan)
            self._failures = 0

    def _hand_over(self, delivery: Delivery) -> None:
        path = self._out / delivery.path
        try:
            data = path.read_bytes()
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror}); must be there until it is sent: segment the scan again") from error
        parcel = Parcel.of_bytes(data, str(path))
        if (parcel.instance, parcel.sha256) != (delivery.instance, delivery.sha256):
            raise DataError(f"{path}: has changed since it was to be sent; give the same command again")
        if delivery.unsure and self._sender.has(parcel):
            log.debug("%s: has come, though nobody said so", delivery.path)
            return
        self._sender.store(parcel, data)

    def _refused(self, delivery: Delivery, why: str) -> None:
        log.warning("%s is not sent: %s", delivery.path, why)
        self._outbox.refused(delivery, why)

    def _later(self, delivery: Delivery, error: LaterError | DeniedError) -> None:
        unsure = delivery.unsure or (isinstance(error, LaterError) and error.unsure)
        self._outbox.later(delivery, str(error), unsure)
        self._failures += 1
        denied = isinstance(error, DeniedError)
        if self._patience.over(self._failures) or (denied and self._patience.tries):
            self.gave_up = str(error)
            return
        if self._failures == 1:
            log.warning("%s: %s; it is tried again", delivery.path, error)
        self._sender.close()
        asked = error.wait if isinstance(error, LaterError) else self._patience.most
        self._stop.wait(self._patience.pause(self._failures, asked))
