"""Work that takes the memory of a scan or long, in turn: few at once, some that wait without a thread, and no more."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeVar

import anyio
import anyio.to_thread

from segpipe.server.faults import broken

T = TypeVar("T")


class Turns:
    """Requests share it; each thread that they may all use stays free for those who ask for little.

    Args:
        at_once: threads of its own.
        waiting: requests that may wait for one.
    """

    def __init__(self, at_once: int, waiting: int) -> None:
        self._limiter = anyio.CapacityLimiter(at_once)
        self._most = at_once + waiting
        self._inside = 0

    async def run(self, work: Callable[..., T], *arguments: object) -> T:
        """What `work` returns, or raises, on a thread.

        Raises:
            RequestError: as many wait as may (503).
        """
        if self._inside >= self._most:
            raise broken(f"{self._inside} requests are at scans already, the most that may: ask again in a moment")
        self._inside += 1
        try:
            return await anyio.to_thread.run_sync(partial(work, *arguments), limiter=self._limiter)
        finally:
            self._inside -= 1
