"""A process that segments scans for `segpipe predict`: loads the model once, then takes scans until the command ends (see `messages`).

It ends when its command does: the system tells it so where it can (Linux), and everywhere the pipe from the command then closes.
"""

from __future__ import annotations

import ctypes
import json
import logging
import os
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, BinaryIO

from segpipe.errors import SegpipeError
from segpipe.inference.messages import Message, Order, error_to_json, send
from segpipe.inference.packing import row_from_json, row_to_json, scan_from_json
from segpipe.inference.table import Row

if TYPE_CHECKING:
    from segpipe.inference.pipeline import Pipeline

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Segment what the command orders, until it closes the pipe."""
    converse(lambda order, inbox, outbox: _serve(Order(**order), inbox, outbox))


def converse(serve: Callable[[Message, queue.Queue[Message], BinaryIO], None]) -> None:
    """Serve the command at the other end of standard input and output, until it closes them.

    Args:
        serve: given the order, what the command says from then on, and where to answer.
    """
    outbox = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no message
    inbox: queue.Queue[Message] = queue.Queue()
    threading.Thread(target=_listen, args=(sys.stdin.buffer, inbox), name="inbox", daemon=True).start()
    order = inbox.get()["order"]
    _end_with(order["parent"])
    try:
        serve(order, inbox, outbox)
    except BrokenPipeError:  # the command has gone
        os._exit(1)


def _listen(stream: BinaryIO, inbox: queue.Queue[Message]) -> None:
    for line in stream:
        inbox.put(json.loads(line))
    os._exit(0)


def _end_with(parent: int) -> None:
    """Be killed at the moment when `parent` ends: a decoder that hangs in C reads no pipe. Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it had ended before
            os._exit(1)


def _serve(order: Order, inbox: queue.Queue[Message], outbox: BinaryIO) -> None:
    talk = _Talk(outbox)
    _log_to(talk, order.level)
    try:
        from segpipe.inference.pipeline import Pipeline
        from segpipe.inference.serve import make_segmenter

        segmenter, ready = make_segmenter(order)
        pipeline = Pipeline(segmenter, side_by_side=ready["ahead"])
        threading.Thread(target=talk.hear, args=(inbox, pipeline), name="hear", daemon=True).start()
        talk.send(ready)
        pipeline.run(lambda: True)
    except BrokenPipeError:
        raise
    except Exception as error:
        logging.getLogger(__name__).debug("%s", traceback.format_exc())
        talk.send({"refused": error_to_json(error, _out_of_memory(error))})
        threading.Event().wait()  # until the command closes the pipe, so that it reads this and not an end


def _out_of_memory(error: Exception) -> bool:
    if isinstance(error, SegpipeError):
        return False
    from segpipe.package.device import is_out_of_memory

    return is_out_of_memory(error)


class _Talk:
    """The worker's side of the pipe."""

    def __init__(self, outbox: BinaryIO) -> None:
        self._outbox = outbox
        self._lock = threading.Lock()
        self._jobs: dict[str, _Job] = {}

    def send(self, message: Message) -> None:
        """Say one thing; threads may call it at once."""
        with self._lock:
            send(self._outbox, message)

    def hear(self, inbox: queue.Queue[Message], pipeline: Pipeline) -> None:
        """Hand on what the command says, for ever."""
        try:
            while True:
                self._take_in(inbox.get(), pipeline)
        except Exception:  # a fault of the program: rather no worker than a deaf one
            traceback.print_exc()
            os._exit(1)

    def _take_in(self, message: Message, pipeline: Pipeline) -> None:
        if "segment" in message:
            job = _Job(message["segment"], self)
            self._jobs[job.scan.case] = job
            pipeline.give(job)
        elif "go" in message:
            case, may = message["go"]
            self._jobs[case].answers.put(may)
        else:
            self._give_back(message["return"], pipeline)

    def _give_back(self, case: str, pipeline: Pipeline) -> None:
        job = self._jobs.get(case)
        if job is not None and pipeline.take_back(job):
            self.last(case, {"returned": [case]})

    def last(self, case: str, message: Message) -> None:
        """Say how a scan has ended."""
        del self._jobs[case]
        self.send(message)


class _Job:
    """One scan; what becomes of it is said to the command. See `pipeline.Job`."""

    def __init__(self, wanted: Message, talk: _Talk) -> None:
        self.scan, self.before = scan_from_json(wanted["scan"]), row_from_json(wanted["before"])
        self.followed: bool = wanted["followed"]
        self.answers: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._talk = talk

    def mark(self, row: Row) -> None:
        from segpipe.inference.segment import LeaseLostError

        self._talk.send({"mark": row_to_json(row)})
        if not self.answers.get():
            raise LeaseLostError

    def told(self, done: int, total: int) -> None:
        self._talk.send({"windows": [self.scan.case, done, total]})

    def stage(self, name: str) -> None:
        self._talk.send({"stage": [self.scan.case, name]})

    def end(self, row: Row | None) -> None:
        self._talk.last(self.scan.case, {"lost": [self.scan.case]} if row is None else {"end": row_to_json(row)})


class _Handler(logging.Handler):
    """Says every record to the command, which shows it as its own."""

    def __init__(self, talk: _Talk) -> None:
        super().__init__()
        self._talk = talk

    def emit(self, record: logging.LogRecord) -> None:
        self._talk.send({"log": [record.name, record.levelno, self.format(record)]})


def _log_to(talk: _Talk, level: int) -> None:
    """Libraries are heard in debugging alone."""
    own, root = logging.getLogger("segpipe"), logging.getLogger()
    own.setLevel(level)
    own.propagate = False
    handler = _Handler(talk)
    own.addHandler(handler)
    root.addHandler(handler if level <= logging.DEBUG else logging.NullHandler())
    logging.captureWarnings(True)
    logging.getLogger("nibabel.global").setLevel(logging.CRITICAL)  # brings a handler of its own
