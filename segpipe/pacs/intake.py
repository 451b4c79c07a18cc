"""Complete series of a spool as scans for a call, a few at a time; and what becomes of them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from segpipe.dicom.channels import Wanted
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
    names: of the series.
    open: cases that have not ended.
    failed: why some have not been segmented.
    undelivered: why the results of some cannot be sent.
    """

    names: tuple[str, ...]
    open: set[str]
    failed: list[str] = field(default_factory=list)
    undelivered: list[str] = field(default_factory=list)


class Intake:
    """Each series by itself.

    Args:
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
        self._left = list(spool.left)

    def look(self, busy: Callable[[str], bool]) -> list[Examination] | None:
        """See `Incoming`; None once the node is to end."""
        self._check()
        if self._stop.is_set():
            return None
        found: list[Examination] = []
        while len(self._taken) < self._ahead:
            scans = self._next()
            if scans is None:
                break
            found += scans
        return found

    def _next(self) -> list[Examination] | None:
        """The scans of what is complete next, none where it holds none; None where nothing is complete."""
        name = self._complete()
        return None if name is None else self._scans((name,), ())

    def _complete(self) -> str | None:
        """A series that is complete; those first that a node before has left."""
        return self._left.pop(0) if self._left else self._spool.take()

    def _scans(self, names: Sequence[str], wanted: Sequence[Wanted]) -> list[Examination]:
        """Those of taken series, which are set aside where there is none.

        Args:
            wanted: which of them is which channel; none: each is the only one.
        """
        folders = [self._spool.folder(name) for name in names]
        root = folders[0].parent
        files = [path for folder in folders for path in find_files(folder)]
        found = gather_series(files, root, self._channels, (self._policy, wanted), tell=True)
        scans = [replace(scan, origin=_origin(scan, root)) for scan in found]  # where they lie now, they do not for long
        if not scans:
            self._aside(names, f"{_told(names)}: holds no scan, and is set aside in {ASIDE}")
            return []
        taken = _Taken(tuple(names), {scan.case for scan in scans})
        self._taken |= {scan.case: taken for scan in scans}
        return scans

    def _aside(self, names: Sequence[str], why: str) -> None:
        log.warning("%s", why)
        for name in names:
            self._spool.set_aside(name)

    def ended(self, row: Row, undelivered: str = "") -> None:
        """A scan has ended, and its results wait to be sent.

        Args:
            undelivered: why they cannot be; its series is kept then.
        """
        taken = self._taken.pop(row.case, None)
        if taken is None:
            return
        taken.open.discard(row.case)
        taken.failed += [row.reason] if row.status == "failed" else []
        taken.undelivered += [undelivered] if undelivered else []
        if taken.open:
            return
        if taken.failed or taken.undelivered:
            what = "was not segmented" if taken.failed else "has results that cannot be sent"
            where = ", ".join(f"{ASIDE}/{name}" for name in taken.names)
            self._aside(taken.names, f"{_told(taken.names)}: {what}, and is set aside in {where}")
            return
        for name in taken.names:
            self._spool.done(name)


def _told(names: Sequence[str]) -> str:
    return f"series {', '.join(names)}"


def _origin(scan: Examination, root: Path) -> str:
    return ";".join(f"series {path.relative_to(root).parts[0]}" for path in scan.images)
