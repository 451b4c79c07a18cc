"""A cluster in this process: the stages as the nodes run them, and their accidents on demand."""

from __future__ import annotations

import dataclasses
import itertools
import pickle
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segpipe import __version__
from segpipe.geometry.grid import Grid, Volume
from segpipe.inference.cluster.faults import Lost
from segpipe.inference.cluster.fleet import Copy, Event
from segpipe.inference.cluster.room import Node, Seat
from segpipe.inference.cluster.stages import Networks, read, write
from segpipe.inference.messages import Message, Order
from segpipe.io.write import write_volume
from segpipe.package.model_file import Model

SHAPE = (9, 8, 7)


def travelled(parcel: Any) -> Any:
    """As it comes out of the memory of a cluster: pickled, its arrays read-only."""
    buffers: list[pickle.PickleBuffer] = []
    data = pickle.dumps(parcel, protocol=5, buffer_callback=buffers.append)
    return pickle.loads(data, buffers=[bytes(buffer.raw()) for buffer in buffers])


class Accidents:
    """What happens to a stage of a case: `dies` once it has begun, dies `early`, dies `late` when its files are
    there, its `input` is lost, its scan is `unseen`, it is `slow`, it `hangs`; one
    a try."""

    def __init__(self) -> None:
        self._planned: dict[tuple[str, str], deque[str]] = defaultdict(deque)

    def plan(self, stage: str, case: str, *what: str) -> None:
        self._planned[stage, case].extend(what)

    def next(self, stage: str, case: str) -> str:
        planned = self._planned[stage, case]
        return planned.popleft() if planned else ""


class LocalFleet:
    """Keeps to what `Fleet` promises."""

    def __init__(self, order: Order, nodes: int = 2) -> None:
        self.accidents = Accidents()
        self.alive, self.closed = True, False
        self.log: list[tuple[str, str, str]] = []
        self.beside: dict[str, int] = {}
        self._numbers = itertools.count(1)
        self._order = order
        self._parcels: dict[int, Any] = {}
        self._jobs: dict[int, tuple[Copy | None, Iterator[Any]]] = {}
        self._networks: dict[int, Networks] = {}
        self._rounds: deque[int] = deque()
        self.most = 0
        self.copies = [self._copy(Seat(Node(str(number), f"n{number}", 2), 0, 1)) for number in range(nodes)]

    def _copy(self, seat: Seat) -> Copy:
        networks = Networks()
        *_, parcel, kit, end = networks.load(dataclasses.asdict(self._order), __version__)
        assert parcel == {"parcel": True} and "passes" in end["end"]
        self.kit: bytes = kit
        copy = Copy(next(self._numbers), seat, ready=True)
        self._networks[copy.number] = networks
        return copy

    @property
    def ready(self) -> list[Copy]:
        return self.copies

    @property
    def room(self) -> int:
        return 3 * len(self.copies)

    @property
    def places(self) -> int:
        return len(self.copies)

    def submit(self, what: str, **told: Any) -> int:
        job, case = next(self._numbers), told["scan"]["case"]
        told = pickle.loads(pickle.dumps({"job": job, **told}))
        copy: Copy | None = None
        if what == "read":
            items = read(self.kit, __version__, told)
        elif what == "compute":
            copy = next(one for one in self.copies if one.number == told["actor"])
            items = self._networks[copy.number].compute(travelled(self._parcels[told["of"]]), told)
        else:
            items = write(self.kit, __version__, travelled(self._parcels[told["of"]]), told)
        self.log.append((what, case, copy.seat.node.name if copy else ""))
        if copy is not None:
            self.beside[case] = sum(own is copy for own, _ in self._jobs.values())
        self._jobs[job] = copy, self._befallen(self.accidents.next(what, case), items)
        self._rounds.append(job)
        self.most = max(self.most, len(self._jobs))
        return job

    def _befallen(self, accident: str, items: Iterator[Any]) -> Iterator[Any]:
        if accident == "early":
            yield Lost("process", "was killed")
        elif accident == "input":
            yield Lost("input", "is lost")
        elif accident == "slow":
            yield from itertools.repeat(None, 40)
            yield from items
        elif accident == "unseen":
            begun, *_, end = items
            yield begun
            yield {"end": {**end["end"], "reason": "no such file", "unseen": True}}
        elif accident:
            yield next(items)
            if accident == "late":
                list(items)
            while accident == "hangs":
                yield None
            yield Lost("process", "was killed")
        else:
            yield from items

    def drop(self, job: int) -> None:
        self._parcels.pop(job, None)

    def cancel(self, job: int) -> None:
        if job in self._jobs:
            self._jobs[job] = None, iter([Lost("process", "was ended")])

    def dismiss(self, copy: Copy) -> None:
        if copy in self.copies:
            self.copies[self.copies.index(copy)] = self._copy(copy.seat)
            for job, (own, _) in self._jobs.items():
                if own is copy:
                    self._jobs[job] = None, iter([Lost("process", "was killed")])

    def event(self, seconds: float) -> Event | None:
        for _ in range(len(self._rounds)):
            job = self._rounds.popleft()
            copy, items = self._jobs[job]
            if copy is not None and copy.jobs and copy.jobs[0] != job:  # waits for its turn
                self._rounds.append(job)
                continue
            item = next(items, Lost("process", "ended"))
            if isinstance(item, Lost) or "end" in (item or {}):
                del self._jobs[job]
                return Event(job, lost=item) if isinstance(item, Lost) else Event(job, item)
            self._rounds.append(job)
            if item is None or "log" in item:
                continue
            if item != {"parcel": True}:
                return Event(job, item)
            self._parcels[job] = next(items)
        return None

    def close(self) -> None:
        self.closed = True

    def settle(self) -> None:
        """Until every job has ended."""
        while self._jobs:
            self.event(0)

    @property
    def left(self) -> int:
        """Parcels in the memory of the cluster that nobody has dropped."""
        return len(self._parcels)


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """Six scans, each with a block of its own."""
    for number in range(6):
        array = np.zeros((1, *SHAPE), dtype=np.float32)
        array[0, number:, 2:6, : 1 + number] = 1
        array[0, number + 1 :, 3:5, :1] = 2
        write_volume(tmp_path / "in" / f"case_{number}.nii.gz", Volume(array, Grid(SHAPE, np.diag([1.0, 1.2, 2.0, 1.0]))))
    return tmp_path / "in"


@pytest.fixture
def order(make_model: Callable[..., Model], tmp_path: Path) -> Order:
    return Order((str(make_model().path),), str(tmp_path / "out"), device="cpu", precision="fp32", runtime="torch", probabilities=True)


def ended(items: Iterator[Any]) -> tuple[list[Message], list[Any]]:
    """What a stage says, and its parcels."""
    said: list[Message] = []
    parcels: list[Any] = []
    for item in items:
        if item == {"parcel": True}:
            parcels.append(next(items))
        else:
            said.append(item)
    return said, parcels
