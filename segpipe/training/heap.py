"""Memory that one step frees is kept for the next, instead of being given back to the system and fetched again."""

from __future__ import annotations

import ctypes

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
"""Parameters of glibc's mallopt (malloc.h)."""
_NEVER = 2**31 - 1


def keep_freed_memory() -> bool:
    """Ask glibc to keep what is freed; returns whether it will. Other C libraries go on as they are.

    By default each of a step's large maps is fetched from the system and zeroed by it page by page, 300,000 pages a step for a 3D
    U-Net of nnU-Net's width.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return False
    return bool(mallopt(_MMAP_MAX, 0)) and bool(mallopt(_TRIM_THRESHOLD, _NEVER))
