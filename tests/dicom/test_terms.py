"""Codes and colours of labels."""

from __future__ import annotations

import dataclasses
import json

import pytest

from segpipe.dicom.terms import ANATOMY, Code, SegmentLabel, Term, colour_of, parse_term, segment_label_from_json
from segpipe.errors import ConfigError


def test_a_term_is_its_type_then_its_modifier_and_its_category() -> None:
    lesion, left, abnormal = "SCT 52988006 Lesion", "SCT 7771000 Left", "SCT 49755003 Morphologically Abnormal Structure"
    assert parse_term([lesion]) == Term(ANATOMY, Code("52988006", "SCT", "Lesion"))
    full = parse_term([lesion, left, abnormal])
    assert full.modifier == Code("7771000", "SCT", "Left")
    assert full.category == Code("49755003", "SCT", "Morphologically Abnormal Structure")


@pytest.mark.parametrize("words", [[], ["Lesion"], ["SCT 1"], ["SCT 12345678901234567 Lesion"], ["SCT 1 a"] * 4, ["SCT 1 " + "x" * 65]])
def test_what_is_no_code_is_refused(words: list[str]) -> None:
    with pytest.raises(ConfigError, match="must be"):
        parse_term(words)


def test_labels_travel_as_json() -> None:
    labels = [
        SegmentLabel(3, "x"),
        SegmentLabel(3, "x", parse_term(["SCT 1 a", "SCT 2 b"]), (1, 2, 3)),
        SegmentLabel(3, "x", parse_term(["SCT 1 a"])),
    ]
    assert [segment_label_from_json(json.loads(json.dumps(dataclasses.asdict(label)))) for label in labels] == labels


def test_colours_differ_for_sixty_labels() -> None:
    colours = [colour_of(number, SegmentLabel(number, "x")) for number in range(60)]
    assert len(set(colours)) == 60
    assert colour_of(4, SegmentLabel(1, "x", None, (9, 8, 7))) == (9, 8, 7)
