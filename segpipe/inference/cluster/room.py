"""How many copies of the networks a cluster has room for, and where. Knows no Ray: nodes are plain values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from segpipe.errors import ConfigError

_CORES = 8
"""About as many share one copy of the networks where nothing else is asked for: more of them gain little on one scan."""
_AHEAD = 2
"""Scans for each copy of the networks: the one in them, and the next one."""
_MOST = 8
"""Scans in flight for each copy at most, so that those that wait do not fill Ray's memory."""


@dataclass(frozen=True)
class Node:
    """A machine of the cluster that is there.

    Attributes:
        id: Ray's, of this life of it.
        name: as a person knows it.
        cpus, gpus: that Ray gives to its users.
        memory_gb: likewise.
    """

    id: str
    name: str
    cpus: int
    gpus: int = 0
    memory_gb: float = 0.0


@dataclass(frozen=True)
class Wish:
    """Attributes:
    workers: copies of the networks, 0: as many as there is room for.
    threads: cores of each, 0: all but one of each node, shared.
    gpu: each has a GPU.
    memory_gb: of each, 0: not looked at.
    """

    workers: int = 0
    threads: int = 0
    gpu: bool = False
    memory_gb: float = 0.0


@dataclass(frozen=True)
class Seat:
    """Room for one copy of the networks.

    Attributes:
        number: on its node, from 0.
        cpus: that it takes.
    """

    node: Node
    number: int
    cpus: int
    gpu: bool = False


def wants_gpu(device: str, nodes: Sequence[Node]) -> bool:
    """Whether the networks are to have a GPU each.

    Raises:
        ConfigError: `device` names one of a machine, or there is none.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise ConfigError(f"--device is {device}; with --engine ray it must be auto, cpu or cuda: Ray chooses which GPU")
    found = any(node.gpus for node in nodes)
    if device == "cuda" and not found:
        raise ConfigError("--device is cuda, and no node of the Ray cluster has a GPU: start one there with `ray start --num-gpus`")
    return found and device != "cpu"


def plan_seats(nodes: Sequence[Node], wish: Wish) -> list[Seat]:
    """Where the networks go: spread evenly, and on each node one core is left that reads and writes scans.

    That core is left on every node, because any of them may be lost, and with it those that read and write for the others.
    """
    order = sorted(nodes, key=lambda node: node.id)
    most = [_most(node, wish) for node in order]
    wanted = wish.workers or sum(most)
    counts = [0] * len(order)
    while sum(counts) < wanted and any(count < limit for count, limit in zip(counts, most, strict=True)):
        for number, limit in enumerate(most):
            if counts[number] < limit and sum(counts) < wanted:
                counts[number] += 1
    seats = [
        Seat(node, number, _cpus(node, count, wish), wish.gpu) for node, count in zip(order, counts, strict=True) for number in range(count)
    ]
    return sorted(seats, key=lambda seat: seat.number)  # a node's second one after each node's first


def _most(node: Node, wish: Wish) -> int:
    free = node.cpus - 1
    if free < 1:
        return 0
    by_cores = free // wish.threads if wish.threads else free if wish.gpu or wish.workers else math.ceil(free / _CORES)
    by_memory = int(node.memory_gb / wish.memory_gb) if wish.memory_gb else by_cores
    return min(by_cores, by_memory, node.gpus if wish.gpu else by_cores)


def _cpus(node: Node, count: int, wish: Wish) -> int:
    return wish.threads or (1 if wish.gpu else (node.cpus - 1) // count)


def no_room(wish: Wish) -> str:
    """Why `plan_seats` finds no room, as one line with a cure."""
    gpu = ", a GPU" if wish.gpu else ""
    memory = f", {wish.memory_gb:g} GB of memory" if wish.memory_gb else ""
    cure = "lower --threads or --memory-gb, or start larger nodes" if wish.threads or wish.memory_gb else "start larger nodes"
    return (
        f"no node of the Ray cluster has {wish.threads or 1} core(s){gpu}{memory} for the networks and one core to read and write: {cure}"
    )


def in_flight(copies: int, spare: int) -> int:
    """How many scans may be on their way at a time.

    Args:
        copies: of the networks, that are ready.
        spare: cores that none of them has.
    """
    return min(_MOST * copies, _AHEAD * copies + max(0, spare))
