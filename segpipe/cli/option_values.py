"""Values of options, checked in the words of the command line."""

from __future__ import annotations

from segpipe.errors import ConfigError


def in_range(option: str, value: float, low: float, high: float) -> None:
    """Refuse a number outside of low..high.

    Raises:
        ConfigError: naming the option.
    """
    if not low <= value <= high:
        raise ConfigError(f"{option}: is {value:g}; must be {low:g} to {high:g}")


def one_of(option: str, value: str, choices: tuple[str, ...]) -> str:
    """The word, if it is one of the choices.

    Raises:
        ConfigError: naming the option.
    """
    if value not in choices:
        raise ConfigError(f"{option}: is {value!r}; must be one of {', '.join(choices)}")
    return value


def named_label(option: str, text: str) -> tuple[str, str]:
    """Value and name of `1=PZ`.

    Raises:
        ConfigError: of another form.
    """
    value, equals, name = text.partition("=")
    if not (equals and name.strip() and value.strip().lstrip("-").isdigit()):
        raise ConfigError(f"{option} {text}: must be VALUE=NAME with a whole number, such as {option} 1=PZ")
    return str(int(value)), name.strip()
