"""Segment the scans of a call with worker processes, none of which can stop the call: not by hanging, not by being killed."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from segpipe.errors import ConfigError
from segpipe.inference.claims import Claim, Claims
from segpipe.inference.crew import Crew, Worker, how_it_ended
from segpipe.inference.gather import Examination
from segpipe.inference.messages import Message, error_from_json
from segpipe.inference.packing import row_from_json, row_to_json, scan_to_json
from segpipe.inference.task import Task
from segpipe.io.atomic import sweep
from segpipe.progress import Board

log = logging.getLogger(__name__)

_WAIT_SECONDS = 0.5
"""For a worker to say something, before timeouts, arrivals and other calls are looked at again."""
_LOOK_SECONDS = 1.0
"""Between looks at scans that other calls are at."""
_STARTS = 3
"""Workers that may end before they are ready while no other one is."""
_TRIES = 2
"""A worker may die of a scan once because another one took the memory; it is tried again alone."""


@dataclass
class Supervisor:
    """Attributes:
    task: what is asked of every scan.
    timeout: seconds that a scan may take, 0: any.
    more: called now and then for scans to be added; None: there are no more than were added.
    """

    task: Task
    crew: Crew
    claims: Claims
    shown: Board
    timeout: float = 0.0
    more: Callable[[], Sequence[Examination]] | None = None
    _alone: bool = False
    _failed_starts: int = 0
    _last_look: float = 0.0

    def run(self) -> None:
        """Until every scan of the claims has ended; with `more`, until an exception (a signal) ends it.

        Raises:
            ConfigError: the output cannot be written, or workers end before they are ready.
        """
        while self.claims.open or self.more is not None:
            if self.more is not None:
                self.claims.add(self.more())
            self._hand_out()
            event = self.crew.event(_WAIT_SECONDS)
            if event is not None:
                self._hear(*event)
            self._give_up()

    def _hand_out(self) -> None:
        """A scan for each idle worker; workers for the scans."""
        if self._alone:
            return
        if self.claims.waiting:
            busy = sum(worker.claim is not None for worker in self.crew.workers)
            self.crew.start(busy + self.claims.waiting)
        for worker in self._idle():
            claim = self.claims.next()
            if claim is None:
                break
            self._give(worker, claim)
        if any(worker.claim is not None for worker in self.crew.workers):
            return
        if time.monotonic() - self._last_look >= _LOOK_SECONDS and not self.claims.waiting:
            self._last_look = time.monotonic()
            self.claims.look_again()
        if not self.claims.waiting:
            self._try_alone()

    def _idle(self) -> list[Worker]:
        return [worker for worker in self.crew.workers if worker.ready and worker.claim is None]

    def _try_alone(self) -> None:
        """Give a scan that a worker has died of to one worker, the others having ended."""
        if not self.claims.dangerous:
            return
        self.crew.start(1)
        idle = self._idle()
        if not idle:
            return
        claim = self.claims.next_crashed()
        if claim is None:
            return
        for other in [worker for worker in self.crew.workers if worker is not idle[0]]:
            self.crew.dismiss(other)
        self._alone = True
        self._give(idle[0], claim)

    def _give(self, worker: Worker, claim: Claim) -> None:
        worker.claim, worker.known, worker.since = claim, claim.before, time.monotonic()
        worker.told = self.shown.parts(f"windows of {claim.scan.case}")
        worker.send({"segment": {"scan": scan_to_json(claim.scan), "before": row_to_json(claim.before)}})

    def _hear(self, worker: Worker, message: Message | None) -> None:
        if message is None:
            self._died(worker)
        elif "ready" in message:
            worker.ready = True
        elif "refused" in message:
            raise error_from_json(message["refused"])
        elif worker.claim is not None:
            self._hear_of_scan(worker, worker.claim, message)

    def _hear_of_scan(self, worker: Worker, claim: Claim, message: Message) -> None:
        if "windows" in message and worker.told is not None:
            worker.told(*message["windows"])
        elif "mark" in message:
            row = row_from_json(message["mark"])
            may = row is not None and self.claims.mark(row)
            worker.known = row if may else worker.known
            worker.send({"go": may})
        elif "lost" in message:
            self._leave(worker)
            self.claims.lost(claim.scan.case)
        elif "end" in message:
            row = row_from_json(message["end"])
            self._leave(worker)
            if row is not None:
                self.claims.finish(row)

    def _leave(self, worker: Worker) -> None:
        """The worker's scan has ended, one way or the other."""
        if worker.told is not None:
            self.shown.leave(worker.told)
        worker.claim, worker.told, self._alone = None, None, False

    def _died(self, worker: Worker) -> None:
        code, claim, known = worker.code(), worker.claim, worker.known
        self.crew.dismiss(worker)
        if claim is None:
            if not worker.ready:
                self._did_not_start(how_it_ended(code))
            return
        self._leave(worker)
        self._clean(claim)
        reason = f"{claim.scan.images[0]}: the worker that segmented it {how_it_ended(code)}"
        if claim.crashes + 1 < _TRIES:
            log.warning("%s; it is tried once more, alone, after the others", reason)
            self.claims.crashed(claim.scan.case)
            return
        log.warning("%s failed", claim.scan.case)
        row = self.task.failed(self.task.row(claim.scan), known, f"{reason} (the {_TRIES}nd time, alone)")
        self.claims.finish(row, set_aside=True)

    def _did_not_start(self, how: str) -> None:
        """Go on with those that are there: the memory may not suffice for more."""
        self._failed_starts += 1
        if not self.crew.workers and self._failed_starts >= _STARTS:
            raise ConfigError(f"a worker {how}: it had not loaded the model yet")
        self.crew.most = max(1, len(self.crew.workers))
        log.warning("a worker %s; it had not loaded the model yet: %d go(es) on", how, self.crew.most)

    def _give_up(self) -> None:
        """On scans that take too long."""
        if not self.timeout:
            return
        for worker in list(self.crew.workers):
            claim = worker.claim
            if claim is not None and time.monotonic() - worker.since > self.timeout:
                known = worker.known
                self.crew.dismiss(worker)
                self._leave(worker)
                self._clean(claim)
                log.warning("%s failed", claim.scan.case)
                hangs = f"{claim.scan.images[0]}: was not done after {self.timeout:g} s: it hangs or is large; give a longer --timeout"
                self.claims.finish(self.task.failed(self.task.row(claim.scan), known, hangs))

    def _clean(self, claim: Claim) -> None:
        sweep([(self.task.out / claim.scan.case).parent])
