"""What those who do the jobs share: which is next, how far each is, who does not want it any more, and what became of it."""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from segpipe.server.settings import Limits
from segpipe.server.store import Job, Store

log = logging.getLogger(__name__)

IDLE_SECONDS = 5.0
"""Between looks for what is to be removed."""


@dataclass(frozen=True)
class Progress:
    """How far a job is.

    Attributes:
        stage: waiting, loading (of the model), reading, network, writing, or how it has ended.
        share: 0 to 1.
    """

    stage: str
    share: float = 0.0


class Desk:
    """Threads share it.

    Args:
        jobs: folder in which each job has its own.

    Attributes:
        stop: set when the server ends.
        watchers: told the state and the seconds of each job that has ended; on the thread that has done it.
        fault: why the work has stopped; empty: it has not.
    """

    def __init__(self, limits: Limits, store: Store, jobs: Path) -> None:
        self.limits, self.store, self.jobs = limits, store, jobs
        self.stop = threading.Event()
        self.watchers: list[Callable[[str, float], None]] = []
        self.fault = ""
        self._trash = jobs.parent / ".removed"
        self._lock = threading.Lock()
        self._cancelled: set[str] = set()
        self._progress: dict[str, Progress] = {}
        self._places: list[threading.Event] = []

    def place(self) -> threading.Event:
        """A place for one more who does jobs; the event is set when there may be something to do."""
        self._places.append(event := threading.Event())
        return event

    def leave(self, event: threading.Event) -> bool:
        """Give a place up; False: it is the last one, which stays."""
        with self._lock:
            if len(self._places) == 1:
                return False
            self._places.remove(event)
            return True

    def wake(self) -> None:
        """There is something to do."""
        for event in list(self._places):
            event.set()

    def take(self) -> Job | None:
        """The job that has waited longest, from now on the caller's alone; None: none waits, or the server ends."""
        while not self.stop.is_set() and (job := self.store.next()) is not None:
            if self._patiently(partial(self.store.start, job.id)):
                return job
        return None

    def back(self, job: Job) -> None:
        """Let a job wait again, in its old place; or be done with it, where somebody has cancelled it meanwhile."""
        self._patiently(partial(self.store.back, job.id))
        with self._lock:
            self._cancelled.discard(job.id)
        self._progress.pop(job.id, None)

    def finish(self, job: Job, seconds: float) -> None:
        """Keep what has become of a job."""
        self._patiently(partial(self.store.end, job))
        with self._lock:
            self._cancelled.discard(job.id)
        self._progress.pop(job.id, None)
        for watcher in self.watchers:
            watcher(job.state, seconds)
        log.info("job %s: %s after %.1f s", job.id, job.state, seconds)

    def cancel(self, id: str) -> None:
        """Do without a job that waits, and have one that runs let go of, soon; if the server ends before, it is not begun again."""
        with self._lock:
            self._cancelled.add(id)
        while not self.store.unwanted(id):  # again where it was taken, or given back, between the two
            if self.store.cancel(id) or (job := self.store.get(id)) is None or job.over:
                with self._lock:
                    self._cancelled.discard(id)
                return

    def is_cancelled(self, id: str) -> bool:
        """Whether somebody wants a running job no more."""
        with self._lock:
            return id in self._cancelled

    def note(self, id: str, progress: Progress) -> None:
        """How far a running job is."""
        self._progress[id] = progress

    def progress(self, job: Job) -> Progress:
        """How far a job is."""
        if job.state == "queued":
            return Progress("waiting")
        if job.over:
            return Progress(job.state, 1.0 if job.state == "done" else 0.0)
        return self._progress.get(job.id, Progress("loading"))

    def remove(self, id: str) -> None:
        """Forget a job that has ended, then its files, which are renamed first: half a job is never found."""
        if self.store.remove(id):
            self._trash.mkdir(0o700, exist_ok=True)
            place = self._trash / id
            try:
                (self.jobs / id).rename(place)
            except FileNotFoundError:
                return
            shutil.rmtree(place, ignore_errors=True)

    def tidy_up(self) -> None:
        """Remove jobs that are kept for long enough, or are too many; where the disk has no room even for that, another time."""
        try:
            for id in [*self.store.ended_before(time.time() - self.limits.keep_hours * 3600.0), *self.store.too_many(self.limits.jobs)]:
                self.remove(id)
        except OSError as error:
            log.warning("old jobs cannot be removed (%s): free some space; they stay until then", error.strerror)

    def _patiently(self, change: Callable[[], bool]) -> bool:
        """Have a change on disk, after waiting for room on it where there is none; False: it was not to be, or the server ends before."""
        while True:
            try:
                return change()
            except OSError as error:
                log.warning("the list of jobs cannot be written (%s): free some space; the work waits for it", error.strerror)
                if self.stop.wait(IDLE_SECONDS):
                    return False
