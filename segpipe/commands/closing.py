"""What `segpipe predict` tells at its end, counted while it runs, so that a folder of any size needs no memory for it."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field

from rich.table import Table

from segpipe.inference.table import TABLE, Row
from segpipe.pacs.fetch import SPOOL

_NAMES = 3
_HELD = re.compile(rf"\S*/{re.escape(SPOOL)}/[^\s:]*")
"""Where a series lay that was fetched."""
_LINES = 20
"""Reasons that are shown; the table has all."""


@dataclass
class _Failures:
    """Attributes:
    reason: of the first.
    cases: names of the first few.
    count: of all.
    """

    reason: str
    cases: list[str] = field(default_factory=list)
    count: int = 0


class Closing:
    """Counts the rows of a call."""

    def __init__(self) -> None:
        self.files = False
        self._counts: Counter[str] = Counter()
        self._seconds = 0.0
        self._warned = 0
        self._failures: dict[str, _Failures] = {}

    def add(self, row: Row) -> None:
        """Take one row."""
        self.files = self.files or bool(row.output)
        self._counts[row.status] += 1
        self._warned += row.status in ("done", "skipped") and bool(row.warning)
        if row.status == "done":
            self._seconds += sum(row.seconds.values())
        if row.status == "failed":
            failures = self._failures.setdefault(_kind(row), _Failures(row.reason))
            failures.count += 1
            if len(failures.cases) < _NAMES:
                failures.cases.append(row.case)

    @property
    def failed(self) -> bool:
        """Whether any scan has no label map."""
        return self._counts["failed"] > 0

    def table(self) -> Table:
        """How many scans ended how, and what one took."""
        done = self._counts["done"]
        table = Table(title=f"{self._counts.total()} scan(s)")
        for column in ("done", "skipped (done before)", "failed", "seconds a scan"):
            table.add_column(column, justify="right")
        each = f"{self._seconds / done:.2f}" if done else "-"
        table.add_row(str(done), str(self._counts["skipped"]), str(self._counts["failed"]), each)
        return table

    def failures(self) -> list[str]:
        """One line a reason, the most frequent first, with the cases that it stopped."""
        found = sorted(self._failures.values(), key=lambda one: -one.count)
        lines = [f"failed  {_some(one)}: {one.reason}" for one in found[:_LINES]]
        rest = sum(one.count for one in found[_LINES:])
        return [*lines, *([f"failed  {rest} more: see the column reason of {TABLE}"] if rest else [])]

    def warnings(self) -> list[str]:
        """One line where scans have a warning, those of an earlier call too: what was told of each has scrolled away by now."""
        where = f"see the column warning of {TABLE}"
        return [f"warned  {self._warned} scan(s): look at their label maps, {where}"] if self._warned else []


def _kind(row: Row) -> str:
    """The reason without what is the scan's own: its path and its name."""
    text = row.reason
    for path in row.input.split(";"):
        text = text.replace(path, "")
    text = _HELD.sub("", text)
    return text.replace(row.case.rpartition("/")[2], "") if len(row.case) > 1 else text


def _some(failures: _Failures) -> str:
    rest = failures.count - len(failures.cases)
    return ", ".join(failures.cases) + (f" and {rest} more" if rest else "")
