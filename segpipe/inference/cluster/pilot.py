"""Brings every scan of a call through a cluster: read here, through the networks there, written elsewhere. The ledger is the command's own.

A scan whose process ends is tried again, after the others and with no other scan in networks on the same node; when that ends too it is set
aside as failed. A scan that only waited when a node was lost says nothing of itself, and starts again at once.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Literal

from segpipe.errors import ConfigError
from segpipe.inference.claims import Claim
from segpipe.inference.cluster.faults import Lost
from segpipe.inference.cluster.fleet import Copy, Event, Fleet
from segpipe.inference.cluster.flight import DOING, Flight
from segpipe.inference.engine import Work
from segpipe.inference.gather import Examination
from segpipe.inference.messages import Message
from segpipe.inference.packing import row_from_json, row_to_json, scan_to_json
from segpipe.inference.table import Row
from segpipe.io.alive import new_token
from segpipe.io.atomic import sweep

log = logging.getLogger(__name__)

_WAIT_SECONDS = 0.5
"""For a job to say something, before timeouts, arrivals and other calls are looked at again."""
_LOOK_SECONDS = 1.0
"""Between looks at scans that other calls are at."""
_TRIES = 2
"""A process may die of a scan once because another one took the memory."""
_FRESH_STARTS = 5
"""How often a scan that never began may start again before that counts as a crash, too."""
_AT_ONCE = 2
"""Scans that a copy of the networks has: the one in them, and the next one, which is brought to its node meanwhile."""
_END_SECONDS = 10.0
"""For processes that write to end, when the command ends."""
_FRESHEN_SECONDS = 3600.0


class Pilot:
    """Args:
    fleet: where the scans are segmented.
    level: of the log.
    """

    def __init__(self, fleet: Fleet, work: Work, level: int) -> None:
        self._fleet, self._work, self._level = fleet, work, level
        self._task, self._claims, self._more = work.task, work.claims, work.more
        self._out = work.task.out.absolute()
        self._probe = self._out / f".{new_token()}"
        self._flights: dict[int, Flight] = {}
        self._waiting: list[Flight] = []
        self._again: deque[Flight] = deque()
        self._last_look = 0.0
        self._next_touch = 0.0

    def run(self) -> None:
        """Until every scan of the claims has ended; with `more`, until an exception (a signal) ends it. Nobody writes afterwards.

        Raises:
            ConfigError: the output cannot be written, or the cluster is gone.
        """
        try:
            while self._claims.open or self._more is not None:
                self._touch()
                if self._more is not None:
                    self._add(self._more())
                self._hand_out()
                event = self._fleet.event(_WAIT_SECONDS)
                if event is not None and event.job in self._flights:
                    self._hear(self._flights[event.job], event)
                self._give_up()
        finally:
            self._land()

    def _add(self, scans: Sequence[Examination] | None) -> None:
        if scans is None:
            self._more = None
        else:
            self._claims.add(scans)

    def _touch(self) -> None:
        """Keep the file by which nodes know the output folder: what is old and hidden may be swept away."""
        if time.monotonic() >= self._next_touch:
            self._probe.touch()
            self._next_touch = time.monotonic() + _FRESHEN_SECONDS

    # ------------------------------------------------------------------------------------------------- what goes where

    def _hand_out(self) -> None:
        """Scans to read, as many as there is room for; those that are prepared, to the networks."""
        while len(self._flights) + len(self._waiting) < self._fleet.room:
            flight = self._next()
            if flight is None:
                break
            self._read(flight)
        for flight in list(self._waiting):
            copy = self._copy_for(flight)
            if copy is not None:
                self._waiting.remove(flight)
                self._compute(flight, copy)
        idle = not self._flights and not self._waiting and not self._again
        if idle and not self._claims.waiting and time.monotonic() - self._last_look >= _LOOK_SECONDS:
            self._last_look = time.monotonic()
            self._claims.look_again()

    def _next(self) -> Flight | None:
        if self._again:
            return self._again.popleft()
        claim = self._claims.next()
        if claim is not None:
            return self._flight(claim)
        suspects = sum(flight.alone for flight in self._under_way())
        if not self._claims.waiting and self._claims.dangerous and suspects < self._fleet.places:
            claim = self._claims.next_crashed()
            return self._flight(claim, alone=True) if claim is not None else None
        return None

    def _flight(self, claim: Claim, alone: bool = False) -> Flight:
        return Flight(claim, claim.before, new_token(), self._work.shown.parts(f"windows of {claim.scan.case}"), alone)

    def _under_way(self) -> Iterator[Flight]:
        yield from self._flights.values()
        yield from self._waiting

    def _copy_for(self, flight: Flight) -> Copy | None:
        """The copy of the networks that has least to do, on a node where no suspect is; for a suspect, on one where nothing is."""
        taken: dict[str, list[Flight]] = {}
        for other in self._flights.values():
            if other.copy is not None:
                taken.setdefault(other.copy.seat.node.id, []).append(other)
        free = []
        for copy in self._fleet.ready:
            others = taken.get(copy.seat.node.id, [])
            if len(copy.jobs) < _AT_ONCE and not (others if flight.alone else any(other.alone for other in others)):
                free.append(copy)
        return min(free, key=lambda copy: len(copy.jobs), default=None)

    def _read(self, flight: Flight) -> None:
        self._run(flight, "read", scan=_far(flight.scan), probe=str(self._probe), level=self._level)

    def _compute(self, flight: Flight, copy: Copy) -> None:
        flight.copy = copy
        seconds = dict(flight.seconds)
        self._run(flight, "compute", scan=_far(flight.scan), actor=copy.number, of=flight.parcel, seconds=seconds)
        copy.jobs.append(flight.job)

    def _write(self, flight: Flight, row: Row) -> None:
        told = {"row": row_to_json(row), "before": row_to_json(flight.claim.before), "token": flight.token}
        self._run(flight, "write", scan=_far(flight.scan), of=flight.parcel, probe=str(self._probe), level=self._level, **told)

    def _run(self, flight: Flight, stage: Literal["read", "compute", "write"], **told: object) -> None:
        flight.stage, flight.begun = stage, None
        flight.job = self._fleet.submit(stage, **told)
        self._flights[flight.job] = flight

    # -------------------------------------------------------------------------------------------------- what is heard

    def _hear(self, flight: Flight, event: Event) -> None:
        said = event.said
        if said is None:
            self._lost(flight, event.lost or Lost("process", "ended"))
        elif "begun" in said:
            flight.begun, flight.where = time.monotonic(), flight.copy.seat.node.name if flight.copy else said["begun"]
        elif "windows" in said:
            flight.told(*said["windows"])
        elif "end" in said:
            stage = flight.stage
            self._ended(flight)
            flight.given_up = ""  # it ended at the moment when it was given up
            {"read": self._was_read, "compute": self._was_computed, "write": self._was_written}[stage](flight, said["end"])

    def _ended(self, flight: Flight) -> None:
        """Its job has, one way or the other; what the job before has left is not needed any more."""
        del self._flights[flight.job]
        if flight.copy is not None and flight.job in flight.copy.jobs:
            flight.copy.jobs.remove(flight.job)
        if flight.begun is not None:
            flight.spent += time.monotonic() - flight.begun
        if flight.parcel:
            self._fleet.drop(flight.parcel)
        flight.parcel, flight.job, flight.begun, flight.copy = flight.job, 0, None, None

    def _was_read(self, flight: Flight, end: Message) -> None:
        flight.row, flight.seconds = row_from_json(end["row"]), end["seconds"]
        if end["reason"]:
            here = end["unseen"] and all(path.exists() for path in flight.scan.images)
            cure = f" (node {flight.where} does not see it: IN must lie on a disk that all nodes share)" if here else ""
            self._failed(flight, end["reason"] + cure)
            return
        flight.stage = "wait"
        self._waiting.append(flight)

    def _was_computed(self, flight: Flight, end: Message) -> None:
        if end["reason"] or flight.row is None:
            self._failed(flight, end["reason"])
            return
        started = self._task.started(flight.row, flight.claim.before)
        if not self._claims.mark(started):
            self._leave(flight)
            self._claims.lost(flight.scan.case)
            return
        flight.known = started
        self._write(flight, flight.row)

    def _was_written(self, flight: Flight, end: Message) -> None:
        row = row_from_json(end["row"])
        if row is None:
            self._failed(flight, end["reason"])
        else:
            self._leave(flight)
            self._claims.finish(row)

    # -------------------------------------------------------------------------------------------------- what goes wrong

    def _lost(self, flight: Flight, why: Lost) -> None:
        """Its job will never end: a process, or a node, or what it needs is gone."""
        if why.kind == "fault":
            raise ConfigError(f"{flight.scan.images[0]}: {why.how}")
        copy, stage, begun = flight.copy, flight.stage, flight.begun is not None
        self._ended(flight)
        if copy is not None and why.kind != "input":
            self._fleet.dismiss(copy)
        if stage == "write":
            self._clean(flight)
        if flight.given_up:
            self._failed(flight, flight.given_up)
        elif (why.kind == "process" and begun) or flight.fresh_starts >= _FRESH_STARTS:
            self._crashed(flight, f"{flight.scan.images[0]}: the process that {DOING[stage]} it on node {flight.where} {why.how}")
        else:
            self._start_again(flight)

    def _start_again(self, flight: Flight) -> None:
        if flight.parcel:
            self._fleet.drop(flight.parcel)
        flight.parcel, flight.stage, flight.spent = 0, "read", 0.0
        flight.fresh_starts += 1
        self._again.append(flight)

    def _crashed(self, flight: Flight, reason: str) -> None:
        if flight.claim.crashes + 1 < _TRIES:
            log.warning("%s; it is tried once more, after the others", reason)
            self._leave(flight)
            self._claims.crashed(flight.scan.case)
        else:
            self._failed(flight, f"{reason} (the {_TRIES}nd time)", set_aside=True)

    def _failed(self, flight: Flight, reason: str, set_aside: bool = False) -> None:
        log.warning("%s failed", flight.scan.case)
        self._leave(flight)
        row = self._task.failed(flight.row or self._task.row(flight.scan), flight.known, reason)
        self._claims.finish(row, set_aside)

    def _leave(self, flight: Flight) -> None:
        """The scan has ended for this call, or for now."""
        if flight.parcel:
            self._fleet.drop(flight.parcel)
            flight.parcel = 0
        self._work.shown.leave(flight.told)

    def _give_up(self) -> None:
        """On scans that take too long."""
        limit = self._work.timeout
        for flight in list(self._flights.values()) if limit else ():
            if flight.given_up or flight.begun is None or flight.spent + time.monotonic() - flight.begun <= limit:
                continue
            flight.given_up = f"{flight.scan.images[0]}: was not done after {limit:g} s: it hangs or is large; give a longer --timeout"
            if flight.copy is not None:
                self._fleet.dismiss(flight.copy)
            else:
                self._fleet.cancel(flight.job)

    # -------------------------------------------------------------------------------------------------- the end

    def _land(self) -> None:
        """End what is under way; when this returns nobody writes a file that another call may write."""
        writing = {flight.job: flight for flight in self._flights.values() if flight.stage == "write"}
        for job in [*writing, *(job for job, flight in self._flights.items() if flight.stage == "read")]:
            self._fleet.cancel(job)
        end = time.monotonic() + _END_SECONDS
        with contextlib.suppress(ConfigError):  # the cluster is gone, and whoever wrote with it
            while self._fleet.alive and any(job in self._flights for job in writing) and time.monotonic() < end:
                event = self._fleet.event(_WAIT_SECONDS)
                if event is not None and event.said is None:
                    self._flights.pop(event.job, None)
        self._fleet.close()
        for flight in writing.values():
            self._clean(flight)
        self._probe.unlink(missing_ok=True)

    def _clean(self, flight: Flight) -> None:
        sweep([(self._out / flight.scan.case).parent], over={flight.token})


def _far(scan: Examination) -> Message:
    """As another machine finds it."""
    slices = scan.slices and scan.slices.absolute()
    return scan_to_json(replace(scan, images=tuple(path.absolute() for path in scan.images), slices=slices))
