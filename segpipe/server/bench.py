"""One device of a server: it has one job after the other done, by workers that keep their model loaded and which the server outlives."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from segpipe.errors import ConfigError, SegpipeError
from segpipe.inference.crew import Crew, Worker, how_it_ended
from segpipe.inference.messages import Message, error_from_json
from segpipe.server.desk import IDLE_SECONDS, Desk, Progress
from segpipe.server.models import Served, change_of
from segpipe.server.settings import ServerSettings
from segpipe.server.store import Job
from segpipe.server.warm import Warm

log = logging.getLogger(__name__)

_POLL_SECONDS = 0.1
_WARM_SECONDS = 600.0
_TRIES = 2
"""Workers that may end over one job."""
_STARTS = 5
"""Servers that may end over one job: each starts its jobs again, and one scan must not keep all others from being done."""
_PATIENCE_SECONDS = 5.0
"""For a worker to let go of a job that is cancelled; then it is ended."""


class _GoneError(Exception):
    """The job is not to be gone on with: cancelled, out of time, or the server ends."""

    def __init__(self, state: str, why: str = "") -> None:
        super().__init__(why)
        self.state = state


class _DiedError(Exception):
    """A worker has ended."""


class _UnfitError(Exception):
    """The device cannot load a model: no job that it takes could be done."""


class Bench:
    """A thread that has jobs done on one device.

    Args:
        desk: where it takes them from.
        models: by id.
        device: as of `choose_device`.
    """

    def __init__(self, desk: Desk, settings: ServerSettings, models: Mapping[str, Served], device: str) -> None:
        self._desk, self._models, self._device = desk, models, device
        self._limits = settings.limits
        self._warm = Warm(settings, desk.jobs, device)
        self._wake = desk.place()
        self._thread = threading.Thread(target=self._work, name=f"bench {device}", daemon=True)
        self._began: float | None = None  # with the scan in hand; None: its model is being loaded
        self._asked_to_cancel: float | None = None  # when the worker was asked to let go of it

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def join(self) -> None:
        """Wait for its end, when the desk has said so."""
        if self._thread.ident is not None:
            self._thread.join()

    def memory(self) -> int:
        """Bytes that its workers take."""
        return self._warm.memory()

    def _work(self) -> None:
        desk = self._desk
        try:
            self._warm_up()
            while not desk.stop.is_set():
                desk.tidy_up()
                job = desk.take()
                if job is not None:
                    self._do(job)
                else:
                    self._wake.wait(IDLE_SECONDS)
                    self._wake.clear()
        except _UnfitError as error:
            log.error("%s: cannot be used (%s); the other devices do its jobs, until the server is started again", self._device, error)
        except Exception as error:  # the server says so at every request, rather than take what nobody works on
            desk.fault = f"the server has stopped to work ({type(error).__name__}: {error}): start it again"
            log.exception("%s", desk.fault)
        finally:
            self._warm.close()

    def _warm_up(self) -> None:
        """Load the first model before somebody waits for it; what is wrong with it is told by the jobs that need it.

        Raises:
            _UnfitError: the device cannot, and there are others.
        """
        served = next(iter(self._models.values()))
        crew = self._warm.of(served)
        log.info("loading %s", served.id)
        deadline = time.monotonic() + _WARM_SECONDS
        while not self._desk.stop.is_set() and self._desk.store.next() is None and time.monotonic() < deadline:
            event = crew.event(_POLL_SECONDS)
            if event is None:
                continue
            worker, message = event
            if message is not None and "ready" in message:
                crew.welcome(worker, message)
                log.info("%s is ready", served.id)
            else:
                why = error_from_json(message["refused"]) if message is not None else _DiedError(how_it_ended(worker.code()))
                if message is not None:  # one that dies may do so for the memory that others take: the first job tries twice more
                    self._leave_if_unfit(why)
                log.error("%s cannot be used: %s", served.id, why)
                self._warm.dismiss(served.id)
            return

    def _leave_if_unfit(self, why: Exception) -> None:
        """What a device is the cause of is no fault of the jobs, as long as there are others to do them.

        Args:
            why: a model could not be loaded; a faulty model is told as `ModelError`.

        Raises:
            _UnfitError: the device is given up.
        """
        if isinstance(why, (ConfigError, MemoryError, _DiedError)) and self._desk.leave(self._wake):
            raise _UnfitError(str(why))

    def _do(self, job: Job) -> None:
        log.info("job %s: begins", job.id)
        start, self._asked_to_cancel = time.monotonic(), None
        served = self._models.get(job.model)
        try:
            if served is None or served.identity != job.identity:
                raise ConfigError(f"the scan was sent for {job.model} {job.version}, {change_of(served, job)}: send it again")
            ended = replace(job, state="done", **self._made(job, served))
        except _UnfitError:
            self._desk.back(job)
            self._desk.wake()
            raise
        except _GoneError as gone:
            if gone.state == "queued":
                self._desk.back(job)
                return
            ended = replace(job, state="cancelled" if gone.state == "cancelled" else "failed", error=str(gone))
        except SegpipeError as error:
            ended = replace(job, state="failed", error=self._plain(str(error), job))
        self._desk.finish(ended, time.monotonic() - start)

    def _made(self, job: Job, served: Served) -> dict[str, Any]:
        """What becomes of a job: results, warnings and volumes.

        Raises:
            SegpipeError: it has failed.
            _GoneError: it is not to be gone on with.
            _UnfitError: the device cannot do it.
        """
        if job.tries >= _STARTS:
            raise ConfigError(f"{job.name}: the server has ended {job.tries} times while it was at this scan; it is not begun again")
        why = ""
        for tries in range(1, _TRIES + 1):
            self._desk.note(job.id, Progress("loading"))
            try:
                return self._asked(job, served)
            except _DiedError as died:
                if self._began is None and tries == _TRIES:
                    self._leave_if_unfit(died)
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
                why = error_from_json(message["refused"])
                self._leave_if_unfit(why)
                self._warm.dismiss(served.id)
                raise why
        wanted = {"id": job.id, "files": list(job.files), "tta": job.tta, "most_bytes": self._limits.unpacked_bytes}
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
            self._desk.note(id, Progress(values[0], share))
        elif word == "windows":
            done, total = values
            self._desk.note(id, Progress("network", 0.1 + 0.85 * done / max(1, total)))

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
        if self._desk.stop.is_set():
            raise _GoneError("queued")
        limit = self._limits.timeout
        if limit and self._began is not None and time.monotonic() - self._began > limit:
            self._warm.dismiss(job.model)
            raise _GoneError("failed", f"was not done after {limit:g} s: it hangs or is large; the server's --timeout may be longer")
        if not self._desk.is_cancelled(job.id):
            return
        for worker in crew.workers:
            worker.send({"cancel": job.id})
        self._desk.note(job.id, Progress("cancelling"))
        self._asked_to_cancel = self._asked_to_cancel or time.monotonic()
        if time.monotonic() - self._asked_to_cancel > _PATIENCE_SECONDS or not any(worker.ready for worker in crew.workers):
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
            text = text.replace(str(self._desk.jobs / job.id / name), job.name)
        return " ".join(text.replace(str(self._desk.jobs / job.id), "the job").replace(str(self._desk.jobs), "the server's folder").split())
