"""The label table: what the settings say of each label's code and colour, for DICOM results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TypeVar

from segpipe.dataset.case import Meaning
from segpipe.dicom.terms import Colour, Term, parse_term
from segpipe.errors import ConfigError
from segpipe.plan.plan import Label
from segpipe.settings import DatasetSettings

_CHANNELS = 3
T = TypeVar("T")


def described(
    labels: tuple[Label, ...], settings: DatasetSettings, told: Mapping[int, Meaning], reasons: dict[str, str]
) -> tuple[Label, ...]:
    """The labels with their codes and colours. What is told of a label that there is none of has no effect: a task's codes must not
    follow its values to a data set that calls them otherwise.

    Args:
        told: by value, what the data set says; the settings have the last word.
        reasons: gets where the codes are from.

    Raises:
        ConfigError: what is told is no code or no colour.
    """
    terms = {key: _term(key, words) for key, words in settings.label_codes.items()}
    colours = {key: _colour(key, values) for key, values in settings.label_colours.items()}
    own = {label.value: told.get(label.value, Meaning()) for label in labels}
    found = tuple(
        replace(label, term=_of(terms, label) or own[label.value].term, colour=_of(colours, label) or own[label.value].colour)
        for label in labels
    )
    taken = [label.name for label in found if label.term is not None and _of(terms, label) is None]
    words = [f"of {', '.join(taken)} from its segmentations, which agree"] if taken else []
    if any(label.term is not None and label.name not in taken for label in found):
        words.append("set by hand (dataset.label_codes)")
    if words:
        reasons["codes"] = "; ".join(words)
    return found


def _of(told: Mapping[str, T], label: Label) -> T | None:
    """By the label's name, else by its value."""
    return told.get(label.name, told.get(str(label.value)))


def _term(key: str, words: list[str]) -> Term:
    try:
        return parse_term(words)
    except ConfigError as error:
        raise ConfigError(f"dataset.label_codes.{key}: {error}") from error


def _colour(key: str, values: list[int]) -> Colour:
    if len(values) != _CHANNELS:
        raise ConfigError(f"dataset.label_colours.{key}: has {len(values)} numbers; must be three, red, green and blue: [230, 25, 75]")
    red, green, blue = values
    return red, green, blue
