"""Structures chosen by name, pattern, number and code."""

from __future__ import annotations

import pytest

from segpipe.dicom.structures import Choice, Structure, choices_of, missing_of, values_of
from segpipe.errors import ConfigError, DataError

THERE = (
    Structure(1, "Liver", ("SCT:10200004",)),
    Structure(2, "Lesion 1"),
    Structure(3, "lesion 2", drawn=False),
    Structure(7, "GTV [old]"),
)


@pytest.mark.parametrize(
    ("which", "numbers"),
    [
        ("liver", [1]),
        ("LIV*", [1]),
        ("lesion*", [2, 3]),
        ("number=7", [7]),
        ("code=SCT:10200004", [1]),
        ("code=10200004", [1]),
        ("code=sct:*", [1]),
        ("spleen | liver|number=2", [1, 2]),
        ("gtv [old]", [7]),
        ("spleen", []),
    ],
)
def test_a_choice_fits(which: str, numbers: list[int]) -> None:
    assert [one.number for one in Choice(1, "x", which).of(THERE)] == numbers


@pytest.mark.parametrize("which", ["", "liver|", "number=x", "code="])
def test_a_choice_that_says_nothing_is_refused(which: str) -> None:
    with pytest.raises(ConfigError, match=r"dataset\.dicom\.labels\.x is"):
        Choice(1, "x", which)


def test_labels_are_numbered_in_their_order() -> None:
    assert values_of(THERE, choices_of({"tumour": "lesion*", "organ": "liver"})) == {1: 2, 2: 1, 3: 1}


def test_a_structure_of_two_labels_is_refused() -> None:
    with pytest.raises(DataError, match="the structure 'Liver' fits the labels 'a' and 'b'"):
        values_of(THERE, choices_of({"a": "liver", "b": "l*"}))


def test_what_is_missing_is_told_with_what_there_is() -> None:
    ((choice, why),) = missing_of(THERE, choices_of({"a": "liver", "b": "spleen"}))
    assert choice.name == "b"
    assert why == "holds no structure 'spleen' for the label 'b'; there are 1 'Liver', 2 'Lesion 1', 3 'lesion 2', 7 'GTV [old]'"
    assert [why for _, why in missing_of(THERE, choices_of({"c": "number=3"}))] == ["has nothing drawn of 'lesion 2' for the label 'c'"]
