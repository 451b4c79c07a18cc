"""Losses and gradient norms of the last steps, read without making a GPU wait for it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import torch
from torch import Tensor

DEPTH = 2
"""Steps that a GPU may have in hand while the next ones are prepared; none runs ahead farther, so that clocks and signals are obeyed."""


@dataclass(frozen=True)
class Taken:
    """What came of a step.

    Attributes:
        loss, norm: of its patches, and of its gradients before they were clipped.
        at: which step it was and of which patches, in words.
    """

    loss: float
    norm: float
    at: str


class InFlight:
    """Steps whose numbers have not been read yet, oldest first. On a CPU each is read at once.

    Args:
        depth: steps that may be unread on a GPU.
    """

    def __init__(self, depth: int = DEPTH) -> None:
        self._depth = depth
        self._unread: deque[tuple[Tensor, torch.cuda.Event | None, str]] = deque()

    def put(self, loss: Tensor, norm: Tensor, at: str) -> list[Taken]:
        """Note a step's scalars, and return what can be read without emptying the GPU's queue: the same number in each process."""
        both = torch.stack([loss.detach().float(), norm.detach().float()])
        event = None
        if both.is_cuda:
            host = torch.empty(2, pin_memory=True)
            both = host.copy_(both, non_blocking=True)
            event = torch.cuda.Event()
            event.record()
        self._unread.append((both, event, at))
        return self._read(self._depth if event else 0)

    def settle(self) -> list[Taken]:
        """All that is left, once the GPU is done with it."""
        return self._read(0)

    def _read(self, left: int) -> list[Taken]:
        taken = []
        while len(self._unread) > left:
            both, event, at = self._unread.popleft()
            if event is not None:
                event.synchronize()
            taken.append(Taken(float(both[0]), float(both[1]), at))
        return taken
