"""UIDs that follow from what an object holds: the same scan, model and words make the same object, which a PACS then knows already."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

_SEPARATOR = b"\0"
_BYTES = 16


def uid_of(*parts: str) -> str:
    """A UID under 2.25 (PS3.5 B.2): 128 bits of the SHA-256 of its parts."""
    digest = hashlib.sha256(_SEPARATOR.join(part.encode() for part in parts)).digest()
    return f"2.25.{int.from_bytes(digest[:_BYTES], 'big')}"


def content_key(origin: Iterable[str], labels: NDArray[np.generic], words: Iterable[str]) -> str:
    """What the UIDs of a scan's results are made of.

    Args:
        origin: whatever the objects take from the source: its slices in the order of their places, its headers, see `said.texts_of`.
        labels: (I, J, K).
        words: whatever else the objects depend on.
    """
    total = hashlib.sha256()
    for word in (*origin, "", *words, str(labels.shape), str(labels.dtype)):
        total.update(word.encode() + _SEPARATOR)
    for plane in np.moveaxis(labels, 2, 0):
        total.update(np.ascontiguousarray(plane).data)
    return total.hexdigest()
