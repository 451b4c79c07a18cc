"""The words a user types after `segpipe train`, made safe for Hydra: `training.lr=1e-3 network=vnet conf=./mine.yaml`.

Hydra's grammar gives commas, brackets and parentheses a meaning of their own. A path or a regular expression is taken here as it
stands. Unknown settings and choices are refused with the nearest name that exists.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_origin

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from segpipe.config.check import to_settings
from segpipe.config.folder import TASKS, groups
from segpipe.config.keys import leaves, sections, unknown
from segpipe.errors import ConfigError

_QUOTED_TEXT = re.compile(r"""(["'])((?:\\.|(?!\1).)*)\1(\s*:)?""")
"""A text in quotes, with the colon that makes it a name in a mapping."""
_QUOTED = re.compile(r"""^\s*(['"]).*\1\s*$""", re.DOTALL)


@dataclass(frozen=True)
class Words:
    """Attributes:
    overrides: what Hydra gets.
    swept: names with several values, in the order typed.
    files: the user's own task files, by the name under which Hydra finds them.
    """

    overrides: list[str] = field(default_factory=list)
    swept: list[str] = field(default_factory=list)
    files: dict[str, Path] = field(default_factory=dict)


def read_words(words: Sequence[str], sweep: bool = False) -> Words:
    """Check and translate the words of one command line.

    Args:
        sweep: whether a setting may have several values, `seed=1,2,3`.

    Raises:
        ConfigError: not SETTING=VALUE, unknown setting or choice, missing file, several values without `sweep`.
    """
    result = Words()
    for word in words:
        key, value = _split(word)
        if key.startswith(("hydra.", "hydra/")):
            _only_in_sweep(word, sweep)
            result.overrides.append(word)
        elif key in groups():
            _read_choice(key, value, sweep, result)
        else:
            _read_setting(key, value, sweep, result)
    return result


def _split(word: str) -> tuple[str, str]:
    """Name and value of one word; Hydra's `+` and `++` are accepted and not needed."""
    key, equals, value = word.partition("=")
    key = key.strip().lstrip("+")
    if key.startswith("~"):
        raise ConfigError(f"{word}: a setting cannot be removed; give it another value, {key[1:]}=VALUE")
    if not equals or not key:
        tasks = groups()[TASKS]
        near = word if word in tasks else next(iter(difflib.get_close_matches(word, tasks, n=1)), "")
        hint = f"did you mean conf={near}?" if near else "write, for example, training.max_minutes=10"
        raise ConfigError(f"{word!r}: is not SETTING=VALUE; {hint}")
    return key, value


def _only_in_sweep(word: str, sweep: bool) -> None:
    if not sweep:
        raise ConfigError(f"{word}: Hydra's own settings are used in sweeps only; add -m, or leave it out")


def _read_choice(group: str, value: str, sweep: bool, result: Words) -> None:
    """`network=vnet`, `conf=./mine.yaml`, and with `sweep` several of them."""
    if value.lstrip().startswith("{"):
        raise ConfigError(f"{group}={value}: must be one of {', '.join(groups()[group])}; single settings are written {group}.NAME=VALUE")
    choices = [part.strip() for part in value.split(",")]
    if len(choices) > 1:
        _refuse_several(group, value, sweep)
        result.swept.append(group)
    result.overrides.append(f"{group}={','.join(_choice(group, choice, result.files) for choice in choices)}")


def _choice(group: str, choice: str, files: dict[str, Path]) -> str:
    if group == TASKS and (choice.endswith((".yaml", ".yml")) or "/" in choice or "\\" in choice):
        path = Path(choice).expanduser()
        if not path.is_file():
            raise ConfigError(f"conf={choice}: no such file; give a YAML file, or one of the tasks {', '.join(groups()[TASKS])}")
        name = f"file{len(files)}_{re.sub(r'[^A-Za-z0-9_-]', '_', path.stem)}"
        files[name] = path.resolve()
        return name
    available = groups()[group]
    if choice not in available:
        near = difflib.get_close_matches(choice, available, n=1)
        hint = f"did you mean {group}={near[0]}? " if near else ""
        own = ", or your own file, conf=./mine.yaml" if group == TASKS else ""
        raise ConfigError(f"{group}={choice}: no such choice; {hint}available: {', '.join(available)}{own}")
    return choice


def _read_setting(key: str, value: str, sweep: bool, result: Words) -> None:
    kind = _kind(key)
    if _is_mapping(kind) and _parse(f"{key}={value}") is None:
        value = _QUOTED_TEXT.sub(_unquoted_name, value)
    literal = kind is str and not sweep and not _QUOTED.match(value)
    override = None if literal else _parse(f"{key}={value}")
    if override is None:
        if kind is not str:
            raise ConfigError(f"{key}={value}: cannot be read; {_how(key, kind)}")
        result.overrides.append(f"++{key}={_quote(value)}")
        return
    if override.is_sweep_override():
        _refuse_several(key, value, sweep)
        _check_each(key, override)
        result.swept.append(key)
        result.overrides.append(f"{key}={value}")
    else:
        if get_origin(kind) is dict:  # a whole mapping replaces the task's; Hydra would merge them, and no entry could be left out
            result.overrides.append(f"{key}=null")
        result.overrides.append(f"++{key}={value}")


def _is_mapping(kind: Any) -> bool:
    return kind is dict or get_origin(kind) is dict


def _unquoted_name(found: re.Match[str]) -> str:
    """Names of a mapping as YAML and JSON write them, `{"1": PZ}`, in Hydra's grammar, which knows no quotes there; other texts stay."""
    return re.sub(r"([\\()\[\]{}:=,])", r"\\\1", found[2]) + ":" if found[3] else found[0]


def _how(key: str, kind: Any) -> str:
    """How a value of this type is typed, in words."""
    if _is_mapping(kind):
        return f"write a mapping as '{key}={{name: value, other: value}}', the whole word in the shell's quotes"
    if get_origin(kind) is list:
        return f"write a list as {key}=[a,b]"
    return f"write one value, {key}=VALUE"


def _check_each(key: str, override: Override) -> None:
    """Refuse a wrong value among several before the first run starts, not when its turn comes."""
    if not override.is_discrete_sweep():
        return
    for value in override.sweep_iterator():
        nested: Any = value
        for name in reversed(key.split(".")):
            nested = {name: nested}
        to_settings(nested)


def _kind(key: str) -> Any:
    """The type of a setting; a whole effect (`augment.rotate`) is a dict, one entry of a mapping is text."""
    known = leaves()
    if key in known:
        return known[key]
    if key in sections():
        return dict
    parent = key.rsplit(".", 1)[0]
    if parent in known and get_origin(known[parent]) is dict:
        return str
    raise unknown(key)


def _parse(word: str) -> Override | None:
    try:
        return OverridesParser.create().parse_override(word)
    except HydraException:
        return None


def _refuse_several(key: str, value: str, sweep: bool) -> None:
    if not sweep:
        raise ConfigError(f"{key}={value}: names several values; add -m for one run each, or write a list as {key}=[{value}]")


def _quote(value: str) -> str:
    """Text as one quoted string of Hydra's grammar; only the quote, and a backslash before it, are special."""
    escaped = re.sub(r"(\\*)'", r"\1\1\\'", value)
    trailing = len(escaped) - len(escaped.rstrip("\\"))
    return f"'{escaped}{chr(92) * trailing}'"


def literal(key: str, value: str) -> str:
    """One word that sets `key` to the text `value`, whatever it holds."""
    return f"++{key}={_quote(value)}"


def single(words: Words, job: Sequence[str]) -> list[str]:
    """The words that repeat one job of a sweep as a run of its own, with the user's files by their paths."""
    return [_named_by_path(word, words.files) for word in job]


def _named_by_path(word: str, files: dict[str, Path]) -> str:
    key, _, value = word.partition("=")
    return f"{key}={files[value]}" if key == TASKS and value in files else word
