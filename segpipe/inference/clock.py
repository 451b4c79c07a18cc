"""How long each phase of a scan takes; a failed allocation is told by the phase that it was in."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from segpipe.inference.memory import memory_guard


class Clock:
    """Seconds of the phases that one thread goes through.

    Args:
        device: that is waited for at the end of each.
        batch: windows a forward pass, for the cure of a full memory; 0: decided by their size.

    Attributes:
        seconds: of each phase so far.
    """

    def __init__(self, device: torch.device, batch: int = 0) -> None:
        self.seconds: dict[str, float] = {}
        self._device, self._batch = device, batch

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add what is done inside to a phase.

        Raises:
            DataError: out of memory.
        """
        start = time.perf_counter()
        with memory_guard(name, self._device, self._batch):
            yield
            if self._device.type == "cuda":
                torch.cuda.synchronize(self._device)
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start
