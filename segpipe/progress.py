"""Progress on anything that takes longer than two seconds: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

T = TypeVar("T")
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


def _bar(items: Iterable[T], what: str, count: int | None) -> Iterator[T]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=count)
        for item in items:
            yield item
            progress.advance(task)


def _lines(items: Iterable[T], what: str, count: int | None) -> Iterator[T]:
    last = time.monotonic() + QUIET_SECONDS - _LINE_EVERY_SECONDS
    for done, item in enumerate(items):
        now = time.monotonic()
        if now - last >= _LINE_EVERY_SECONDS:
            log.info("%s: %d%s", what, done, f" of {count}" if count is not None else "")
            last = now
        yield item
