"""Scans that arrive in a folder, each taken once its files have been left alone for a while."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from segpipe.errors import DataError
from segpipe.inference.gather import Examination

log = logging.getLogger(__name__)


class Incoming(Protocol):
    """Where scans come from while a call runs."""

    def look(self, busy: Callable[[str], bool]) -> list[Examination] | None:
        """Those that are to be segmented now; None when no more are to come, and the call ends after those that it has.

        Args:
            busy: whether a case is being segmented.
        """


_LONGEST_LOOK = 10
"""Looking through a large folder takes seconds: at most a tenth of the time goes into it."""

_Look = tuple[tuple[str, int, int], ...]
"""Name, size and time of change of each file of a scan."""


@dataclass
class _Seen:
    """A scan's files as they were found, when they were first found so (`time.monotonic`), and whether it was taken then."""

    look: _Look
    since: float
    taken: bool = False


class Arrivals:
    """Args:
    find: every scan that lies in the folder now; raises DataError when there is none.
    still: seconds for which a scan's files must stay as they are before it is taken.
    """

    def __init__(self, find: Callable[[], list[Examination]], still: float) -> None:
        self._find = find
        self._still = still
        self._seen: dict[str, _Seen] = {}
        self._told: set[str] = set()
        self._next = 0.0

    def look(self, busy: Callable[[str], bool]) -> list[Examination]:
        """The scans that have come, or have changed, and are still now. Those whose channels have not all come are waited for.

        Args:
            busy: whether a case is being segmented; if it has changed meanwhile, it is taken again later.
        """
        start = time.monotonic()
        if start < self._next:
            return []
        ready = [scan for scan in self._scans() if not busy(scan.case) and self._is_ready(scan, time.monotonic())]
        end = time.monotonic()
        self._next = end + max(min(1.0, self._still / 2), _LONGEST_LOOK * (end - start))
        return ready

    def _scans(self) -> list[Examination]:
        try:
            return self._find()
        except DataError as error:  # nothing there yet
            log.debug("%s", error)
            return []

    def _is_ready(self, scan: Examination, now: float) -> bool:
        look = _look(scan)
        if look is None:  # moved away meanwhile
            return False
        seen = self._seen.get(scan.case)
        if seen is None or seen.look != look:
            self._seen[scan.case] = _Seen(look, now)
            return False
        if seen.taken or now - seen.since < self._still:
            return False
        if scan.problem:
            if scan.case not in self._told:
                log.warning("%s: not taken yet: %s", scan.case, scan.problem)
                self._told.add(scan.case)
            return False
        seen.taken = True
        return True


def _look(scan: Examination) -> _Look | None:
    try:
        return tuple(_of_file(path) for path in scan.files)
    except OSError:
        return None


def _of_file(path: Path) -> tuple[str, int, int]:
    found = path.stat()
    return (str(path), found.st_size, found.st_mtime_ns)
