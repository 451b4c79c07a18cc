"""The work of a server: its devices, each with one job after the other out of one list."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from segpipe.server.bench import Bench
from segpipe.server.desk import Desk
from segpipe.server.models import Served
from segpipe.server.settings import ServerSettings
from segpipe.server.store import Store


class Workshop(Desk):
    """A bench for each device that the settings name, and the list of jobs that they share.

    Args:
        models: by id.
        jobs: folder in which each job has its own.
    """

    def __init__(self, settings: ServerSettings, models: Mapping[str, Served], store: Store, jobs: Path) -> None:
        super().__init__(settings.limits, store, jobs)
        self._benches = [Bench(self, settings, models, device) for device in settings.computing.devices]

    def start(self) -> None:
        """Begin with what waits."""
        for bench in self._benches:
            bench.start()

    def close(self) -> None:
        """End the workers; the jobs in hand wait again."""
        self.stop.set()
        self.wake()
        for bench in self._benches:
            bench.join()

    def memory(self) -> int:
        """Bytes that the workers take."""
        return sum(bench.memory() for bench in self._benches)
