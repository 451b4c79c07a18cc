"""Who segments the scans of a call: worker processes of this machine, or whoever else keeps to the same bargain."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from segpipe.errors import ConfigError
from segpipe.inference.claims import Claims
from segpipe.inference.crew import Crew, how_it_ended
from segpipe.inference.gather import Examination
from segpipe.inference.messages import Message, error_from_json
from segpipe.inference.packing import facts_from_json
from segpipe.inference.supervise import Supervisor
from segpipe.inference.task import Facts, Task
from segpipe.io.atomic import sweep
from segpipe.progress import Board

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Work:
    """Attributes:
    task: what is asked of every scan.
    claims: the scans; each leaves as a row.
    timeout: seconds that a scan may take, 0: any.
    more: called now and then for scans to be added, until it returns None; None: there are no more than were added.
    """

    task: Task
    claims: Claims
    shown: Board
    timeout: float = 0.0
    more: Callable[[], Sequence[Examination] | None] | None = None


class Engine(Protocol):
    """Segments the scans of one call."""

    def facts(self) -> Facts:
        """What the call must know of the model, once somebody has loaded it.

        Raises:
            ModelError, ConfigError: nobody can.
        """

    def work(self, work: Work) -> None:
        """Until every scan has ended and `more` brings none; an exception (a signal) may end it before. Nobody writes any file afterwards.

        Raises:
            ConfigError: the output cannot be written, or there is nobody left to go on.
        """


class Processes:
    """Segments with the worker processes of `crew`."""

    def __init__(self, crew: Crew) -> None:
        self._crew = crew

    def facts(self) -> Facts:
        """See `Engine`."""
        ready: Message | None = None
        while ready is None:
            event = self._crew.event(1.0)
            if event is None:
                continue
            worker, message = event
            if message is None:
                raise ConfigError(f"a worker {how_it_ended(worker.code())}: it had not loaded the model yet")
            if "refused" in message:
                raise error_from_json(message["refused"])
            self._crew.welcome(worker, message)
            ready = message
        return told_facts(ready)

    def work(self, work: Work) -> None:
        """See `Engine`."""
        try:
            Supervisor(work.task, self._crew, work.claims, work.shown, work.timeout, work.more).run()
        finally:
            left = {(work.task.out / held.claim.scan.case).parent for worker in self._crew.workers for held in worker.hands.all}
            self._crew.close()  # before the claims are let go: nobody writes a file that another call may write
            sweep(left)


def told_facts(ready: Message) -> Facts:
    """What whoever has loaded the model says of it; what its use costs is logged."""
    if ready["passes"] > 1:
        log.info(
            "each window goes through networks %d times (models and mirrorings), and takes about as many times as long", ready["passes"]
        )
    return facts_from_json(ready["ready"])
