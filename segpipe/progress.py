"""Progress on anything that takes longer than two seconds: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

T = TypeVar("T")
Told = Callable[[int, int], None]
"""Is told how many parts of an item are done, and how many it has in all."""
log = logging.getLogger(__name__)

QUIET_SECONDS = 2.0
_LINE_EVERY_SECONDS = 15.0


def track(items: Iterable[T], what: str, total: int | None = None) -> Iterator[T]:
    """Yield `items`, showing how far it has come.

    Args:
        what: what is being done, as a user reads it: `reading 208 cases`.
        total: number of items where `items` has no length.
    """
    count = total if total is not None else len(items) if isinstance(items, Sized) else None
    if sys.stderr.isatty():
        yield from _bar(items, what, count)
    else:
        yield from _lines(items, what, count)


@contextlib.contextmanager
def board(what: str, total: int) -> Iterator[Board]:
    """A place that shows how far several items have come that take long themselves, one or more at a time.

    Args:
        what: what is being done, as a user reads it: `segmenting 40 scan(s)`.
        total: number of items.
    """
    if sys.stderr.isatty():
        with _bars() as progress:
            yield _BarBoard(progress, what, total)
    else:
        yield _LineBoard(what, total)


class Board(Protocol):
    """What `board` gives."""

    def advance(self) -> None:
        """One more item is done."""

    def grow(self, total: int) -> None:
        """There are more items than was known."""

    def parts(self, what: str) -> Told:
        """A callable that shows how far one item has come.

        Args:
            what: what its parts are, as a user reads it: `windows of case_7`.
        """

    def leave(self, told: Told) -> None:
        """The item that `told` was made for has ended."""


class _BarBoard:
    """A bar for all items, and one for each that takes longer than `QUIET_SECONDS`."""

    def __init__(self, progress: Progress, what: str, total: int) -> None:
        self._progress = progress
        self._task = progress.add_task(what, total=total)
        self._inner: dict[Told, TaskID] = {}

    def advance(self) -> None:
        self._progress.advance(self._task)

    def grow(self, total: int) -> None:
        self._progress.update(self._task, total=total)

    def parts(self, what: str) -> Told:
        inner = self._progress.add_task(what, visible=False)
        told = _part_bar(self._progress, inner)
        self._inner[told] = inner
        return told

    def leave(self, told: Told) -> None:
        self._progress.remove_task(self._inner.pop(told))


class _LineBoard:
    """A line now and then, for all items and for each."""

    def __init__(self, what: str, total: int) -> None:
        self._what = what
        self._done, self._total, self._shown = 0, total, False
        self._last = time.monotonic() + QUIET_SECONDS - _LINE_EVERY_SECONDS

    def advance(self) -> None:
        self._done += 1
        now = time.monotonic()
        due = now - self._last >= _LINE_EVERY_SECONDS and self._done < self._total
        if due or (self._shown and self._done == self._total):  # whoever has read of the parts reads of the whole
            log.info("%s: %d of %d", self._what, self._done, self._total)
            self._last, self._shown = now, True

    def grow(self, total: int) -> None:
        self._total = total

    def parts(self, what: str) -> Told:
        return _part_lines(what)

    def leave(self, told: Told) -> None:
        """Lines stay."""


def _bars() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    text = TextColumn("{task.description}", markup=False)  # brackets in the name of a case are no style
    return Progress(text, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=Console(stderr=True), transient=True)


def _bar(items: Iterable[T], what: str, count: int | None) -> Iterator[T]:
    with _bars() as progress:
        task = progress.add_task(what, total=count)
        for item in items:
            yield item
            progress.advance(task)


def _part_bar(progress: Progress, task: TaskID) -> Told:
    start = time.monotonic()

    def told(done: int, total: int) -> None:
        progress.update(task, completed=done, total=total, visible=time.monotonic() - start >= QUIET_SECONDS)

    return told


def _part_lines(what: str) -> Told:
    last, shown = time.monotonic(), False

    def told(done: int, total: int) -> None:
        nonlocal last, shown
        now = time.monotonic()
        if now - last >= _LINE_EVERY_SECONDS or (shown and done == total):
            log.info("%s: %d of %d", what, done, total)
            last, shown = now, True

    return told


def _lines(items: Iterable[T], what: str, count: int | None) -> Iterator[T]:
    last, done, shown, of = time.monotonic() + QUIET_SECONDS - _LINE_EVERY_SECONDS, 0, False, f" of {count}" if count is not None else ""
    for item in items:
        now = time.monotonic()
        if now - last >= _LINE_EVERY_SECONDS:
            log.info("%s: %d%s", what, done, of)
            last, shown = now, True
        yield item
        done += 1
    if shown:
        log.info("%s: %d%s", what, done, of)
