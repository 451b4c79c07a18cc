"""The workers of a device, one a model, that keep it loaded between jobs; only as many as were allowed."""

from __future__ import annotations

import contextlib
import logging
from collections import OrderedDict
from pathlib import Path

import psutil

from segpipe.cores import available_cores
from segpipe.inference.crew import Crew
from segpipe.inference.messages import Order
from segpipe.server.models import Served
from segpipe.server.settings import ServerSettings

PROGRAM = "segpipe.server.worker"


class Warm:
    """One thread starts and ends them; any may ask for their memory.

    Args:
        jobs: folder in which each job has its own.
        device: of all of them.
    """

    def __init__(self, settings: ServerSettings, jobs: Path, device: str) -> None:
        self._settings, self._jobs, self._device = settings, jobs, device
        self._crews: OrderedDict[str, Crew] = OrderedDict()

    def of(self, served: Served) -> Crew:
        """The worker of a model, started if it is not there; the one whose model was not used for longest ends for it."""
        crew = self._crews.get(served.id)
        if crew is None:
            while len(self._crews) >= self._settings.warm:
                self.dismiss(next(iter(self._crews)))
            crew = self._crews[served.id] = Crew(self._order(served), 1, PROGRAM)
        self._crews.move_to_end(served.id)
        crew.start(1)
        return crew

    def dismiss(self, model: str) -> None:
        """End the worker of a model, whatever it does."""
        crew = self._crews.pop(model, None)
        if crew is not None:
            crew.close()

    def close(self) -> None:
        """End them all."""
        while self._crews:
            self.dismiss(next(iter(self._crews)))

    def memory(self) -> int:
        """Bytes that they take."""
        total = 0
        for worker in [worker for crew in list(self._crews.values()) for worker in list(crew.workers)]:
            with contextlib.suppress(psutil.Error):  # it has just ended
                total += int(psutil.Process(worker.pid).memory_info().rss)
        return total

    def _order(self, served: Served) -> Order:
        how = self._settings.computing
        return Order(
            models=(str(served.file),),
            hashes=(served.sha256,),
            out=str(self._jobs),
            format="nii.gz",
            level=logging.getLogger("segpipe").getEffectiveLevel(),
            device=self._device,
            runtime=how.runtime,
            precision=how.precision,
            threads=how.threads,
            threads_most=max(1, available_cores() // len(how.devices)) if len(how.devices) > 1 else 0,
            memory_gb=how.memory_gb,
        )
