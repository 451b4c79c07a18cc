"""The cluster as the command sees it: nodes, copies of the networks, and jobs. Ray itself is in another process (see `bridge`)."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from segpipe.errors import ConfigError
from segpipe.inference.cluster.faults import Lost
from segpipe.inference.cluster.room import Node, Seat, Wish, in_flight, no_room, plan_seats, wants_gpu
from segpipe.inference.crew import Crew, Worker
from segpipe.inference.messages import Message, error_from_json

log = logging.getLogger(__name__)

_ALIKE = "give --runtime torch --precision fp32, and leave out --compile"
"""What makes unlike machines compute alike."""
_STARTS = 3
"""Copies of the networks that may end before they are ready while no other one is."""
_LEAVE_SECONDS = 10.0
"""For the cluster to hear that the command goes."""


@dataclass(eq=False)
class Copy:
    """One copy of the networks.

    Attributes:
        number: its own.
        ready: it has loaded the models.
        jobs: numbers of those that it has been given, the one that it is at first.
    """

    number: int
    seat: Seat
    ready: bool = False
    jobs: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Event:
    """Something that a job has said.

    Attributes:
        said: a message; None at its end.
        lost: why it will never say anything again.
    """

    job: int
    said: Message | None = None
    lost: Lost | None = None


class Fleet:
    """Copies of the networks on a cluster, one at each seat that there is, and jobs.

    Args:
        crew: its one worker speaks to the cluster.
        device: auto, cpu or cuda.

    Attributes:
        alive: the cluster can be spoken to.
        copies: of the networks, loading ones too.
        model: what the first one that was ready has told of the models; None before.
    """

    def __init__(self, crew: Crew, wish: Wish, device: str) -> None:
        self._crew, self._wish, self._device = crew, wish, device
        self._numbers = itertools.count(1)
        self._nodes: list[Node] = []
        self._loading: dict[int, Copy] = {}
        self._given_up: set[tuple[str, int]] = set()
        self._failed_starts = 0
        self._told: set[str] = set()
        self.alive = True
        self.copies: list[Copy] = []
        self.model: Message | None = None

    @property
    def ready(self) -> list[Copy]:
        """The copies that scans may be given to."""
        return [copy for copy in self.copies if copy.ready]

    @property
    def room(self) -> int:
        """How many scans may be on their way at a time."""
        spare = sum(node.cpus for node in self._nodes) - sum(copy.seat.cpus for copy in self.copies)
        return in_flight(len(self.ready), spare)

    @property
    def places(self) -> int:
        """How many nodes have networks."""
        return len({copy.seat.node.id for copy in self.copies})

    def submit(self, what: str, **told: Any) -> int:
        """Give the cluster a job: `read`, `compute` or `write`; returns its number."""
        job = next(self._numbers)
        self._say({what: {"job": job, **told}})
        return job

    def drop(self, job: int) -> None:
        """What a job has left in the cluster's memory is not needed any more."""
        self._say({"drop": job})

    def cancel(self, job: int) -> None:
        """End the process of a job that reads or writes."""
        self._say({"cancel": job})

    def dismiss(self, copy: Copy) -> None:
        """End a copy of the networks; another one takes its seat."""
        if copy in self.copies:
            self.copies.remove(copy)
            self._say({"end": copy.number})
            self._man()

    def event(self, seconds: float) -> Event | None:
        """The next thing that a job has said; None when none says anything for so long. The fleet's own affairs are seen to.

        Raises:
            ConfigError: the cluster is gone, or has no room, or its nodes do not agree.
            ModelError: a node cannot load the models.
        """
        end = time.monotonic() + seconds
        while True:
            heard = self._crew.event(max(0.0, end - time.monotonic()))
            if heard is None:
                return None
            event = self._hear(*heard)
            if event is not None:
                return event

    def close(self) -> None:
        """Leave the cluster, which ends whatever still runs there for this command."""
        self._say({"leave": True})
        end = time.monotonic() + _LEAVE_SECONDS
        while self._crew.workers and time.monotonic() < end:
            heard = self._crew.event(max(0.0, end - time.monotonic()))
            if heard is not None and heard[1] is None:
                break
        self._crew.close()

    def _say(self, message: Message) -> None:
        for bridge in self._crew.workers:
            bridge.send(message)

    def _hear(self, bridge: Worker, message: Message | None) -> Event | None:
        if message is None:
            code = bridge.code()
            self._crew.dismiss(bridge)
            self.alive = False
            what = "is gone" if self._nodes else "could not be joined"
            raise ConfigError(f"the Ray cluster {what} (exit code {code} of what speaks to it): see `ray status`; the same command goes on")
        if "refused" in message:
            self.alive = False
            raise error_from_json(message["refused"])
        if "nodes" in message:
            self._look([Node(**node) for node in message["nodes"]])
            return None
        event = _event(message)
        if event.said is not None and "log" in event.said:
            self._log(event.said["log"])
            return None
        if event.said is not None and "refused" in event.said:
            raise error_from_json(event.said["refused"])
        if event.job in self._loading:
            self._hear_of_copy(self._loading[event.job], event)
            return None
        return event

    def _log(self, records: Sequence[tuple[str, int, str]]) -> None:
        """As this process's own; what every node says once, once."""
        for name, level, text in records:
            if level > logging.INFO or text not in self._told:
                logging.getLogger(name).log(level, "%s", text)
            if level <= logging.INFO:
                self._told.add(text)

    def _look(self, nodes: Sequence[Node]) -> None:
        """See which nodes there are, and man the seats that are free.

        Raises:
            ConfigError: at first sight there is no room at all.
        """
        first = not self._nodes
        self._nodes = list(nodes)
        if first:
            self._wish = replace(self._wish, gpu=wants_gpu(self._device, nodes))
            seats = plan_seats(nodes, self._wish)
            if not seats:
                raise ConfigError(no_room(self._wish))
            log.info("%s", _plan(nodes, seats, self._wish))
        self._man()

    def _man(self) -> None:
        taken = {(copy.seat.node.id, copy.seat.number) for copy in self.copies} | self._given_up
        for seat in plan_seats(self._nodes, self._wish):
            used = sum(copy.seat.cpus for copy in self.copies if copy.seat.node.id == seat.node.id)
            if (seat.node.id, seat.number) not in taken and used + seat.cpus < seat.node.cpus:
                self._start(seat)

    def _start(self, seat: Seat) -> None:
        copy = Copy(next(self._numbers), seat)
        self.copies.append(copy)
        job = self.submit("start", actor=copy.number, node=seat.node.id, cpus=seat.cpus, gpu=seat.gpu)
        self._loading[job] = copy

    def _hear_of_copy(self, copy: Copy, event: Event) -> None:
        """What a copy says while it loads the models."""
        if event.said is not None and "end" in event.said:
            self._agree(copy, event.said["end"])
            copy.ready, self._failed_starts = True, 0
        elif event.said is None:
            del self._loading[event.job]
            if not copy.ready and copy in self.copies:
                self._did_not_start(copy, event.lost or Lost("process", "ended"))

    def _agree(self, copy: Copy, end: Message) -> None:
        """Every copy must be of the same model and compute in the same way, or a scan would look as the node does that it met.

        Raises:
            ConfigError: naming two nodes.
        """
        told = {key: end[key] for key in ("ready", "passes")}
        if self.model is None:
            self.model = {**told, "name": copy.seat.node.name}
        for key in ("sha256", "options"):
            here, there = told["ready"][key], self.model["ready"][key]
            if here != there:
                what = "another file at the model's path" if key == "sha256" else "other options"
                cure = "copy the file to a disk that all share" if key == "sha256" else _ALIKE
                raise ConfigError(f"node {copy.seat.node.name} has {what} ({here}) than node {self.model['name']} ({there}): {cure}")

    def _did_not_start(self, copy: Copy, why: Lost) -> None:
        self.copies.remove(copy)
        if why.kind == "place":  # the next look at the nodes finds another one
            return
        if why.kind == "fault":
            raise ConfigError(why.how)
        self._failed_starts += 1
        if not self.ready and self._failed_starts >= _STARTS:
            raise ConfigError(f"the networks on node {copy.seat.node.name}: their process {why.how}; they had not loaded the model yet")
        if self.ready:
            self._given_up.add((copy.seat.node.id, copy.seat.number))
            log.warning("the networks on node %s: their process %s; %d go(es) on", copy.seat.node.name, why.how, len(self.copies))
        self._man()


def _event(message: Message) -> Event:
    if "died" in message:
        return Event(message["of"], lost=Lost(**message["died"]))
    return Event(message["of"], message.get("said"))


def _plan(nodes: Sequence[Node], seats: Sequence[Seat], wish: Wish) -> str:
    """What was decided, in one line."""
    cores = sorted({seat.cpus for seat in seats})
    each = f"{cores[0]}" if len(cores) == 1 else f"{cores[0]} to {cores[-1]}"
    spare = sum(node.cpus for node in nodes) - sum(seat.cpus for seat in seats)
    fewer = f" ({wish.workers} were asked for; there is no room for more)" if wish.workers > len(seats) else ""
    gpu = "a GPU and " if wish.gpu else ""
    places = len({seat.node.id for seat in seats})
    networks = f"{len(seats)} cop{'y' if len(seats) == 1 else 'ies'} of the networks{fewer} on {places} node(s)"
    return f"Ray: {networks}, with {gpu}{each} core(s) each; {spare} core(s) read and write"
