"""A scan's row as plain text by column, for the ledger and between processes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from segpipe.inference.table import Row

_TEXTS = ("status", "input", "output", "reason", "warning", "model_sha256", "options", "input_hash", "output_hash")
_NUMBERS = ("seconds", "volumes_ml", "pixels")
"""JSON objects: seconds by phase, sizes by label."""
FIELDS = (*_TEXTS, *_NUMBERS)


def to_record(row: Row) -> dict[str, str]:
    """`name` (the case) and every one of `FIELDS`."""
    numbers = {key: json.dumps(getattr(row, key)) for key in _NUMBERS}
    return {"name": row.case, **{key: getattr(row, key) for key in _TEXTS}, **numbers}


def from_record(record: Mapping[str, Any] | Any) -> Row:
    """The row again, from a mapping or an SQLite row with these columns."""
    texts: dict[str, Any] = {key: record[key] for key in _TEXTS}
    return Row(case=record["name"], **texts, **{key: json.loads(record[key] or "{}") for key in _NUMBERS})
