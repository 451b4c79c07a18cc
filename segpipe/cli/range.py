"""Options whose values are checked before anything is loaded."""

from __future__ import annotations

from segpipe.errors import ConfigError


def in_range(option: str, value: float, low: float, high: float) -> None:
    """Refuse a number that no command can use.

    Raises:
        ConfigError: it is outside.
    """
    if not low <= value <= high:
        raise ConfigError(f"{option}: is {value:g}; must be {low:g} to {high:g}")


def one_of(option: str, value: str, choices: tuple[str, ...]) -> str:
    """Refuse a word that is none of `choices`.

    Raises:
        ConfigError: it is none.
    """
    if value not in choices:
        raise ConfigError(f"{option}: is {value!r}; must be one of {', '.join(choices)}")
    return value
