"""Which mirrorings are allowed: none that would exchange left and right labels; and settings along x, y, z in the network's order."""

from __future__ import annotations

import itertools
import logging
import re
from collections.abc import Collection, Sequence
from typing import TypeVar

from segpipe.dataset.fingerprint import Fingerprint
from segpipe.errors import ConfigError
from segpipe.settings import PlanSettings

log = logging.getLogger(__name__)

OR_TWO = {2: ", or two, along the axes of the network's slices (pictures: rows, columns)", 3: ""}
_SIDE_WORDS = (
    "l|r|lt|rt|lft|rgt|lh|rh",
    r"links\w*|rechts\w*|linke[rsnm]?|rechte[rsnm]?|li|re",  # German; Dutch
    r"sinist\w*|dext\w*|sin|dex|sx|dx|destr[oaie]",  # Latin, Italian
    "izquierd[oa]s?|derech[oa]s?|izq|izd[oa]|dch[oa]",  # Spanish
    "esquerd[oa]s?|direit[oa]s?|esq",  # Portuguese
    "gauches?|droite?s?|gche|dte",  # French
)
_SIDES = re.compile(rf"^({'|'.join(_SIDE_WORDS)})$|^(left|right)|(left|right)$")
_SIDE_LETTERS = ({"l", "r"}, {"s", "d"}, {"g", "d"}, {"i", "d"}, {"e", "d"})
"""Left and right in the languages of `_SIDE_WORDS`."""
_NO_SIDES = ("bright", "upright", "copyright", "cleft", "outright", "downright")
_T = TypeVar("_T")
_SIDE_AXIS = 0  # RAS: x runs from left to right


def decide_flips(
    wanted: PlanSettings,
    data: Fingerprint,
    axes: tuple[int, int, int],
    dims: int,
    reasons: dict[str, str],
    regions: Collection[str] = (),
) -> tuple[bool, bool, bool]:
    """Mirroring is allowed but where it would exchange left and right labels.

    Args:
        regions: names of overlapping regions, which are looked at as those of the labels are.
    """
    names = sorted({*(name for value, name in data.label_names.items() if value in data.label_values), *regions})
    sided = [name for name in names if has_side(name)]
    sided += [f"{data.label_names[one]} beside {data.label_names[other]}" for one, other in data.mirrored]
    world = [True, True, True]
    reasons["flips"] = "no label has a side in its name, and no two lie left and right of each other"
    dropped = range(2) if data.picture else (_SIDE_AXIS,)
    if wanted.flips:
        if len(wanted.flips) not in (dims, 3):
            raise ConfigError(f"plan.flips is {wanted.flips}; must be three of true or false (x, y, z){OR_TWO[dims]}")
        for axis, allowed in zip(axes, along(axes, wanted.flips), strict=False):
            world[axis] = allowed
        reasons["flips"] = "set by hand"
    elif not sided and any(axis in axes[:dims] for axis in dropped):
        _warn_of_pairs(names, data.picture)
    if sided:
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
    """Whether a label's name says left or right: `kidney_left`, `LeftKidney`, `LKidney`, `parotid lt`, `hippocampus sin`, `linke Niere`."""
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<![A-Za-z][LR])(?<=[LR])(?=[A-Z][a-z])", " ", name)
    words = [word for word in re.split(r"[\W\d_]+", apart.lower()) if word and word not in _NO_SIDES]
    return any(_SIDES.search(word) for word in words)


def _warn_of_pairs(names: Sequence[str], picture: bool) -> None:
    """Tell of names that differ by one letter that may stand for left and right: `lkidney` and `rkidney`, `rein g` and `rein d`."""
    for one, other in itertools.combinations(names, 2):
        differing = [{a, b} for a, b in zip(one.lower(), other.lower(), strict=False) if a != b]
        if len(one) == len(other) and len(differing) == 1 and differing[0] in _SIDE_LETTERS:
            by_hand = "[false,false]" if picture else "[false,true,true]"
            log.warning("labels %s and %s: if these are left and right, set plan.flips=%s; patches are mirrored now", one, other, by_hand)
