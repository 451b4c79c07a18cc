"""Which mirrorings are allowed: none that would exchange left and right labels; and settings along x, y, z in the network's order."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from typing import TypeVar

from segpipe.dataset.fingerprint import Fingerprint
from segpipe.errors import ConfigError
from segpipe.settings import PlanSettings

log = logging.getLogger(__name__)

OR_TWO = {2: ", or two, along the axes of the network's slices", 3: ""}
_SIDES = re.compile(
    r"^(left|right|links|rechts|gauche|droite?|sinist\w*|dext\w*|sin|dex|lh|rh|lt|rt|l|r|li|re)$|^(left|right)|(left|right)$"
)
_NO_SIDES = ("bright", "upright", "copyright", "cleft", "outright", "downright")
_T = TypeVar("_T")
_SIDE_AXIS = 0  # RAS: x runs from left to right


def decide_flips(
    wanted: PlanSettings, data: Fingerprint, axes: tuple[int, int, int], dims: int, reasons: dict[str, str]
) -> tuple[bool, bool, bool]:
    """Mirroring is allowed but where it would exchange left and right labels."""
    sided = sorted(name for value, name in data.label_names.items() if value in data.label_values and has_side(name))
    sided += [f"{data.label_names[one]} beside {data.label_names[other]}" for one, other in data.mirrored]
    world = [True, True, True]
    reasons["flips"] = "no label has a side in its name, and no two lie left and right of each other"
    if wanted.flips:
        if len(wanted.flips) not in (dims, 3):
            raise ConfigError(f"plan.flips is {wanted.flips}; must be three of true or false (x, y, z){OR_TWO[dims]}")
        for axis, allowed in zip(axes, along(axes, wanted.flips), strict=False):
            world[axis] = allowed
        reasons["flips"] = "set by hand"
    if sided:
        dropped = range(2) if data.picture else (_SIDE_AXIS,)
        by_hand = bool(wanted.flips) and any(world[axis] for axis in dropped if axis in axes[:dims])
        for axis in dropped:
            world[axis] = False
        reasons["flips"] = f"mirroring would exchange left and right: {', '.join(sided)}"
        if by_hand:
            log.warning("plan.flips allows a flip that exchanges left and right labels (%s): it is dropped", ", ".join(sided))
    ordered = [world[a] for a in axes]
    if dims == 2:
        ordered[2] = False
    return (ordered[0], ordered[1], ordered[2])


def along(axes: tuple[int, int, int], values: Sequence[_T]) -> list[_T]:
    """Three values along x, y, z in the network's order; two are in it already: those of a 2D network's slices."""
    return [values[axis] for axis in axes] if len(values) == 3 else list(values)


def has_side(name: str) -> bool:
    """Whether a label's name says left or right: `kidney_left`, `LeftKidney`, `parotid lt`, `leftkidney`, `hippocampus sin`."""
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    words = [word for word in re.split(r"[^A-Za-z]+", apart.lower()) if word and word not in _NO_SIDES]
    return any(_SIDES.search(word) for word in words)
