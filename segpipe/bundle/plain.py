"""JSON out of a package, checked against a description of what must be in it; nothing in it is ever run."""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from segpipe.errors import ModelError

_DEEPEST = 24
_RUNS = ("$", "@", "%")
"""With these a string begins that MONAI's bundles evaluate as Python, refer to other values by, or read other files by."""


@dataclass(frozen=True)
class Text:
    """A string. `pattern`: of the whole of it; `longest`: characters; `told`: what the pattern means, in words."""

    pattern: re.Pattern[str] | None = None
    longest: int = 20_000
    told: str = ""


@dataclass(frozen=True)
class Number:
    """A finite number from `low` to `high`; `whole`: an integer."""

    low: float = -math.inf
    high: float = math.inf
    whole: bool = False


@dataclass(frozen=True)
class Flag:
    """true or false."""


@dataclass(frozen=True)
class ListOf:
    """Values of one kind, `least` to `most` of them."""

    item: Kind
    least: int = 0
    most: int = 10_000


@dataclass(frozen=True)
class MapOf:
    """Values of one kind by names of which nothing is known."""

    item: Kind


@dataclass(frozen=True)
class Maybe:
    """null, or a value."""

    item: Kind


@dataclass(frozen=True)
class Anything:
    """Any plain value."""


@dataclass(frozen=True)
class Fields:
    """These keys, each there, and no other; those of `optional` may be missing."""

    must: Mapping[str, Kind]
    optional: Mapping[str, Kind] = field(default_factory=dict)


Kind = Text | Number | Flag | ListOf | MapOf | Maybe | Anything | Fields


def read_json(data: bytes, name: str) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        ModelError: not JSON in UTF-8, no object, a key twice, NaN, nested too deeply, or with words that some program would execute.
    """
    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=_once, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{name} is not plain JSON ({str(error)[:80]!a})") from error
    if not isinstance(value, dict):
        raise ModelError(f"{name} is no JSON object")
    check_inert(value, name)
    return value


def check(value: Any, kind: Kind, where: str) -> None:
    """Refuse a value that is not of its kind.

    Raises:
        ModelError: naming the place.
    """
    if isinstance(kind, Maybe):
        if value is not None:
            check(value, kind.item, where)
    elif isinstance(kind, Text):
        _check_text(value, kind, where)
    elif isinstance(kind, Number):
        _check_number(value, kind, where)
    elif isinstance(kind, Flag):
        if not isinstance(value, bool):
            raise _wrong(where, value, "true or false")
    elif isinstance(kind, ListOf):
        _check_list(value, kind, where)
    elif isinstance(kind, MapOf):
        for key, item in _object(value, where).items():
            check(item, kind.item, f"{where}.{key[:40]}")
    elif isinstance(kind, Fields):
        _check_fields(_object(value, where), kind, where)


def _check_text(value: Any, kind: Text, where: str) -> None:
    if not isinstance(value, str) or not value.strip() or len(value) > kind.longest:
        raise _wrong(where, value, f"a text of up to {kind.longest} characters")
    if not all(letter.isprintable() or letter in "\n\t" for letter in value):
        raise _wrong(where, value, "a text without control characters")
    if kind.pattern is not None and kind.pattern.fullmatch(value) is None:
        raise _wrong(where, value, kind.told or f"a text like {kind.pattern.pattern}")


def _check_number(value: Any, kind: Number, where: str) -> None:
    fits = isinstance(value, int if kind.whole else (int, float)) and not isinstance(value, bool)
    if not fits or not kind.low <= value <= kind.high or not math.isfinite(value):
        raise _wrong(where, value, f"a{' whole' if kind.whole else ''} number from {kind.low:g} to {kind.high:g}")


def _check_list(value: Any, kind: ListOf, where: str) -> None:
    if not isinstance(value, list) or not kind.least <= len(value) <= kind.most:
        raise _wrong(where, value, f"a list of {kind.least} to {kind.most} values")
    for number, item in enumerate(value):
        check(item, kind.item, f"{where}[{number}]")


def _check_fields(value: dict[str, Any], kind: Fields, where: str) -> None:
    known = {**kind.must, **kind.optional}
    for key in kind.must:
        if key not in value:
            raise ModelError(f"{where} lacks the key {key}")
    for key, item in value.items():
        if key not in known:
            near = difflib.get_close_matches(key[:40], known, n=1)
            raise ModelError(f"{where} has the unknown key {key[:40]!a}" + (f"; did you mean {near[0]}?" if near else ""))
        check(item, known[key], f"{where}.{key}")


def _object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _wrong(where, value, "an object")
    return value


def _wrong(where: str, value: Any, must: str) -> ModelError:
    return ModelError(f"{where} is {ascii(value)[:60]}; must be {must}")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found


def _no_constant(word: str) -> Any:
    raise ValueError(f"{word} is no number of JSON")


def check_inert(value: Any, where: str, depth: int = 0) -> None:
    """Refuse what MONAI, Hydra and others would run: keys such as `_target_`, strings that are expressions or references.

    Args:
        depth: how deep it lies within what is checked.

    Raises:
        ModelError: naming the word.
    """
    if depth > _DEEPEST:
        raise ModelError(f"{where} is nested more than {_DEEPEST} deep")
    if isinstance(value, dict):
        for key, item in value.items():
            if key.startswith("_"):
                raise ModelError(f"{where} has the key {key[:40]!a}, which would run code elsewhere")
            check_inert(item, where, depth + 1)
    elif isinstance(value, list):
        for item in value:
            check_inert(item, where, depth + 1)
    elif isinstance(value, str) and value.startswith(_RUNS):
        raise ModelError(f"{where} has the text {value[:40]!a}, which would run code elsewhere")
