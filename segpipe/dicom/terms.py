"""What a label stands for in words of a dictionary, and its colour: plain values that a plan holds and DICOM objects are made with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from segpipe.errors import ConfigError

Colour = tuple[int, int, int]
"""Red, green, blue, 0 to 255."""


_MOST_CODES = 3
_LONGEST_VALUE, _LONGEST_MEANING = 16, 64


@dataclass(frozen=True)
class Code:
    """One entry of a dictionary (PS3.3 8.8): `Code("41216001", "SCT", "Prostate")`, SNOMED CT being SCT."""

    value: str
    scheme: str
    meaning: str


@dataclass(frozen=True)
class Term:
    """What is segmented (PS3.3 C.8.20.4).

    Attributes:
        category: of the property, from CID 7150.
        type: the property itself.
        modifier: of the type: a side, or which part; None where the type says it all.
    """

    category: Code
    type: Code
    modifier: Code | None = None

    def same_as(self, other: Term) -> bool:
        """Whether both are the same codes, whatever words go with them."""
        return self._values == other._values

    @property
    def _values(self) -> tuple[tuple[str, str] | None, ...]:
        return tuple(None if code is None else (code.scheme, code.value) for code in (self.category, self.type, self.modifier))

    def __str__(self) -> str:
        """For people: `SCT 5366008 Hippocampus (SCT 255549009 Anterior)`."""
        words = f"{self.type.scheme} {self.type.value} {self.type.meaning}"
        return words if self.modifier is None else f"{words} ({self.modifier.scheme} {self.modifier.value} {self.modifier.meaning})"


@dataclass(frozen=True)
class SegmentLabel:
    """One label of a label map.

    Attributes:
        value: in the array.
        term: None where nobody has said what it is; then a DICOM object calls it an anatomical structure.
        colour: None: one of the palette.
    """

    value: int
    name: str
    term: Term | None = None
    colour: Colour | None = None


ANATOMY = Code("91723000", "SCT", "Anatomical Structure")
UNCODED = Term(ANATOMY, ANATOMY)
"""For labels without a code: the category stands for the type too, and the label's name tells people the rest."""

_PALETTE: tuple[Colour, ...] = (
    (230, 25, 75),
    (60, 180, 75),
    (67, 99, 216),
    (255, 225, 25),
    (245, 130, 49),
    (145, 30, 180),
    (66, 212, 244),
    (240, 50, 230),
    (191, 239, 69),
    (250, 190, 212),
    (70, 153, 144),
    (220, 190, 255),
    (154, 99, 36),
    (255, 250, 200),
    (128, 0, 0),
    (170, 255, 195),
    (128, 128, 0),
    (255, 216, 177),
    (0, 0, 117),
)


def colour_of(number: int, label: SegmentLabel) -> Colour:
    """A label's own colour, else that of its place (from 0) in the palette, which begins again a little darker each time."""
    if label.colour is not None:
        return label.colour
    turn, place = divmod(number, len(_PALETTE))
    red, green, blue = _PALETTE[place]
    share = 0.75**turn
    return round(red * share), round(green * share), round(blue * share)


def parse_term(words: Sequence[str]) -> Term:
    """`["SCT 279706003 Peripheral zone of the prostate"]` -> a term: its type, then its modifier and its category, where there are any.

    Raises:
        ConfigError: not one to three codes, each a scheme, a value and a meaning.
    """
    if not 1 <= len(words) <= _MOST_CODES:
        raise ConfigError(f"has {len(words)} codes; must be the type, which may be followed by a modifier and a category")
    codes = [_parse_code(text) for text in words]
    return Term(codes[2] if len(codes) == _MOST_CODES else ANATOMY, codes[0], codes[1] if len(codes) > 1 else None)


def _parse_code(text: str) -> Code:
    parts = text.split(maxsplit=2)
    if len(parts) != _MOST_CODES or len(parts[1]) > _LONGEST_VALUE or len(parts[2]) > _LONGEST_MEANING:
        raise ConfigError(f"is {text!r}; must be SCHEME VALUE MEANING, such as SCT 41216001 Prostate")
    return Code(parts[1], parts[0], parts[2])


def segment_label_from_json(value: dict[str, Any]) -> SegmentLabel:
    """What `dataclasses.asdict` made of a label."""
    told = value["term"]
    codes = {key: None if one is None else Code(**one) for key, one in told.items()} if told else {}
    colour = value["colour"]
    term = Term(**codes) if codes else None  # type: ignore[arg-type]  # the modifier alone may be None
    return SegmentLabel(value["value"], value["name"], term, None if colour is None else tuple(colour))
