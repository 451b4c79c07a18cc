"""Sends what waits in the outbox, on a thread of its own, until it is told to end."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
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
_RENEW_SECONDS = 60.0
"""Far less than the lease of `Outbox`."""
_MANY = 20
"""Objects that fail in a row, each as if by its own fault: then it is the destination's."""
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


Current = Callable[[str, Path], None]
"""Told the case and the file of an object that is about to be sent; raises where it is no result of that case now."""


class Courier:
    """Args:
        out: the output folder.
        current: asked of each object right before it is sent: hours may lie between its writing and its sending.
        patience: with what is tried again; a failure of the whole destination is waited out for all objects together, one of an
            object holds up no other.

    Attributes:
        gave_up: why nothing is sent any more; empty while it is.
    """

    def __init__(self, outbox: Outbox, sender: Sender, out: Path, patience: Patience, current: Current) -> None:
        self._outbox, self._sender, self._out, self._patience, self._current = outbox, sender, out, patience, current
        self.gave_up = ""
        self._token = new_token()
        self._failures = 0
        self._failed: Counter[int] = Counter()
        self._row: set[int] = set()
        self._left: set[int] = set()
        self._idle = False
        self._fault: SegpipeError | None = None
        self._wake, self._last, self._stop, self._done = (threading.Event() for _ in range(4))
        self._thread = threading.Thread(target=self._work, name="courier", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Whether it still sends, or has ended as it was told to.

        Raises:
            ConfigError: the outbox cannot be written.
            DataError: its thread has died.
        """
        if self._fault is not None:
            raise self._fault
        if not self._thread.is_alive() and not self._done.is_set():
            raise DataError("nothing is sent any more: the thread that sends has died; the same command sends what is missing")

    def deliver(self, scan: str, paths: Sequence[Path]) -> None:
        """Have a scan's files sent, if they have not been; returns at once, and they are sent even if this process is killed.

        Raises:
            ConfigError: the outbox cannot be written.
            DataError: a file is no DICOM; another object of its UID was sent before; see `check`.
        """
        parcels = [(path.relative_to(self._out).as_posix(), Parcel.of_bytes(path.read_bytes(), str(path))) for path in paths]
        try:
            if self._outbox.put(scan, parcels):
                log.debug("%s: %d object(s) to send", scan, len(parcels))
        finally:
            self._wake.set()
        self.check()

    def finish(self, seconds: float | None = None) -> bool:
        """Send what waits; whether it was all sent or refused, and not given up.

        Args:
            seconds: not longer, and not while nobody takes it; None: until the patience is over.

        Raises:
            ConfigError, DataError: see `check`.
        """
        self._last.set()
        self._wake.set()
        end = time.monotonic() + (seconds or 0.0)
        while self._thread.is_alive() and (seconds is None or (time.monotonic() < end and not self._failures and not self._idle)):
            self._thread.join(_JOIN_SECONDS)
        self.check()
        counts = self._outbox.counts()
        return self._done.is_set() and not self.gave_up and not counts["waiting"] + counts["sending"]

    def told(self) -> tuple[dict[str, int], list[tuple[str, str, str]]]:
        """How many objects are in each state; scan, path and reason of each that is not sent."""
        return dict(self._outbox.counts()), self._outbox.reasons()

    def stop(self) -> None:
        """Send no more; what waits goes on with the next call."""
        self._stop.set()
        self._wake.set()
        self._thread.join(_LAST_SECONDS)

    def _work(self) -> None:
        try:
            self._send_all()
            self._sender.close()
            self._done.set()
        except SegpipeError as error:  # the outbox; told on the thread of the call
            self._fault = error
        except Exception as error:
            log.debug("the thread that sends has died", exc_info=True)
            self._fault = DataError(f"nothing is sent any more: {_named(error)}; the same command sends what is missing")

    def _send_all(self) -> None:
        while not self._stop.is_set() and not self.gave_up:
            self._wake.clear()
            delivery = self._outbox.claim(self._token, self._left)
            if delivery is not None:
                self._idle = False
                self._send(delivery)
                continue
            self._sender.close()
            pause = self._outbox.pause(self._left)
            if self._last.is_set() and pause is None:
                return
            self._idle = self._last.is_set()
            self._wake.wait(_LOOK_SECONDS if pause is None else min(_LOOK_SECONDS, pause))

    def _send(self, delivery: Delivery) -> None:
        try:
            with self._held(delivery):
                self._hand_over(delivery)
        except RefusedError as error:
            self._refused(delivery, str(error))
        except (LaterError, DeniedError) as error:
            self._later(delivery, error)
        except _ChangedError as error:
            if not self._outbox.changed(delivery, str(error), error.instance):
                log.warning("%s is not sent: %s", delivery.path, error)
        except DataError as error:
            self._refused(delivery, str(error), answered=False)
        except SegpipeError:
            raise
        except Exception as error:  # whatever a library makes of an odd answer; it may have come all the same
            log.debug("%s", delivery.path, exc_info=True)
            self._later(delivery, LaterError(f"cannot be sent: {_named(error)}", unsure=True, alone=True))
        else:
            self._outbox.sent(delivery)
            if self._failures:
                log.info("%s: sending goes on", delivery.scan)
            self._well(delivery)

    @contextlib.contextmanager
    def _held(self, delivery: Delivery) -> Iterator[None]:
        """Say meanwhile, again and again, that it is still being sent."""
        over = threading.Event()

        def renew() -> None:
            while not over.wait(_RENEW_SECONDS):
                try:
                    self._outbox.renew(delivery)
                except SegpipeError as error:  # the end of the sending meets it too, and tells
                    log.debug("%s", error)

        thread = threading.Thread(target=renew, name="courier lease", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _hand_over(self, delivery: Delivery) -> None:
        path = self._out / delivery.path
        try:
            data = path.read_bytes()
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror}); must be there until it is sent: segment the scan again") from error
        parcel = Parcel.of_bytes(data, str(path))
        if (parcel.instance, parcel.sha256) != (delivery.instance, delivery.sha256):
            raise _ChangedError(f"{path}: has changed since it was to be sent; give the same command again", parcel.instance)
        if delivery.unsure and self._sender.has(parcel):
            log.debug("%s: has come, though nobody said so", delivery.path)
            return
        self._current(delivery.scan, path)
        self._sender.store(parcel, data)

    def _well(self, delivery: Delivery) -> None:
        self._failures = 0
        self._row.clear()
        self._failed.pop(delivery.number, None)

    def _refused(self, delivery: Delivery, why: str, answered: bool = True) -> None:
        log.warning("%s is not sent: %s", delivery.path, why)
        self._outbox.refused(delivery, why)
        if answered:
            self._well(delivery)

    def _later(self, delivery: Delivery, error: LaterError | DeniedError) -> None:
        self._failed[delivery.number] += 1
        self._row.add(delivery.number)
        failed, later = self._failed[delivery.number], isinstance(error, LaterError)
        alone = isinstance(error, LaterError) and error.alone and len(self._row) < _MANY
        asked = error.wait if isinstance(error, LaterError) else self._patience.most
        left = later and self._patience.over(failed)
        pause = self._patience.pause(failed, asked) if alone and not left else 0.0
        unsure = delivery.unsure or (isinstance(error, LaterError) and error.unsure)
        self._outbox.later(delivery, str(error), unsure, pause)
        self._sender.close()
        if left:
            self._left.add(delivery.number)
        if failed == 1 and (alone or not self._failures):
            log.warning("%s: %s; it is tried again", delivery.path, error)
        if not alone:
            self._wait(error, asked)

    def _wait(self, error: LaterError | DeniedError, asked: float) -> None:
        """For the destination, or give it up."""
        self._failures += 1
        if self._patience.over(self._failures) or (isinstance(error, DeniedError) and self._patience.tries):
            self.gave_up = str(error)
            return
        self._stop.wait(self._patience.pause(self._failures, asked))


class _ChangedError(DataError):
    """Attributes:
    instance: UID of what lies there now.
    """

    def __init__(self, text: str, instance: str) -> None:
        super().__init__(text)
        self.instance = instance


def _named(error: BaseException) -> str:
    """Its kind alone: its words may be of what came, and hold anything."""
    return f"an unforeseen {type(error).__name__}"
