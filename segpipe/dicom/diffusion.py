"""How strongly, and along which direction, a picture is weighted by diffusion: the standard's attributes, else the vendors' own."""

from __future__ import annotations

from typing import Any

_STANDARD_B = "DiffusionBValue"
_STANDARD_DIRECTION = "DiffusionGradientOrientation"
_GE_MULTIPLE = 1_000_000_000
_FIRST_CREATOR = 0x0010
_PRIVATE = (
    ("SIEMENS MR HEADER", 0x0019, 0x0C),
    ("GEMS_PARM_01", 0x0043, 0x39),
    ("Philips Imaging DD 001", 0x2001, 0x03),
)
"""Private creator, group and element of the b-value (vendors' conformance statements); GE adds a multiple of 1e9."""


def b_value(item: Any) -> float | None:
    """b in s/mm2 of a header, or of an item of the MR Diffusion Sequence; None where it is not told."""
    stated = item.get(_STANDARD_B)
    if stated is not None:
        return _number(stated)
    for creator, group, element in _PRIVATE:
        if (group, _FIRST_CREATOR) not in item:  # looking for a block goes through the whole header
            continue
        try:
            value = item.private_block(group, creator)[element].value
        except (KeyError, ValueError):  # no such block
            continue
        number = _number(value)
        if number is not None:
            return number % _GE_MULTIPLE
    return None


def gradient(item: Any) -> tuple[float | None, ...]:
    """The direction, three numbers, or three None."""
    nested = item.get("DiffusionGradientDirectionSequence")
    source = nested[0] if nested else item
    value = source.get(_STANDARD_DIRECTION)
    if value is None or not hasattr(value, "__len__") or len(value) != 3:
        return None, None, None
    return tuple(_number(one) for one in value)


def _number(value: Any) -> float | None:
    if hasattr(value, "__len__") and not isinstance(value, str | bytes):
        value = value[0] if len(value) else None
    if isinstance(value, bytes):
        value = value.decode("ascii", "ignore").strip("\0 ").split("\\")[0]
    try:
        return None if value in (None, "") else float(value)
    except (TypeError, ValueError):
        return None
