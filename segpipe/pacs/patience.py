"""How often and after how long something is tried again."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from segpipe.pacs.faults import LaterError

log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True)
class Patience:
    """Attributes:
    tries: in all; 0: without end.
    first: seconds after the first failure; twice as long after each further one.
    most: seconds, at most.
    """

    tries: int = 6
    first: float = 1.0
    most: float = 60.0

    def pause(self, failures: int, asked: float = 0.0) -> float:
        """Seconds to wait after so many failures in a row, with some chance in it, so that many who wait do not come at once.

        Args:
            asked: seconds that the server asks for.
        """
        longest = min(self.most, self.first * 2.0 ** min(failures - 1, 30))
        return max(random.uniform(0.5, 1.0) * longest, min(asked, self.most))

    def over(self, failures: int) -> bool:
        """Whether it is not tried again after so many failures in a row."""
        return 0 < self.tries <= failures


def tried(patience: Patience, what: Callable[[], T], sleep: Callable[[float], None] = time.sleep) -> T:
    """The result of `what`, tried again after each `LaterError`.

    Raises:
        LaterError: it never went well.
    """
    failures = 0
    while True:
        try:
            return what()
        except LaterError as error:
            failures += 1
            if patience.over(failures):
                raise LaterError(f"{error} (tried {failures} times)", error.unsure, alone=error.alone) from error
            pause = patience.pause(failures, error.wait)
            log.debug("%s; again in %.1f s", error, pause)
            sleep(pause)
