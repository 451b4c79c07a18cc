"""How many processor cores this process may use. Light, so that a command that starts workers may ask."""

from __future__ import annotations

import os


def available_cores() -> int:
    """Those that the system gives this process, which on a cluster are fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
