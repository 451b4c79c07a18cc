"""Progress on anything that takes longer than two seconds: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from typing import TYPE_CHECKING, TypeVar

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


def track_parts(items: Sequence[T], what: str, parts: Callable[[T], str]) -> Iterator[tuple[T, Told]]:
    """As `track`, for items that take long themselves: each comes with a callable that shows how far the item has come.

    Args:
        parts: what the parts of an item are, as a user reads it: `windows of case_7`.
    """
    if sys.stderr.isatty():
        yield from _two_bars(items, what, parts)
    else:
        for item in _lines(items, what, len(items)):
            yield item, _part_lines(parts(item))


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


def _two_bars(items: Sequence[T], what: str, parts: Callable[[T], str]) -> Iterator[tuple[T, Told]]:
    with _bars() as progress:
        task, inner = progress.add_task(what, total=len(items)), progress.add_task("", visible=False)
        for item in items:
            progress.reset(inner, description=parts(item))
            yield item, _part_bar(progress, inner)
            progress.update(inner, visible=False)
            progress.advance(task)


def _part_bar(progress: Progress, task: TaskID) -> Told:
    start = time.monotonic()

    def told(done: int, total: int) -> None:
        progress.update(task, completed=done, total=total, visible=time.monotonic() - start >= QUIET_SECONDS)

    return told


def _part_lines(what: str) -> Told:
    last = time.monotonic()

    def told(done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= _LINE_EVERY_SECONDS:
            log.info("%s: %d of %d", what, done, total)
            last = now

    return told


def _lines(items: Iterable[T], what: str, count: int | None) -> Iterator[T]:
    last = time.monotonic() + QUIET_SECONDS - _LINE_EVERY_SECONDS
    for done, item in enumerate(items):
        now = time.monotonic()
        if now - last >= _LINE_EVERY_SECONDS:
            log.info("%s: %d%s", what, done, f" of {count}" if count is not None else "")
            last = now
        yield item
