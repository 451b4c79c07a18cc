"""What a segmentation or structure set says its structures are: codes and colours, as a model's label table holds them."""

from __future__ import annotations

from typing import Any

from segpipe.dicom.terms import ANATOMY, UNCODED, Code, Colour, Term

_OLD = ("SRT", "SNM3", "99SDM")
"""Schemes of SNOMED RT, whose codes SNOMED CT has replaced (PS3.16 8.1.1)."""
_LAB_MOST, _LAB_SPAN, _LAB_ZERO = 65535.0, 255.0, 128.0
_WHITE = (0.95047, 1.0, 1.08883)
"""D65: the white of those who write these colours (highdicom, dcmqi), not that of a profile connection space."""
_BEND = 6 / 29
_LINEAR = ((3.2406, -1.5372, -0.4986), (-0.9689, 1.8758, 0.0415), (0.0557, -0.2040, 1.0570))
"""XYZ -> red, green, blue (IEC 61966-2-1)."""


def term_of(item: Any, kind: str) -> Term | None:
    """What a structure is; None where that is not told, is no more than anatomy, or is more than a label holds (two modifiers).

    Args:
        item: of a segment (PS3.3 C.8.20.4), or of the observation of a region.
        kind: name of the sequence that holds its type.
    """
    types = item.get(kind) or []
    modifiers = (types[0].get("SegmentedPropertyTypeModifierCodeSequence") or []) if types else []
    if len(types) != 1 or len(modifiers) > 1:
        return None
    categories = item.get("SegmentedPropertyCategoryCodeSequence") or []
    category = _code(categories[0]) if categories else ANATOMY
    type_, modifier = _code(types[0]), _code(modifiers[0]) if modifiers else None
    if category is None or type_ is None or (modifiers and modifier is None):
        return None
    found = Term(category, type_, modifier)
    return None if found.same_as(UNCODED) else found


def _code(item: Any) -> Code | None:
    """None of those that are longer than a Code Value, or not whole."""
    value, scheme, meaning = (
        " ".join(str(item.get(name) or "").split()) for name in ("CodeValue", "CodingSchemeDesignator", "CodeMeaning")
    )
    if not (value and scheme and meaning):
        return None
    if scheme in _OLD:
        from pydicom.sr._snomed_dict import mapping

        value, scheme = (mapping["SRT"][value], "SCT") if value in mapping["SRT"] else (value, scheme)
    return Code(value, scheme, meaning)


def colour_of_segment(item: Any) -> Colour | None:
    """[Recommended Display CIELab Value] as red, green and blue; None where there is none, or no three numbers."""
    try:
        lightness, a, b = (float(value) for value in item.get("RecommendedDisplayCIELabValue") or ())
    except (TypeError, ValueError):
        return None
    y = (100 * lightness / _LAB_MOST + 16) / 116
    x = y + (_LAB_SPAN * a / _LAB_MOST - _LAB_ZERO) / 500
    z = y - (_LAB_SPAN * b / _LAB_MOST - _LAB_ZERO) / 200
    places = [white * (t**3 if t > _BEND else 3 * _BEND**2 * (t - 4 / 29)) for white, t in zip(_WHITE, (x, y, z), strict=True)]
    red, green, blue = (_shown(sum(k * place for k, place in zip(row, places, strict=True))) for row in _LINEAR)
    return red, green, blue


def _shown(linear: float) -> int:
    value = 12.92 * linear if linear <= 0.0031308 else 1.055 * linear ** (1 / 2.4) - 0.055
    return round(255 * min(max(value, 0.0), 1.0))


def colour_of_region(item: Any) -> Colour | None:
    """[ROI Display Color]; None where there is none."""
    values = item.get("ROIDisplayColor")
    try:
        red, green, blue = (min(max(int(value), 0), 255) for value in values or ())
    except (TypeError, ValueError):
        return None
    return red, green, blue
