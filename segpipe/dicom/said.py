"""What a data set says, attribute by attribute, however its file is written."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any


def texts_of(ds: Any, under: str = "") -> Iterator[str]:
    """Every attribute of a data set and its value, sequences item by item: two data sets with the same texts say the same.

    Args:
        under: where the data set lies in another one.
    """
    for tag in sorted(ds.keys()):
        here = f"{under}{int(tag):08x}"
        try:
            element = ds[tag]
            sequence = element.VR == "SQ"
            text = "" if sequence else _text(element.value)
        except Exception:  # a value that breaks the rules is taken as its bytes are
            yield f"{here} {_text(ds.get_item(tag).value)}"
            continue
        yield f"{here} {text}"
        for number, item in enumerate(element.value or ()) if sequence else ():
            yield from texts_of(item, f"{here}[{number}]")


def _text(value: Any) -> str:
    return hashlib.sha256(value).hexdigest() if isinstance(value, bytes) else repr(value)
