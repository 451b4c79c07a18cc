"""Out of memory: what was too much, and which option to lower."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from segpipe.errors import DataError
from segpipe.package.device import is_out_of_memory


@contextmanager
def memory_guard(phase: str, device: torch.device, batch: int) -> Iterator[None]:
    """Turn a failed allocation in `phase` into an error that names the option to lower.

    Raises:
        DataError: so that one large scan fails and the others go on.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        reason = f"out of memory on {device} in the phase '{phase}': {_cure(phase, device, batch)}"
    else:
        return
    if device.type == "cuda":
        torch.cuda.empty_cache()
    raise DataError(reason)  # outside of `except`, so that the failed frames and their tensors are gone


def _cure(phase: str, device: torch.device, batch: int) -> str:
    if phase == "network" and batch == 0:
        return "use --batch 1"
    if phase == "network" and batch > 1:
        return f"lower --batch from {batch} to {batch // 2}"
    if device.type == "cuda":
        return "use --device cpu"
    return "leave out --probabilities, give --memory-gb, with which one scan is in hand at a time, or use a machine with more memory"
