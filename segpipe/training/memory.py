"""Out of memory in a training: what was too much, and which setting to lower, to what."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from segpipe.errors import ConfigError
from segpipe.package.device import is_out_of_memory
from segpipe.plan.plan import Plan

_LOADER = "DataLoader worker (pid"
"""How torch begins to tell of a loader process that has ended; an error inside one is told otherwise."""


@contextmanager
def memory_advice(what: str, cure: str) -> Iterator[None]:
    """Turn a failed allocation into one line.

    Raises:
        ConfigError: "not enough memory `what`: `cure`".
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise ConfigError(f"not enough memory {what}: {cure}") from error


@contextmanager
def loader_advice(workers: int) -> Iterator[None]:
    """Turn the end of a loader process, which the system ends when memory runs out, into one line.

    Raises:
        ConfigError: a loader process was ended.
    """
    try:
        yield
    except (OSError, EOFError, RuntimeError) as error:
        if not workers or not (isinstance(error, ConnectionError | EOFError) or _LOADER in str(error)):
            raise
        cure = f"set training.workers={workers // 2}, which takes less of it, a smaller training.cache_gb, or close other programs"
        raise ConfigError(f"a loader process was ended, probably for want of memory: {cure}") from error


def smaller_step(plan: Plan) -> str:
    """Half the patches, or of a single patch three quarters of each side."""
    smaller = [max(8, size * 3 // 4) if size > 1 else 1 for size in plan.patch_size]
    cure = f"plan.batch_size={plan.batch_size // 2}" if plan.batch_size > 1 else f"plan.patch_size={smaller[: plan.dims]}"
    return f"set {cure}, or a smaller network.features"


def smaller_scan(case: str) -> str:
    """What helps where a whole scan is too much."""
    return f"close other programs, set a coarser plan.spacing_mm, or take the case {case} out"
