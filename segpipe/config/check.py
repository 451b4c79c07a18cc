"""Values from YAML and the command line, checked against the dataclasses of `segpipe.settings` and built into `Settings`.

OmegaConf treats a frozen dataclass as a read-only node and cannot name the key of every misfit, so that the check is here: it
names the key, the value and what is allowed, and it knows ranges and choices.
"""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Callable
from typing import Any

from segpipe.config.keys import join, unknown
from segpipe.errors import ConfigError
from segpipe.settings import Effect, Settings

_TRUE, _FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")


def to_settings(values: dict[Any, Any]) -> Settings:
    """Build the settings from nested plain values; what is left out keeps its default.

    Raises:
        ConfigError: an unknown key, a wrong type, a value out of its range or choice.
    """
    settings: Settings = _build(Settings, values, "")
    if settings.dataset.split == "folds" and settings.dataset.fold >= settings.dataset.folds:
        folds = settings.dataset.folds
        raise ConfigError(f"dataset.fold: is {settings.dataset.fold}; must be 0 to {folds - 1}, because dataset.folds is {folds}")
    return settings


def _build(kind: Any, values: Any, where: str) -> Any:
    """One dataclass from a mapping, recursively."""
    if not isinstance(values, dict):
        first = join(where, dataclasses.fields(kind)[0].name)
        raise ConfigError(f"{where}: is {_show(values)}; must hold settings, such as {first}")
    hints, fields = typing.get_type_hints(kind), {field.name: field for field in dataclasses.fields(kind)}
    built: dict[str, Any] = {}
    for name, value in values.items():
        key = join(where, str(name))
        if name not in fields:
            raise unknown(key)
        if dataclasses.is_dataclass(hints[name]):
            built[name] = _build(hints[name], value, key)
        elif value is not None:  # null keeps the default
            built[name] = _leaf(hints[name], value, key, fields[name].metadata)
    result = kind(**built)
    if isinstance(result, Effect) and result.low > result.high:
        raise ConfigError(f"{where}: low {result.low:g} is above high {result.high:g}; swap them")
    return result


def _leaf(hint: Any, value: Any, key: str, limits: typing.Mapping[str, Any]) -> Any:
    """One setting: converted to its type, then held against its range or choice."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is dict:
        if not isinstance(value, dict):
            raise ConfigError(f"{key}: is {_show(value)}; must be a mapping, such as {_EXAMPLES.get(arguments[1], '{whole: [1, 2]}')}")
        return {str(name): _leaf(arguments[1], item, f"{key}.{name}", limits) for name, item in value.items()}
    if origin is list:
        if typing.get_origin(arguments[0]) is list:
            if not isinstance(value, list | tuple):
                raise ConfigError(f"{key}: is {_show(value)}; must be a list of lists: [[..., ...], [..., ...]]")
            return [_leaf(arguments[0], item, f"{key}[{index}]", limits) for index, item in enumerate(value)]
        if isinstance(value, str) and arguments[0] is str:
            value = [value]
        if not isinstance(value, list | tuple):
            raise ConfigError(f"{key}: is {_show(value)}; must be a list, each {_allowed(arguments[0], limits)}: [..., ...]")
        return [_scalar(arguments[0], item, f"{key}[{index}]", limits) for index, item in enumerate(value)]
    return _scalar(hint, value, key, limits)


def _scalar(kind: Any, value: Any, key: str, limits: typing.Mapping[str, Any]) -> Any:
    try:
        converted = _CONVERT[kind](value)
    except (TypeError, ValueError, OverflowError):
        raise ConfigError(f"{key}: is {_show(value)}; must be {_allowed(kind, limits)}") from None
    if "low" in limits and not limits["low"] <= converted <= limits["high"]:
        raise ConfigError(f"{key}: is {converted:g}; must be {_allowed(kind, limits)}")
    if "choices" in limits and converted not in limits["choices"]:
        raise ConfigError(f"{key}: is {_show(converted)}; must be {_allowed(kind, limits)}")
    return converted


def _allowed(kind: Any, limits: typing.Mapping[str, Any]) -> str:
    """What a setting may be, in words."""
    if "choices" in limits:
        return f"one of {', '.join(limits['choices'])}"
    word = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}[kind]
    return f"{word} from {_number(limits['low'])} to {_number(limits['high'])}" if "low" in limits else word


def _number(value: float) -> str:
    return f"{value:.0f}" if float(value).is_integer() else f"{value:g}"


def _show(value: Any) -> str:
    text = "empty" if value is None else repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _to_bool(value: Any) -> bool:
    text = str(value).lower()
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    raise ValueError(text)


def _to_int(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float | str) or (isinstance(value, float) and not value.is_integer()):
        raise ValueError(str(value))
    return int(value)


def _to_float(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str) or not math.isfinite(float(value)):
        raise ValueError(str(value))
    return float(value)


def _to_str(value: Any) -> str:
    if not isinstance(value, str | int | float):
        raise TypeError(str(value))
    return str(value)


_EXAMPLES: dict[Any, str] = {str: '{"1": PZ, "2": TZ}', float: '{"PZ": 1, "TZ": 2.5}'}
_CONVERT: dict[Any, Callable[[Any], Any]] = {bool: _to_bool, int: _to_int, float: _to_float, str: _to_str}
