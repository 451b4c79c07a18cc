"""The part of a folder that one job of an array segments."""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass

from segpipe.errors import ConfigError

_WORDS = re.compile(r"(\d+)/(\d+)")


@dataclass(frozen=True)
class Shard:
    """Part `number` of `count`, counted from 1. Every case is in exactly one, whatever else lies in the folder."""

    number: int = 1
    count: int = 1

    def holds(self, case: str) -> bool:
        """Whether the case is in this part: by a checksum of its name, so that scans that arrive later move no other one."""
        return zlib.crc32(case.encode()) % self.count == self.number - 1


def parse_shard(text: str) -> Shard:
    """`3/16` -> the third of sixteen parts; the empty string is the whole.

    Raises:
        ConfigError: something else.
    """
    if not text:
        return Shard()
    match = _WORDS.fullmatch(text)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise ConfigError(f"--shard: is {text!r}; must be NUMBER/COUNT, counted from 1, such as 3/16")
    return Shard(int(match[1]), int(match[2]))
