"""Segments the scans of a call on a Ray cluster that is there already."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

from segpipe import __version__
from segpipe.errors import ConfigError, ModelError
from segpipe.inference.cluster.fleet import Fleet
from segpipe.inference.cluster.order import BRIDGE, ClusterOrder
from segpipe.inference.cluster.pilot import Pilot
from segpipe.inference.cluster.room import Wish
from segpipe.inference.crew import Crew, crew_of
from segpipe.inference.engine import Work, told_facts
from segpipe.inference.messages import Order
from segpipe.inference.task import Facts

_HEAR_SECONDS = 1.0


class RayEngine:
    """See `Engine`.

    Args:
        crew: its one worker speaks to the cluster.
        order: what the networks are told; paths as all nodes find them.
        workers: copies of the networks, 0: as many as there is room for.
    """

    def __init__(self, crew: Crew, order: ClusterOrder, workers: int) -> None:
        self._order = order
        self._fleet = Fleet(crew, Wish(workers, order.threads, memory_gb=order.memory_gb), order.device)

    def facts(self) -> Facts:
        """See `Engine`.

        Raises:
            ModelError, ConfigError: the cluster cannot be joined, has no room, or its nodes see another model or have another segpipe.
        """
        while self._fleet.model is None:
            self._fleet.event(_HEAR_SECONDS)
        facts = told_facts(self._fleet.model)
        _check_models(self._order.models, facts, self._fleet.model["name"])
        return facts

    def work(self, work: Work) -> None:
        """See `Engine`."""
        Pilot(self._fleet, work, self._order.level).run()


@contextlib.contextmanager
def ray_engine(order: Order, address: str, workers: int) -> Iterator[RayEngine]:
    """An engine that leaves nothing behind on the cluster.

    Args:
        address: `auto` or `HOST:PORT`.
        workers: copies of the networks, 0: as many as there is room for.

    Raises:
        ConfigError: what Ray decides was asked for.
    """
    if order.device not in ("auto", "cpu", "cuda"):
        raise ConfigError(f"--device is {order.device}; with --engine ray it must be auto, cpu or cuda: Ray chooses which GPU")
    far = replace(order, models=tuple(str(Path(path).absolute()) for path in order.models), out=str(Path(order.out).absolute()))
    given = ClusterOrder(**asdict(far), address=address, version=__version__)
    with crew_of(given, 1, BRIDGE) as crew:
        yield RayEngine(crew, given, workers)


def _check_models(paths: tuple[str, ...], facts: Facts, node: str) -> None:
    """Refuse a node that sees other files at the models' paths than the command does.

    Raises:
        ModelError: a file cannot be read here, or is another one there.
    """
    try:
        here = "+".join(hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in paths)
    except OSError as error:
        raise ModelError(f"{error.filename}: cannot be read here ({error.strerror}), though node {node} reads it") from error
    if here != facts.sha256:
        raise ModelError(
            f"{paths[0]}: node {node} has another file there (SHA-256 {facts.sha256[:12]}, here {here[:12]}): "
            "the model must lie on a disk that all nodes share"
        )
