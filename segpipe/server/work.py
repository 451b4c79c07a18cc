"""The work of a server: one job after the other, by workers that keep their model loaded, and which the server outlives."""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from segpipe.errors import ConfigError, SegpipeError
from segpipe.inference.crew import Crew, Worker, how_it_ended
from segpipe.inference.messages import Message, error_from_json
from segpipe.server.models import Served
from segpipe.server.settings import ServerSettings
from segpipe.server.store import Job, Store
from segpipe.server.warm import Warm

log = logging.getLogger(__name__)

_POLL_SECONDS = 0.1
_IDLE_SECONDS = 5.0
"""Between looks for what is to be removed."""
_WARM_SECONDS = 600.0
_TRIES = 2
"""Workers that may end over one job."""
_STARTS = 5
"""Servers that may end over one job: each starts its jobs again, and one scan must not keep all others from being done."""
_PATIENCE_SECONDS = 5.0
"""For a worker to let go of a job that is cancelled; then it is ended."""


@dataclass(frozen=True)
class Progress:
    """How far a job is.

    Attributes:
        stage: waiting, loading (of the model), reading, network, writing, or how it has ended.
        share: 0 to 1.
    """

    stage: str
    share: float = 0.0


class _GoneError(Exception):
    """The job is not to be gone on with: cancelled, out of time, or the server ends."""

    def __init__(self, state: str, why: str = "") -> None:
        super().__init__(why)
        self.state = state


class Workshop:
    """A thread that has the jobs of a list done.

    Args:
        models: by id.
        jobs: folder in which each job has its own.

    Attributes:
        watchers: told the state and the seconds of each job that has ended; on the workshop's thread.
        fault: why it has stopped to work; empty: it has not.
    """

    def __init__(self, settings: ServerSettings, models: Mapping[str, Served], store: Store, jobs: Path) -> None:
        self._settings, self._models, self._store, self._jobs = settings, models, store, jobs
        self._warm = Warm(settings, jobs)
        self._thread = threading.Thread(target=self._work, name="workshop", daemon=True)
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._cancelled: set[str] = set()
        self._began: float | None = None  # with the scan in hand; None: its model is being loaded
        self._asked_to_cancel: dict[str, float] = {}
        self._progress: dict[str, Progress] = {}
        self._trash = jobs.parent / ".removed"
        self.watchers: list[Callable[[str, float], None]] = []
        self.fault = ""

    def start(self) -> None:
        """Begin with what waits."""
        self._thread.start()

    def close(self) -> None:
        """End the workers; the job in hand waits again."""
        self._stop.set()
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join()

    def wake(self) -> None:
        """There is something to do."""
        self._wake.set()

    def cancel(self, id: str) -> None:
        """Let go of a job that runs, soon; if the server ends before, it is not begun again."""
        if self._store.unwanted(id):
            with self._lock:
                self._cancelled.add(id)

    def remove(self, id: str) -> None:
        """Forget a job that has ended, then its files, which are renamed first: half a job is never found."""
        if self._store.remove(id):
            self._trash.mkdir(0o700, exist_ok=True)
            place = self._trash / id
            try:
                (self._jobs / id).rename(place)
            except FileNotFoundError:
                return
            shutil.rmtree(place, ignore_errors=True)

    def progress(self, job: Job) -> Progress:
        """How far a job is."""
        if job.state == "queued":
            return Progress("waiting")
        if job.over:
            return Progress(job.state, 1.0 if job.state == "done" else 0.0)
        return self._progress.get(job.id, Progress("loading"))

    def memory(self) -> int:
        """Bytes that the workers take."""
        return self._warm.memory()

    def _work(self) -> None:
        try:
            self._warm_up()
            while not self._stop.is_set():
                self._tidy_up()
                job = self._store.next()
                if job is None:
                    self._wake.wait(_IDLE_SECONDS)
                    self._wake.clear()
                elif self._patiently(partial(self._store.start, job.id)):
                    self._do(job)
        except Exception as error:  # the server says so at every request, rather than take what nobody works on
            self.fault = f"the server has stopped to work ({type(error).__name__}: {error}): start it again"
            log.exception("%s", self.fault)
        finally:
            self._warm.close()

    def _warm_up(self) -> None:
        """Load the first model before somebody waits for it; what is wrong with it is told by the jobs that need it."""
        served = next(iter(self._models.values()))
        crew = self._warm.of(served)
        log.info("loading %s", served.id)
        deadline = time.monotonic() + _WARM_SECONDS
        while not self._stop.is_set() and self._store.next() is None and time.monotonic() < deadline:
            event = crew.event(_POLL_SECONDS)
            if event is None:
                continue
            worker, message = event
            if message is not None and "ready" in message:
                crew.welcome(worker, message)
                log.info("%s is ready", served.id)
            else:
                why = error_from_json(message["refused"]) if message is not None else f"its worker {how_it_ended(worker.code())}"
                log.error("%s cannot be used: %s", served.id, why)
                self._warm.dismiss(served.id)
            return

    def _tidy_up(self) -> None:
        """Remove jobs that are kept for long enough, or are too many."""
        limits = self._settings.limits
        for id in [*self._store.ended_before(time.time() - limits.keep_hours * 3600.0), *self._store.too_many(limits.jobs)]:
            self.remove(id)

    def _do(self, job: Job) -> None:
        log.info("job %s: begins", job.id)
        with self._lock:
            self._cancelled &= {job.id}
        start = time.monotonic()
        served = self._models.get(job.model)
        try:
            if served is None or served.identity != job.identity:
                raise ConfigError(f"the scan was sent for {job.model} {job.version}, {change_of(served, job)}: send it again")
            result = self._made(job, served)
            ended = replace(job, state="done", **result)
        except _GoneError as gone:
            if gone.state == "queued":
                self._patiently(partial(self._store.back, job.id))
                return
            ended = replace(job, state="cancelled" if gone.state == "cancelled" else "failed", error=str(gone))
        except SegpipeError as error:
            ended = replace(job, state="failed", error=self._plain(str(error), job))
        self._finish(ended, time.monotonic() - start)

    def _finish(self, job: Job, seconds: float) -> None:
        self._patiently(partial(self._store.end, job))
        with self._lock:
            self._cancelled.discard(job.id)
            self._asked_to_cancel.pop(job.id, None)
        self._progress.pop(job.id, None)
        for watcher in self.watchers:
            watcher(job.state, seconds)
        log.info("job %s: %s after %.1f s", job.id, job.state, seconds)

    def _patiently(self, change: Callable[[], bool]) -> bool:
        """Have a change on disk, after waiting for room on it where there is none; False: it was not to be, or the server ends before."""
        while True:
            try:
                return change()
            except OSError as error:
                log.warning("the list of jobs cannot be written (%s): free some space; the work waits for it", error.strerror)
                if self._stop.wait(_IDLE_SECONDS):
                    return False

    def _made(self, job: Job, served: Served) -> dict[str, Any]:
        """What becomes of a job: results, warnings and volumes.

        Raises:
            SegpipeError: it has failed.
            _GoneError: it is not to be gone on with.
        """
        if job.tries >= _STARTS:
            raise ConfigError(f"{job.name}: the server has ended {job.tries} times while it was at this scan; it is not begun again")
        why = ""
        for tries in range(1, _TRIES + 1):
            self._progress[job.id] = Progress("loading")
            try:
                return self._asked(job, served)
            except _DiedError as died:
                self._warm.dismiss(served.id)
                log.warning("job %s: its worker %s", job.id, died)
                why = str(died)
                if tries < _TRIES:
                    log.info("job %s: is tried once more", job.id)
        raise ConfigError(f"{job.name}: the worker that segmented it {why} (the {_TRIES}nd time)")

    def _asked(self, job: Job, served: Served) -> dict[str, Any]:
        self._began = None
        crew = self._warm.of(served)
        while not any(worker.ready for worker in crew.workers):
            worker, message = self._heard(crew, job)
            if worker is not None and message is not None and "ready" in message:
                crew.welcome(worker, message)
            elif message is not None and "refused" in message:
                self._warm.dismiss(served.id)
                raise error_from_json(message["refused"])
        limits = self._settings.limits
        wanted = {"id": job.id, "files": list(job.files), "tta": job.tta, "most_bytes": limits.unpacked_bytes}
        self._began = time.monotonic()
        crew.workers[0].send({"segment": wanted})
        while True:
            _, message = self._heard(crew, job)
            if message is None:
                continue
            [(word, (id, *values))] = message.items()
            if id != job.id:
                continue
            if word == "done":
                return self._result(values[0], job, served)
            if word == "failed":
                raise ConfigError(values[0])
            if word == "cancelled":
                raise _GoneError("cancelled")
            self._note(job.id, word, values)

    def _note(self, id: str, word: str, values: list[Any]) -> None:
        if word == "stage":
            share = {"reading": 0.02, "network": 0.1, "writing": 0.95}[values[0]]
            self._progress[id] = Progress(values[0], share)
        elif word == "windows":
            done, total = values
            self._progress[id] = Progress("network", 0.1 + 0.85 * done / max(1, total))

    def _heard(self, crew: Crew, job: Job) -> tuple[Worker | None, Message | None]:
        """What the worker says within a moment.

        Raises:
            _DiedError: it has ended.
            _GoneError: the job is cancelled and the worker did not let go of it, or it takes too long, or the server ends.
        """
        event = crew.event(_POLL_SECONDS)
        if event is not None and event[1] is None:
            raise _DiedError(how_it_ended(event[0].code()))
        self._check(crew, job)
        return event if event is not None else (None, None)

    def _check(self, crew: Crew, job: Job) -> None:
        if self._stop.is_set():
            raise _GoneError("queued")
        limit = self._settings.limits.timeout
        if limit and self._began is not None and time.monotonic() - self._began > limit:
            self._warm.dismiss(job.model)
            raise _GoneError("failed", f"was not done after {limit:g} s: it hangs or is large; the server's --timeout may be longer")
        with self._lock:
            cancelled = job.id in self._cancelled
        if not cancelled:
            return
        for worker in crew.workers:
            worker.send({"cancel": job.id})
        self._progress[job.id] = Progress("cancelling")
        since = self._asked_to_cancel.setdefault(job.id, time.monotonic())
        if time.monotonic() - since > _PATIENCE_SECONDS or not any(worker.ready for worker in crew.workers):
            self._warm.dismiss(job.model)
            raise _GoneError("cancelled")

    def _result(self, told: Message, job: Job, served: Served) -> dict[str, Any]:
        colours = {label["value"]: list(label["colour"]) for label in served.labels}
        volumes = tuple({**one, "colour": colours.get(one["value"], [255, 255, 255])} for one in told["volumes"])
        warnings = tuple(self._plain(text, job) for text in told["warnings"])
        return {"results": dict(told["results"]), "warnings": warnings, "volumes": volumes}

    def _plain(self, text: str, job: Job) -> str:
        """A worker's line without the paths of this machine: the scan is called as its sender calls it."""
        for name in job.files:
            text = text.replace(str(self._jobs / job.id / name), job.name)
        return " ".join(text.replace(str(self._jobs / job.id), "the job").replace(str(self._jobs), "the server's folder").split())


class _DiedError(Exception):
    """A worker has ended."""


def change_of(served: Served | None, job: Job) -> str:
    """What has become of the model of a job, if it is not `served`, the one that has its id now."""
    if served is None or served.version != job.version:
        return "which is not served any more"
    if not job.sha256:
        return "and it was not kept then which file that was"
    return f"and the file that is served as that now is another one (SHA-256 {served.sha256[:12]}, not {job.sha256[:12]})"
