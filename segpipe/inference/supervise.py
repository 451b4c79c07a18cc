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
from segpipe.inference.held import Held
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
    timeout: seconds that a scan may be worked on, 0: any.
    more: called now and then for scans to be added, until it returns None; None: there are no more than were added.
    """

    task: Task
    crew: Crew
    claims: Claims
    shown: Board
    timeout: float = 0.0
    more: Callable[[], Sequence[Examination] | None] | None = None
    _alone: bool = False
    _failed_starts: int = 0
    _last_look: float = 0.0

    def run(self) -> None:
        """Until every scan of the claims has ended and `more` brings none; an exception (a signal) may end it before.

        Raises:
            ConfigError: the output cannot be written, or workers end before they are ready, or do not compute alike.
        """
        while self.claims.open or self.more is not None:
            if self.more is not None:
                self._add(self.more())
            self._hand_out()
            event = self.crew.event(_WAIT_SECONDS)
            if event is not None:
                self._hear(*event)
            self._give_up()

    def _add(self, scans: Sequence[Examination] | None) -> None:
        if scans is None:
            self.more = None
        else:
            self.claims.add(scans)

    def _hand_out(self) -> None:
        """A scan for each idle worker, and one to read meanwhile for each that is at one; workers for the scans."""
        if self._alone:
            return
        if self.claims.waiting:
            busy = sum(bool(worker.hands) for worker in self.crew.workers)
            self.crew.start(busy + self.claims.waiting)
        while (worker := self._hungry()) is not None and (claim := self.claims.next()) is not None:
            self._give(worker, claim)
        if any(worker.hands for worker in self.crew.workers):
            self._ask_back()
            return
        if time.monotonic() - self._last_look >= _LOOK_SECONDS and not self.claims.waiting:
            self._last_look = time.monotonic()
            self.claims.look_again()
        if not self.claims.waiting:
            self._try_alone()

    def _ask_back(self) -> None:
        """For workers that have nothing to do, scans that others have read and that wait behind another one."""
        waiting = [(worker, held) for worker in self.crew.workers if (held := worker.hands.behind) is not None]
        asked = sum(held.asked for _, held in waiting)
        for worker, held in [pair for pair in waiting if not pair[1].asked][: max(0, len(self._idle()) - asked)]:
            held.asked = True
            worker.send({"return": held.claim.scan.case})

    def _hungry(self) -> Worker | None:
        """The worker that is to have the next scan."""
        idle = self._idle()
        if idle:
            return idle[0]
        if not self._read_ahead:
            return None
        return next((worker for worker in self.crew.workers if worker.ready and worker.hands.room), None)

    @property
    def _read_ahead(self) -> bool:
        """Whether a worker may have a scan while it is at another one: the last scans go to whoever is idle first."""
        return self.crew.ahead and self.claims.waiting >= len(self.crew.workers)

    def _idle(self) -> list[Worker]:
        return [worker for worker in self.crew.workers if worker.ready and not worker.hands]

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
        worker.hands.take(claim, self.crew.heard if worker.hands else time.monotonic())
        wanted = {"scan": scan_to_json(claim.scan), "before": row_to_json(claim.before), "followed": not self._alone and self._read_ahead}
        worker.send({"segment": wanted})

    def _hear(self, worker: Worker, message: Message | None) -> None:
        worker.hands.count(self.crew.heard)
        if message is None:
            self._died(worker)
        elif "ready" in message:
            self._agree(message["ready"]["options"])
            self.crew.welcome(worker, message)
        elif "refused" in message:
            raise error_from_json(message["refused"])
        elif "mark" in message or "end" in message:
            self._hear_row(worker, message)
        else:
            self._hear_of_scan(worker, message)

    def _agree(self, options: str) -> None:
        """Every worker computes as the first one, of which the table tells; compiling may fail in one of them alone.

        Raises:
            ConfigError: it does not.
        """
        if options != self.task.facts.options:
            raise ConfigError(
                f"a worker computes otherwise ({options}) than the first one ({self.task.facts.options}): leave out --compile, "
                "and give --runtime torch --precision fp32"
            )

    def _hear_row(self, worker: Worker, message: Message) -> None:
        row = row_from_json(message.get("mark") or message.get("end"))
        held = worker.hands.get(row.case) if row is not None else None
        if row is None or held is None:
            return
        if "end" in message:
            self._leave(worker, held)
            self.claims.finish(row)
            return
        may = self.claims.mark(row)
        held.known = row if may else held.known
        worker.send({"go": [row.case, may]})

    def _hear_of_scan(self, worker: Worker, message: Message) -> None:
        [(word, (case, *values))] = message.items()
        held = worker.hands.get(case)
        if held is None:
            return
        if word == "stage":
            held.enter(*values)
        elif word == "windows":
            held.told = held.told or self.shown.parts(f"windows of {case}")
            held.told(*values)
        elif word == "lost":
            self._leave(worker, held)
            self.claims.lost(case)
        elif word == "returned":
            self._leave(worker, held)
            self.claims.give_back(case)

    def _leave(self, worker: Worker, held: Held) -> None:
        """A worker's scan has ended, one way or the other."""
        if held.told is not None:
            self.shown.leave(held.told)
        worker.hands.leave(held)
        self._alone = False

    def _end(self, worker: Worker) -> list[Held]:
        """End a worker, if it has not ended by itself, before anybody else may write what it was to write; what it had."""
        self.crew.dismiss(worker)
        had = worker.hands.all
        for held in had:
            self._leave(worker, held)
        sweep({(self.task.out / held.claim.scan.case).parent for held in had})
        return had

    def _died(self, worker: Worker) -> None:
        how, had = how_it_ended(worker.code()), self._end(worker)
        if not had:
            if not worker.ready:
                self._did_not_start(how)
            return
        begun = [held for held in had if held.last] or had
        self._give_back([held for held in had if held not in begun])
        again = [held for held in begun if held.claim.crashes + 1 < _TRIES]
        if again:
            each = "it is tried once more, alone," if len(again) == 1 else "each of them is tried once more, alone,"
            log.warning("%s; %s after the others", _blamed(again, how), each)
        for held in again:
            self.claims.crashed(held.claim.scan.case)
        for held in begun:
            if held not in again:
                self._fail(held, f"{_blamed([held], how)} (the {_TRIES}nd time, alone)", set_aside=True)

    def _give_back(self, held: Sequence[Held]) -> None:
        """What was not at fault is the next to be done, in the order in which it was given."""
        for one in reversed(held):
            self.claims.give_back(one.claim.scan.case)

    def _fail(self, held: Held, reason: str, set_aside: bool = False) -> None:
        log.warning("%s failed", held.claim.scan.case)
        self.claims.finish(self.task.failed(self.task.row(held.claim.scan), held.known, reason), set_aside)

    def _did_not_start(self, how: str) -> None:
        """Go on with those that are there: the memory may not suffice for more."""
        self._failed_starts += 1
        if not self.crew.workers and self._failed_starts >= _STARTS:
            raise ConfigError(f"a worker {how}: it had not loaded the model yet")
        self.crew.most = max(1, len(self.crew.workers))
        log.warning("a worker %s; it had not loaded the model yet: %d go(es) on", how, self.crew.most)

    def _give_up(self) -> None:
        """On scans that were worked on for too long."""
        if not self.timeout:
            return
        for worker in list(self.crew.workers):
            worker.hands.count(self.crew.heard)
            if any(held.seconds > self.timeout for held in worker.hands.all):
                had = self._end(worker)
                self._give_back([held for held in had if held.seconds <= self.timeout])
                for held in had:
                    if held.seconds > self.timeout:
                        self._fail(held, self._hangs(held))

    def _hangs(self, held: Held) -> str:
        where = f" (last in the stage '{held.last}')" if held.last else ""
        it = f"was not done after {self.timeout:g} s of work{where}: it hangs or is large; give a longer --timeout"
        return f"{held.claim.scan.images[0]}: {it}"


def _blamed(held: Sequence[Held], how: str) -> str:
    """Whom a worker has died of."""
    images = ", ".join(str(one.claim.scan.images[0]) for one in held)
    return f"{images}: the worker that segmented {'it' if len(held) == 1 else 'them'} {how}"
