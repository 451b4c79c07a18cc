"""The names of all settings, from the dataclasses, and what a mistyped one was meant to be."""

from __future__ import annotations

import dataclasses
import difflib
import typing
from typing import Any

from segpipe.errors import ConfigError
from segpipe.settings import Settings


def leaves(kind: Any = Settings, where: str = "") -> dict[str, Any]:
    """Each setting's dotted name and its type, in the order of the dataclasses: `{"training.lr": float, ...}`."""
    found: dict[str, Any] = {}
    for name, hint in typing.get_type_hints(kind).items():
        key = join(where, name)
        found.update(leaves(hint, key) if dataclasses.is_dataclass(hint) else {key: hint})
    return found


def sections() -> set[str]:
    """Dotted names of everything that holds settings: `training`, `augment`, `augment.rotate`, ..."""
    return {key.rsplit(".", depth)[0] for key in leaves() for depth in (1, 2) if key.count(".") >= depth}


def join(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def unknown(key: str, origin: str = "") -> ConfigError:
    """The error for a setting that does not exist, with the nearest that does.

    Args:
        key: dotted name as the user wrote it.
        origin: file that holds it; the empty string for the command line.
    """
    prefix = f"{origin}: " if origin else ""
    near = _nearest(key)
    if near:
        return ConfigError(f"{prefix}{key}: unknown key; did you mean {near}?")
    section = key.rsplit(".", 1)[0] if key.rsplit(".", 1)[0] in sections() else ""
    known = dict.fromkeys(
        name.removeprefix(f"{section}." if section else "").split(".")[0] for name in leaves() if name.startswith(section)
    )
    return ConfigError(f"{prefix}{key}: unknown key; known{f' in {section}' if section else ''}: {', '.join(known)}")


def _nearest(key: str) -> str:
    """The setting that `key` resembles: in its own section, or by its last word when the section is wrong or left out."""
    section, _, last = key.rpartition(".")
    names = [*leaves(), *sorted(sections())]
    if section in sections():
        names = [name for name in names if name.startswith(f"{section}.")]
    by_last = {name.rsplit(".", 1)[-1]: name for name in reversed(names)}
    near = difflib.get_close_matches(last, by_last, n=1, cutoff=0.75)
    return by_last[near[0]] if near else ""
