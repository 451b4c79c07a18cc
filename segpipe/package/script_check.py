"""What a TorchScript archive may hold, before torch reads it.

TorchScript is a language of its own, without Python's imports, but (torch 2.13) `aten::save` writes any file, `aten::from_file` reads
any, custom classes load libraries, and a module's `__setstate__` runs while it is loaded. So each record must be one that a network
needs, and its code and pickles must not hold the names of these, not even in a text: a name could be reached in many ways.
"""

from __future__ import annotations

import re
from pathlib import Path

from segpipe.errors import ModelError

_RECORD = re.compile(
    r"data\.pkl|constants\.pkl|(data|constants)/\d+|code/[\w./]+\.py(\.debug_pkl)?|extra/segpipe\.json"
    r"|version|byteorder|\.data/(version|serialization_id)|\.format_version|\.storage_alignment",
    re.ASCII,
)
_NAMES = re.compile(rb"\b(save|from_file|classes|rpc_async|rpc_sync|rpc_remote)\b|\bops\b(?!\.(?:aten|prim)\b)", re.ASCII)
"""In code: operators that reach files and other machines, classes that programs register, operators of other makers."""
_CLASSES = re.compile(rb"torch\.classes|\bclasses[.\n]")
"""In a pickle, where `classes` alone may be an attribute's name."""


def check_script(records: dict[str, bytes], path: Path) -> None:
    """Refuse an archive whose network could do more than compute.

    Args:
        records: by their names, which begin with the archive's own folder.

    Raises:
        ModelError: naming what is refused.
    """
    if len({name.partition("/")[0] for name in records}) != 1:
        raise _refusal(path, "records outside its own folder")
    for name, content in records.items():
        inner = name.partition("/")[2]
        if _RECORD.fullmatch(inner) is None or ".." in inner:
            raise _refusal(path, f"record {inner[:80]!a}")
        found = _NAMES.search(content) if inner.endswith(".py") else None
        if found is not None:
            raise _refusal(path, f"the name {found.group().decode()} in {inner[:80]}")
        if inner.endswith("pkl") and _CLASSES.search(content):
            raise _refusal(path, f"a class of another program in {inner[:80]}")


def _refusal(path: Path, what: str) -> ModelError:
    cure = "which no network of plain operators needs, and was not read: give a file that `segpipe export` wrote"
    return ModelError(f"{path}: holds {what}, {cure}")
