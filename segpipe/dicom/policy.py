"""What is done with a stack of each class: taken as it is, repaired, or refused."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from segpipe.errors import ConfigError

Action = Literal["accept", "resample", "refuse"]

_ALLOWED: dict[str, tuple[Action, ...]] = {
    "regular": ("accept", "refuse"),
    "multiframe": ("accept", "refuse"),
    "duplicate": ("accept", "refuse"),
    "tilted": ("resample", "accept", "refuse"),
    "single": ("refuse", "accept"),
    "gap": ("refuse", "resample"),
    "variable": ("refuse", "resample"),
    "colour": ("refuse",),
}
"""The default first. A gap or a varying distance cannot be accepted: no grid has the slices where they are."""


@dataclass(frozen=True)
class Policy:
    """One word a class.

    Attributes:
        regular: evenly spaced slices, one behind the other.
        multiframe: several slices in one file; their places make the other classes.
        duplicate: several pictures at one place. accept: exact copies are dropped; pictures that differ are refused in any case.
        tilted: the stack leans (gantry tilt). resample: onto a straight grid, within slices; label maps go back onto these. accept: the
            network sees the leaning stack as if it were straight, on a sheared grid that is true.
        single: one slice. accept: a volume of one slice, as thick as it states.
        gap: slices are missing among evenly spaced ones. resample: blended from their neighbours.
        variable: distances vary. resample: onto even distances, blended; label maps lie on that grid.
        colour: always refused.

    Raises:
        ConfigError: an action that a class does not have.
    """

    regular: Action = "accept"
    multiframe: Action = "accept"
    duplicate: Action = "accept"
    tilted: Action = "resample"
    single: Action = "refuse"
    gap: Action = "refuse"
    variable: Action = "refuse"
    colour: Action = "refuse"

    def __post_init__(self) -> None:
        for name, allowed in _ALLOWED.items():
            action = getattr(self, name)
            if action not in allowed:
                raise ConfigError(f"the policy for {name} series is {action!r}; must be one of {', '.join(allowed)}")

    def to_text(self) -> str:
        """Where it differs from the default: `gap=resample,single=accept`."""
        pairs = ((field.name, getattr(self, field.name), field.default) for field in dataclasses.fields(self))
        return ",".join(f"{name}={action}" for name, action, default in pairs if action != default)


def parse_policy(words: Iterable[str]) -> Policy:
    """A policy from `CLASS=ACTION` words, several of them joined by commas too.

    Raises:
        ConfigError: no such class, or an action that it does not have.
    """
    chosen: dict[str, str] = {}
    for word in (part.strip() for words_ in words for part in words_.split(",")):
        name, equals, action = word.partition("=")
        if not word:
            continue
        if not equals or name not in _ALLOWED:
            raise ConfigError(f"the policy {word!r} is not known; must be CLASS=ACTION with a class of {', '.join(_ALLOWED)}")
        chosen[name] = action
    return Policy(**chosen)  # type: ignore[arg-type] # checked by the class itself
