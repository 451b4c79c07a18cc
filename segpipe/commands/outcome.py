"""What a command hands to `cli`: things to print and the exit code."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Outcome:
    """`shown` holds strings and rich renderables (tables) in the order of printing; the library itself prints nothing."""

    shown: list[Any] = field(default_factory=list)
    exit_code: int = 0
