"""Out of memory in a training: what was too much, and which setting to lower, to what."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from segpipe.errors import ConfigError
from segpipe.package.device import is_out_of_memory
from segpipe.plan.plan import Plan


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


def smaller_step(plan: Plan) -> str:
    """Half the patches, or of a single patch three quarters of each side."""
    smaller = [max(8, size * 3 // 4) if size > 1 else 1 for size in plan.patch_size]
    cure = f"plan.batch_size={plan.batch_size // 2}" if plan.batch_size > 1 else f"plan.patch_size={smaller[: plan.dims]}"
    return f"set {cure}, or a smaller network.features"


def smaller_scan(case: str) -> str:
    """What helps where a whole scan is too much."""
    return f"close other programs, set a coarser plan.spacing_mm, or take the case {case} out"
