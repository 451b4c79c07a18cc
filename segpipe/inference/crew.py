"""The worker processes of a command: started, spoken to, and ended with it."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, BinaryIO, cast

from segpipe.inference.held import Hands
from segpipe.inference.messages import Message, send

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

log = logging.getLogger(__name__)

_CODE = "import sys; sys.path[:] = {path!r}; from {program} import main; main()"
"""Not `-m`, which would import a folder `segpipe` of the current directory before the program that was started."""
WORKER = "segpipe.inference.worker"


class Worker:
    """One process.

    Attributes:
        ready: it has loaded the model.
        hands: the scans that it has.
    """

    def __init__(self, order: DataclassInstance, events: queue.Queue[_Event], program: str = WORKER) -> None:
        self.ready = False
        self.hands = Hands()
        self._events = events
        self._process = subprocess.Popen(
            [sys.executable, "-c", _CODE.format(path=sys.path, program=program)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # so that Ctrl-C in a terminal reaches the command alone, which then ends in order
        )
        self._reader = threading.Thread(target=self._read, name="worker", daemon=True)
        self._reader.start()
        self.send({"order": {**dataclasses.asdict(order), "parent": os.getpid()}})

    @property
    def pid(self) -> int:
        """The number of its process."""
        return self._process.pid

    def send(self, message: Message) -> None:
        """Say something; a worker that has ended hears nothing, and its end is an event of its own."""
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                send(cast(BinaryIO, self._process.stdin), message)

    def end(self) -> int:
        """Kill it, if it still runs; returns its exit code, negative for the signal that ended it."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        code = self._process.wait()
        self._reader.join()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        return code

    def code(self) -> int:
        """The exit code of a worker that has closed its pipe."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_LAST_SECONDS)
        return self.end()

    def _read(self) -> None:
        if self._process.stdout is None:
            return
        for line in self._process.stdout:
            with contextlib.suppress(ValueError):  # the last line of a process that was killed while it spoke
                self._events.put((self, json.loads(line), time.monotonic()))
        self._events.put((self, None, time.monotonic()))


_LAST_SECONDS = 5.0
"""Between the end of a process's pipe and its own."""
_Event = tuple[Worker, Message | None, float]
"""What a worker has said, and when, in seconds of `time.monotonic`."""


class Crew:
    """Workers with the same order.

    Args:
        most: workers at a time.
        program: module whose `main` each runs.

    Attributes:
        heard: until when, in seconds of `time.monotonic`, everything was heard that workers have said.
        ahead: whether a worker may have the next scan while it is at one, as the workers say.
    """

    def __init__(self, order: DataclassInstance, most: int, program: str = WORKER) -> None:
        self._order = order
        self._program = program
        self.most = most
        self.heard = time.monotonic()
        self.ahead = True
        self.workers: list[Worker] = []
        self._said: set[tuple[str | int, ...]] = set()
        self._events: queue.Queue[_Event] = queue.Queue()

    def start(self, count: int) -> None:
        """Have `count` workers, as far as `most` allows."""
        while len(self.workers) < min(count, self.most):
            self.workers.append(Worker(self._order, self._events, self._program))

    def event(self, seconds: float) -> tuple[Worker, Message | None] | None:
        """The next thing that a worker has said, None for its end; None when nobody says anything for so long.

        Messages of workers that were ended are passed over, log messages are logged.
        """
        end = time.monotonic() + seconds
        while True:
            try:
                worker, message, self.heard = self._events.get(timeout=max(0.0, end - time.monotonic()))
            except queue.Empty:
                self.heard = time.monotonic()
                return None
            if worker not in self.workers:
                continue
            if message is None or "log" not in message:
                return worker, message
            if not self._has_said(worker, *message["log"]):
                name, level, text = message["log"]
                logging.getLogger(name).log(level, "%s", text)

    def _has_said(self, worker: Worker, *words: str | int) -> bool:
        """Whether another worker has said the same while it loaded the model, as each does."""
        if worker.ready:
            return False
        said = words in self._said
        self._said.add(words)
        return said

    def welcome(self, worker: Worker, ready: Message) -> None:
        """A worker has loaded the model.

        Args:
            ready: what it has said.
        """
        worker.ready = True
        self.ahead = ready["ahead"]

    def dismiss(self, worker: Worker) -> None:
        """End one of them."""
        self.workers.remove(worker)
        worker.end()

    def close(self) -> None:
        """End them all."""
        while self.workers:
            self.dismiss(self.workers[-1])


@contextlib.contextmanager
def crew_of(order: DataclassInstance, most: int, program: str = WORKER) -> Iterator[Crew]:
    """A crew whose first worker starts at once, and of whom none is left behind; see `Crew`."""
    crew = Crew(order, most, program)
    try:
        crew.start(1)
        yield crew
    finally:
        crew.close()


def how_it_ended(code: int) -> str:
    """The exit code of a worker, as a cause and a cure."""
    if code == -signal.SIGKILL:
        return "was killed (SIGKILL), most often by the system because the memory was full: lower --batch or --workers"
    if code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        return f"crashed ({name}), as a damaged file may let a decoder do: copy or export the scan again"
    return f"ended by itself (exit code {code}): run again with --debug"
