"""What a DICOMweb server says of objects that were sent to it (PS3.18 10.5.3), read with no trust in the types of what is in it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

DUPLICATE = 0x0111
_FAILED, _REASON = "00081198", "00081197"
_STORED, _INSTANCE = "00081199", "00081155"
_HEXADECIMAL = re.compile(r"[0-9A-Fa-f]{4}")


@dataclass(frozen=True)
class Said:
    """Attributes:
    speaks: whether it is DICOM JSON, or nothing at all; False for a page that asks for a login.
    reasons: of the objects that were not stored; 0 where none is said.
    stored: UIDs of the instances that it names as stored.
    """

    speaks: bool
    reasons: frozenset[int]
    stored: frozenset[str]


def parse_said(body: bytes) -> Said:
    """Read an answer; never fails."""
    try:
        said = json.loads(body or b"{}")
    except (ValueError, RecursionError):
        return Said(False, frozenset(), frozenset())
    if isinstance(said, list):
        said = said[0] if said else {}
    if not isinstance(said, dict):
        return Said(False, frozenset(), frozenset())
    reasons = frozenset(_reason(one) for one in values(said, _FAILED))
    return Said(True, reasons, frozenset(text(one, _INSTANCE) for one in values(said, _STORED)) - {""})


def values(one: Any, key: str) -> list[Any]:
    """The values of an attribute in DICOM JSON; none where it is not what it must be."""
    attribute = one.get(key) if isinstance(one, dict) else None
    found = attribute.get("Value") if isinstance(attribute, dict) else None
    return found if isinstance(found, list) else []


def text(one: Any, key: str) -> str:
    """The first value of an attribute as text; empty where there is none."""
    found = values(one, key)
    return str(found[0]).strip() if found and isinstance(found[0], str | int) else ""


def number(one: Any, key: str) -> int | None:
    """The first value of an attribute as a number, which some servers write as text; None where there is none."""
    said = text(one, key)
    return int(said) if said.isascii() and said.isdecimal() and len(said) < 10 else None


def _reason(one: Any) -> int:
    """As a number; some write it as text, in decimal or in hexadecimal digits."""
    found, said = number(one, _REASON), text(one, _REASON)
    if found is not None:
        return found
    return int(said, 16) if _HEXADECIMAL.fullmatch(said) else 0
