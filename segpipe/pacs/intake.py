"""Complete series of a spool as scans for a call, a few at a time; and what becomes of them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from segpipe.dicom.policy import Policy
from segpipe.inference.examination import Examination
from segpipe.inference.series import gather_series
from segpipe.inference.table import Row
from segpipe.io.find import find_files
from segpipe.pacs.spool import ASIDE, Spool

log = logging.getLogger(__name__)


@dataclass
class _Taken:
    """Attributes:
    open: cases that have not ended.
    failed: why some have not been segmented.
    undelivered: why the results of some cannot be sent.
    """

    open: set[str]
    failed: list[str] = field(default_factory=list)
    undelivered: list[str] = field(default_factory=list)


class Intake:
    """Args:
    channels: of the model.
    ahead: scans that may be given and not have ended.
    stop: once set, no more are given.
    check: raises what must end the call.
    """

    def __init__(
        self, spool: Spool, channels: tuple[str, ...], policy: Policy, ahead: int, stop: threading.Event, check: Callable[[], None]
    ) -> None:
        self._spool, self._channels, self._policy, self._ahead, self._stop = spool, channels, policy, ahead, stop
        self._check = check
        self._taken: dict[str, _Taken] = {}
        self._series: dict[str, str] = {}
        self._left = list(spool.left)

    def look(self, busy: Callable[[str], bool]) -> list[Examination] | None:
        """See `Incoming`; None once the node is to end."""
        self._check()
        if self._stop.is_set():
            return None
        found: list[Examination] = []
        while len(self._series) < self._ahead:
            name = self._left.pop(0) if self._left else self._spool.take()
            if name is None:
                break
            found += self._scans(name)
        return found

    def _scans(self, name: str) -> list[Examination]:
        folder = self._spool.folder(name)
        found = gather_series(find_files(folder), folder.parent, self._channels, (self._policy, ()), tell=True)
        scans = [replace(scan, origin=f"series {name}") for scan in found]  # where it lies now, it does not for long
        if not scans:
            log.warning("series %s: holds no scan, and is set aside in %s", name, ASIDE)
            self._spool.set_aside(name)
            return []
        self._taken[name] = _Taken({scan.case for scan in scans})
        self._series |= {scan.case: name for scan in scans}
        return scans

    def ended(self, row: Row, undelivered: str = "") -> None:
        """A scan has ended, and its results wait to be sent.

        Args:
            undelivered: why they cannot be; its series is kept then.
        """
        name = self._series.pop(row.case, None)
        if name is None:
            return
        taken = self._taken[name]
        taken.open.discard(row.case)
        taken.failed += [row.reason] if row.status == "failed" else []
        taken.undelivered += [undelivered] if undelivered else []
        if taken.open:
            return
        del self._taken[name]
        if taken.failed or taken.undelivered:
            what = "was not segmented" if taken.failed else "has results that cannot be sent"
            log.warning("series %s: %s, and is set aside in %s/%s", name, what, ASIDE, name)
            self._spool.set_aside(name)
        else:
            self._spool.done(name)
