"""The scans of one call: which comes next, which other calls are at, and how each has ended. Knows no process and no network."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from segpipe.errors import SegpipeError
from segpipe.inference.content import scan_hash
from segpipe.inference.gather import Examination
from segpipe.inference.ledger import Entry, Ledger
from segpipe.inference.table import Row

_LOOK = 100
"""Cases that one claim looks through."""
_EXPORT_SECONDS = 5.0
_EXPORT_SHARE = 20
"""The table of a large folder takes seconds to write: at most a twentieth of the time goes into it."""


@dataclass(frozen=True)
class Claim:
    """A scan that this call holds.

    Attributes:
        before: what is known of the files that earlier calls have written of it.
        crashes: how often a worker has died of it.
    """

    scan: Examination
    before: Row | None
    crashes: int = 0


class Claims:
    """Every scan that is added leaves once, as a row that `each` is told.

    Several calls, and several of these in one call, may share a ledger; a scan that another one finishes is told here as skipped.

    Args:
        job: see `Task.job`.
        worker: see `lease.holding`.
        each: told the row of each scan at its end.
    """

    def __init__(self, ledger: Ledger, job: str, worker: str, each: Callable[[Row], None]) -> None:
        self._ledger = ledger
        self._job = job
        self._worker = worker
        self._each = each
        self._open: dict[str, Examination] = {}
        self._pending: deque[str] = deque()
        self._crashed: deque[str] = deque()
        self._elsewhere: list[str] = []
        self._export = _Export(ledger)

    def add(self, scans: Sequence[Examination]) -> None:
        """Take up scans that wait in the ledger."""
        self._open |= {scan.case: scan for scan in scans}
        self._pending.extend(scan.case for scan in scans)

    @property
    def open(self) -> int:
        """How many scans have not ended."""
        return len(self._open)

    def has(self, case: str) -> bool:
        """Whether a scan was added and has not ended."""
        return case in self._open

    @property
    def waiting(self) -> int:
        """How many scans may be free."""
        return len(self._pending)

    @property
    def dangerous(self) -> int:
        """How many scans wait that a worker has died of."""
        return len(self._crashed)

    def next(self) -> Claim | None:
        """Hold the next scan that is free; None when there is none at present (see `look_again`)."""
        while self._pending:
            some = [self._pending[number] for number in range(min(_LOOK, len(self._pending)))]
            entry = self._ledger.claim(some, self._job, self._worker)
            passed = some.index(entry.case) if entry else len(some)
            self._elsewhere += some[:passed]
            for _ in range(passed + bool(entry)):
                self._pending.popleft()
            if entry:
                return Claim(self._open[entry.case], entry.row, entry.crashes)
        return None

    def next_crashed(self) -> Claim | None:
        """Hold the next scan that a worker has died of, to be segmented while no other worker runs."""
        while self._crashed:
            case = self._crashed.popleft()
            entry = self._ledger.claim([case], self._job, self._worker, crashed=True)
            if entry:
                return Claim(self._open[case], entry.row, entry.crashes)
            self._elsewhere.append(case)
        return None

    def look_again(self) -> bool:
        """Look at the scans that were not free: those that other calls have ended are told; True when any is free now."""
        entries = self._ledger.entries(self._elsewhere)
        cases, self._elsewhere = self._elsewhere, []
        for case in cases:
            entry = entries.get(case)
            if entry is None or entry.job != self._job:
                self._end(_taken(case, self._open[case]))
            elif entry.held:
                self._elsewhere.append(case)
            elif entry.state in ("waiting", "running"):
                (self._crashed if entry.crashes else self._pending).append(case)
            elif entry.row is not None:
                self._end(_by_another_call(entry, entry.row, self._open[case]))
        return bool(self._pending or self._crashed)

    def finish(self, row: Row, set_aside: bool = False) -> None:
        """Note how a scan that this call holds has ended; when it has lost its hold, whoever has it now tells."""
        if self._ledger.finish(row, self._worker, set_aside):
            self._end(row)
        else:
            self._elsewhere.append(row.case)

    def lost(self, case: str) -> None:
        """This call has lost its hold on a scan."""
        self._elsewhere.append(case)

    def give_back(self, case: str) -> None:
        """Let go of a scan that nothing has become of; it is the next one again."""
        self._ledger.release(self._worker, case)
        self._pending.appendleft(case)

    def crashed(self, case: str) -> None:
        """A process died of a scan, which is to be tried again."""
        self._ledger.crashed(case, self._worker)
        self._crashed.append(case)

    def mark(self, row: Row) -> bool:
        """Note which files are about to be written; False when this call has lost its hold."""
        return self._ledger.mark(row, self._worker)

    def _end(self, row: Row) -> None:
        del self._open[row.case]
        self._export.after_a_row()
        self._each(row)


def _taken(case: str, scan: Examination) -> Row:
    reason = "another call segments it with another model or other options: give the same command again after its end"
    return Row(case, scan.input, "", "failed", reason)


def _by_another_call(entry: Entry, row: Row, scan: Examination) -> Row:
    if entry.state not in ("done", "skipped"):
        return row
    own = scan.input
    if row.input != own and row.input_hash != _hash(scan):
        reason = f"{own}: another call has written the label map of {row.input} under this name meanwhile: choose another output folder"
        return Row(row.case, own, "", "failed", reason)
    return replace(row, status="skipped", reason="done by another call meanwhile")


def _hash(scan: Examination) -> str:
    try:
        return scan_hash(scan.images, scan.slices)
    except SegpipeError:  # whoever cannot be read is not the one that was segmented
        return ""


class _Export:
    """Writes the table now and then."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._next = 0.0

    def after_a_row(self) -> None:
        """Write it, unless that was done a moment ago."""
        start = time.monotonic()
        if start >= self._next:
            self._ledger.export()
            end = time.monotonic()
            self._next = end + max(_EXPORT_SECONDS, _EXPORT_SHARE * (end - start))
