"""Which of the structures that a segmentation or structure set holds are meant: by name, pattern, number or code."""

from __future__ import annotations

import fnmatch
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from segpipe.dicom.terms import Colour, Term
from segpipe.errors import ConfigError, DataError

_SHOWN = 12
_WILD = "*?["
_KEYS = ("name", "number", "code")


@dataclass(frozen=True)
class Structure:
    """One segment or region of interest.

    Attributes:
        number: [Segment Number] or [ROI Number].
        name: [Segment Label] or [ROI Name].
        codes: what it is as `SCHEME:VALUE`, `SCT:10200004`; empty where that is not told.
        drawn: whether anything of it is there: a frame, or a closed contour of three points and more.
        term: what it is, in full, where a label can hold that.
        colour: in which it is to be shown.
    """

    number: int
    name: str
    codes: tuple[str, ...] = ()
    drawn: bool = True
    term: Term | None = None
    colour: Colour | None = None


@dataclass(frozen=True)
class Choice:
    """A label, and which structures it is made of.

    Attributes:
        value: in the label map, from 1; of two labels at one voxel the higher one is the later one.
        name: of the label.
        which: alternatives joined by `|`, each a name (`liver`), a pattern (`lesion*`), `number=3` or `code=SCT:10200004` (or
            `code=10200004`); letter case does not count. What has no `*`, `?` or `[` must fit one structure alone.

    Raises:
        ConfigError: an alternative that cannot be understood.
    """

    value: int
    name: str
    which: str

    def __post_init__(self) -> None:
        for key, text in self._alternatives():
            if not text or (key == "number" and not text.isdigit()):
                raise ConfigError(
                    f"dataset.dicom.labels.{self.name} is {self.which!r}; must be names or patterns of structures, number=3 or "
                    "code=SCT:10200004, several joined by |"
                )

    def _alternatives(self) -> list[tuple[str, str]]:
        found = []
        for part in self.which.split("|"):
            key, equals, text = part.partition("=")
            known = bool(equals) and key.strip().lower() in _KEYS
            found.append((key.strip().lower(), text.strip()) if known else ("name", part.strip()))
        return found

    @property
    def plain(self) -> bool:
        """Whether no alternative is a pattern, so that one structure is meant."""
        return not any(sign in text for _, text in self._alternatives() for sign in _WILD)

    def among(self, structures: Sequence[Structure]) -> bool:
        """Whether any of them is meant."""
        return any(_fits(one, key, text) for one in structures for key, text in self._alternatives())

    def of(self, structures: Sequence[Structure]) -> tuple[Structure, ...]:
        """Those that are meant, each once, in their own order.

        Raises:
            DataError: a plain name (or code) that several have.
        """
        taken: list[Structure] = []
        for key, text in self._alternatives():
            fitting = [one for one in structures if _fits(one, key, text)]
            if len(fitting) > 1 and not any(sign in text for sign in _WILD):
                numbers = ", ".join(str(one.number) for one in fitting)
                raise DataError(
                    f"{len(fitting)} structures are called {text!r} (numbers {numbers}); which one {self.name!r} is cannot be told: choose "
                    f"it with dataset.dicom.labels (number={fitting[-1].number}), or take all with a pattern ({text}*)"
                )
            taken += fitting
        return tuple(one for one in structures if one in taken)


def _fits(one: Structure, key: str, text: str) -> bool:
    if key == "number":
        return one.number == int(text)
    wanted = text.lower()
    if key == "code":
        return any(fnmatch.fnmatchcase(code.lower(), wanted) or code.lower().partition(":")[2] == wanted for code in one.codes)
    return fnmatch.fnmatchcase(one.name.lower(), wanted) or one.name.lower() == wanted


def choices_of(labels: dict[str, str]) -> tuple[Choice, ...]:
    """The labels of the setting `dataset.dicom.labels`, numbered from 1 in their order.

    Raises:
        ConfigError: see `Choice`.
    """
    return tuple(Choice(number, name, which) for number, (name, which) in enumerate(labels.items(), 1))


def values_of(structures: Sequence[Structure], choices: Sequence[Choice]) -> dict[int, int]:
    """Number of each structure that is meant -> value of its label.

    Raises:
        DataError: one structure for two labels, or see `Choice.of`.
    """
    found: dict[int, Choice] = {}
    for choice in choices:
        for one in choice.of(structures):
            first = found.setdefault(one.number, choice)
            if first is not choice:
                raise DataError(
                    f"the structure {one.name!r} fits the labels {first.name!r} and {choice.name!r}; must fit one: make "
                    "dataset.dicom.labels more exact"
                )
    return {number: choice.value for number, choice in found.items()}


def missing_of(structures: Sequence[Structure], choices: Sequence[Choice]) -> list[tuple[Choice, str]]:
    """The labels that a case lacks, and why as a phrase: no such structure, or nothing drawn of it.

    Raises:
        DataError: see `Choice.of`.
    """
    lacking = []
    for choice in choices:
        fitting = choice.of(structures)
        if not fitting:
            lacking.append((choice, f"holds no structure {choice.which!r} for the label {choice.name!r}; there are {shown(structures)}"))
        elif not any(one.drawn for one in fitting):
            names = ", ".join(repr(one.name) for one in fitting)
            lacking.append((choice, f"has nothing drawn of {names} for the label {choice.name!r}"))
    return lacking


def shown(structures: Sequence[Structure]) -> str:
    """Numbers and names, for messages."""
    names = [f"{one.number} {one.name!r}" for one in structures[:_SHOWN]]
    more = len(structures) - _SHOWN
    return (", ".join(names) + (f" and {more} more" if more > 0 else "")) or "none"


def check_numbers(structures: Sequence[Structure]) -> None:
    """Refuse two structures of one number, which nothing could tell apart.

    Raises:
        DataError: there are such.
    """
    twice = [number for number, count in Counter(one.number for one in structures).items() if count > 1]
    if twice:
        raise DataError(f"has the number {twice[0]} for several structures; must be one each: it is damaged, export it again")
