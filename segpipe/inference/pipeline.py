"""The stages of several scans side by side: while the networks are at one, the next is read and the one before is written.

The networks stay on the thread that loaded them, where they are warm and which signals reach. One thread reads and prepares, one restores
what the networks say, and one writes: were the last two one, the networks would wait for every label map to be written, because one block
at most waits to be restored. One scan at most is prepared ahead, and three at most are in hand, so that memory hardly grows. Each goes
through the very code that it goes through alone: what else runs changes nothing in its label map.

Networks that fill every core of a processor by themselves are only slowed down by what runs beside them: there one scan follows the other.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import Protocol

import torch

from segpipe.cores import available_cores
from segpipe.inference.gather import Examination
from segpipe.inference.held import MOST_IN_HAND
from segpipe.inference.lane import Lane, Task
from segpipe.inference.predictor import Part, Predictor
from segpipe.inference.segment import Attempt, LeaseLostError, Segmenter
from segpipe.inference.table import Row

log = logging.getLogger(__name__)

_POLL_SECONDS = 0.5
"""Between two questions for more scans while nothing else happens."""


def side_by_side_pays(predictor: Predictor, cores: int = 0) -> bool:
    """Whether stages of several scans at once are quicker, and there is memory for them.

    Args:
        cores: of the processor that this process may fill; 0: all that the system gives it.
    """
    if predictor.memory_gb:
        return False
    return predictor.device.type != "cpu" or torch.get_num_threads() < (cores or available_cores())


class Job(Protocol):
    """One scan, and what is told of it while it is segmented.

    Attributes:
        scan, before, followed: see `Segmenter.read`.
    """

    scan: Examination
    before: Row | None
    followed: bool

    def mark(self, row: Row) -> None:
        """See `segment.Mark`; on the thread that writes."""

    def told(self, done: int, total: int) -> None:
        """See `Predictor.predict`; on the thread of the networks."""

    def stage(self, name: str) -> None:
        """Which stage works on it from now on: read, network, restore or write; empty: none, it waits for its turn. On any thread."""

    def end(self, row: Row | None) -> None:
        """What became of it; None: another worker has it. On the thread that writes."""


class _Stopped(BaseException):
    """Another stage has failed for good."""


class Pipeline:
    """The stages for the scans of one segmenter.

    Args:
        side_by_side: False: one scan after the other on the thread of `run`, each taking the memory that it takes alone.
    """

    def __init__(self, segmenter: Segmenter, side_by_side: bool = True) -> None:
        self._segmenter, self._side_by_side = segmenter, side_by_side
        self._reader = Lane("reader", 0, self._fail)
        self._restorer = Lane("restorer", 1, self._fail)
        self._writer = Lane("writer", 1, self._fail)
        self._events: queue.SimpleQueue[Task] = queue.SimpleQueue()
        self._ready: deque[tuple[_Work, Attempt]] = deque()
        self._room = threading.Semaphore()  # for one scan that is prepared ahead
        self._may_read = threading.Event()  # not while one waits to be tried alone: others might come for ever
        self._may_read.set()
        self._lock = threading.Lock()
        self._ahead: list[_Work] = []  # those that no network has begun with
        self._in_hand: list[_Work] = []
        self._alone: deque[_Work] = deque()  # those for which there was too little memory beside others
        self._ending = False
        self._fault: BaseException | None = None

    @property
    def hungry(self) -> bool:
        """Whether it is time to give another scan: none waits for the networks, and few enough are in hand."""
        most = MOST_IN_HAND if self._side_by_side and not self._alone else 1
        return not self._ahead and len(self._in_hand) < most

    def give(self, job: Job) -> None:
        """Take up a scan; any thread may do so, before `run` too."""
        work = _Work(job)
        with self._lock:
            self._ahead.append(work)
            self._in_hand.append(work)
            if len(self._in_hand) > 1:
                for one in self._in_hand:
                    one.beside = True
        if self._side_by_side:
            self._reader.give(partial(self._read, work))
        else:
            self.soon(partial(self._in_turn, work))

    def take_back(self, job: Job) -> bool:
        """Give a scan up that no network has begun with; False: it is too late, and it will be told how it ends. On any thread."""
        with self._lock:
            found = [work for work in self._ahead if work.job is job]
            for work in found:
                self._ahead.remove(work)
                self._in_hand.remove(work)
        return bool(found)

    def soon(self, event: Task) -> None:
        """Have something done on the thread of `run`, after the block of logits that is being computed at the latest."""
        self._events.put(event)

    def run(self, feed: Callable[[], bool]) -> None:
        """Segment what is given.

        Whatever ends it, no thread is left, no file is half written, and scans whose networks were done are written, unless writing is
        what failed.

        Args:
            feed: called now and then to give the next scan, where the pipeline is `hungry`; False: nothing is left to wait for.

        Raises:
            ConfigError: the output cannot be written.
        """
        try:
            with self._threads():
                while feed():
                    self._happen(wait=not self._ready)
                    if self._ready:
                        self._begin(*self._ready.popleft(), feed)
                    elif self._alone:
                        self._again()
            self._check()
        except _Stopped:
            if self._fault is not None:
                raise self._fault from None

    @contextlib.contextmanager
    def _threads(self) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            stack.callback(self._note_the_last)
            for lane in (self._writer, self._restorer, self._reader) if self._side_by_side else ():  # closed the other way round
                lane.start()
                stack.callback(lane.close)
            try:
                yield
            finally:
                self._ending = True
                self._reader.drop()
                self._may_read.set()
                self._room.release()

    def _note_the_last(self) -> None:
        """What has ended while the threads did."""
        while (event := self._event(wait=False)) is not None:
            try:
                event()
            except Exception:  # what has stopped the call is told, not what follows from it
                log.debug("after the end", exc_info=True)

    def _fail(self, error: BaseException) -> None:
        """End it all because of what a thread has raised."""
        with self._lock:
            if self._fault is None:
                self._fault = error
        self.soon(_wake)

    def _check(self) -> None:
        if self._fault is not None:
            raise _Stopped

    def _event(self, wait: bool) -> Task | None:
        with contextlib.suppress(queue.Empty):
            return self._events.get(timeout=_POLL_SECONDS) if wait else self._events.get_nowait()
        return None

    def _happen(self, wait: bool) -> None:
        """Do what was to be done soon."""
        event = self._event(wait)
        while event is not None:
            event()
            event = self._event(wait=False)
        self._check()

    def _read(self, work: _Work) -> None:
        self._may_read.wait()
        self._room.acquire()
        with self._lock:
            work.begun = wanted = work in self._ahead and not self._ending
        if not wanted:
            self._room.release()
            return
        with work.at("read"):
            attempt = self._segmenter.read(work.job.scan, work.job.before, work.job.followed)
        if not attempt.reason:
            self.soon(partial(self._ready.append, (work, attempt)))
        elif self._is_taken(work):  # the networks are not kept waiting for another one
            self._writer.give(partial(self._write, work, attempt))

    def _is_taken(self, work: _Work) -> bool:
        """Let a scan wait for the networks no longer; False when it was taken back."""
        with self._lock:
            wanted = work in self._ahead
            if wanted:
                self._ahead.remove(work)
        self._room.release()
        self.soon(_wake)
        return wanted

    def _begin(self, work: _Work, attempt: Attempt, feed: Callable[[], bool]) -> None:
        if self._is_taken(work):
            feed()
            self._compute(work, attempt, feed)

    def _compute(self, work: _Work, attempt: Attempt, feed: Callable[[], bool]) -> None:
        with work.at("network"):
            for part in self._segmenter.compute(attempt, partial(self._told, work.job)):
                self._hand_on(work, partial(self._restore, work, attempt, part))
                del part  # while the next one is made
                self._happen(wait=False)
                feed()
        write = partial(self._write, work, attempt)  # once the last block is restored
        wide = attempt.ready is not None and attempt.ready.probabilities  # before the next one fills as much memory
        self._restorer.give(write if wide else partial(self._writer.give, write))

    def _told(self, job: Job, done: int, total: int) -> None:
        self._check()
        job.told(done, total)

    def _hand_on(self, work: _Work, task: Task) -> None:
        if not self._restorer.offer(task):
            with work.waiting():
                self._restorer.give(task)

    def _restore(self, work: _Work, attempt: Attempt, part: Part) -> None:
        with work.at("restore"):
            self._segmenter.restore(attempt, part)

    def _write(self, work: _Work, attempt: Attempt) -> None:
        try:
            with work.at("write"):
                row = self._segmenter.write(attempt, work.job.mark)
        except LeaseLostError:
            self._end(work, None)
            return
        if row is None and attempt.short_of_memory and work.beside and not work.alone:
            self._may_read.clear()
            log.warning("%s: too little memory for it beside other scans; it is tried again alone", work.job.scan.case)
            self.soon(partial(self._alone.append, work))
            return
        self._end(work, row or self._segmenter.failed(attempt))

    def _end(self, work: _Work, row: Row | None) -> None:
        with self._lock:
            self._in_hand.remove(work)
        work.job.end(row)
        self.soon(_wake)

    def _in_turn(self, work: _Work) -> None:
        if not self._ending and self._is_taken(work):
            self._all_stages(work)

    def _again(self) -> None:
        """Try one for which there was too little memory, once nothing else is at work."""
        with self._lock:
            at_work = [work for work in self._in_hand if work.begun and work not in self._alone]
        if at_work or not self._room.acquire(blocking=False):  # one is still being read
            return
        try:
            work = self._alone.popleft()
            work.alone = True
            self._all_stages(work)
        finally:
            self._room.release()
            if not self._alone:
                self._may_read.set()

    def _all_stages(self, work: _Work) -> None:
        with work.at("read"):
            attempt = self._segmenter.read(work.job.scan, work.job.before, work.job.followed)
        with work.at("network"):
            for part in self._segmenter.compute(attempt, work.job.told):
                self._restore(work, attempt, part)
                del part  # before the next one is made
        self._write(work, attempt)


def _wake() -> None:
    """Nothing but a reason to look around."""


class _Work:
    """Tells a job which stage is at it; the networks and the restoration may be at once."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.begun = False  # it is read, or has been
        self.beside = False  # others have been in hand with it
        self.alone = False  # it is tried with nothing beside it
        self._stages: list[str] = []
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def at(self, stage: str) -> Iterator[None]:
        """A stage works on it."""
        self._begin(stage)
        try:
            yield
        finally:
            self._end(stage)

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """The networks wait for blocks to be restored."""
        self._end("network")
        try:
            yield
        finally:
            self._begin("network")

    def _begin(self, stage: str) -> None:
        with self._lock:
            self._stages.append(stage)
            self.job.stage(stage)

    def _end(self, stage: str) -> None:
        with self._lock:
            self._stages.remove(stage)
            self.job.stage(self._stages[-1] if self._stages else "")
