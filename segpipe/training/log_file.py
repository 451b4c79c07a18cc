"""`log.txt` of a run: what the screen shows, with the time of each line."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path

log = logging.getLogger(__name__)


class LogFile(logging.FileHandler):
    """Tells once that the file cannot be written; Python's own prints a traceback for each line on a full disk."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, encoding="utf-8")
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%d %H:%M:%S"))
        self._told = False

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        if self._told:
            return
        self._told = True  # before the warning, which comes here as well
        error = sys.exc_info()[1]
        reason = getattr(error, "strerror", None) or error
        log.warning("%s: cannot be written (%s); the run goes on, and its lines are on the screen only", self.baseFilename, reason)

    def close(self) -> None:
        """Also on a full disk, where what is left in the buffer is given up."""
        with contextlib.suppress(OSError):
            super().close()


@contextlib.contextmanager
def log_to(path: Path) -> Iterator[None]:
    """Write the program's own messages into `path`, too, and what ended the block."""
    handler, logger = LogFile(path), logging.getLogger("segpipe")
    logger.addHandler(handler)
    try:
        yield
    except (Exception, KeyboardInterrupt) as error:
        log.debug("ended by %s: %s (process %d)", type(error).__name__, error, os.getpid())
        raise
    finally:
        logger.removeHandler(handler)
        handler.close()
