"""Codes and colours of structures."""

from __future__ import annotations

from typing import Any

import pytest

from segpipe.dicom.meaning import colour_of_region, colour_of_segment, term_of
from segpipe.dicom.terms import ANATOMY, Code, SegmentLabel, Term, colour_of
from tests.dicom.annotations import item

TYPE = "SegmentedPropertyTypeCodeSequence"
TISSUE, LIVER = Code("85756007", "SCT", "Tissue"), Code("10200004", "SCT", "Liver")
LEFT = Code("7771000", "SCT", "Left")


def coded(code: Code, *modifiers: Code, **more: Any) -> Any:
    found = item(CodeValue=code.value, CodingSchemeDesignator=code.scheme, CodeMeaning=code.meaning, **more)
    if modifiers:
        found.SegmentedPropertyTypeModifierCodeSequence = [coded(one) for one in modifiers]
    return found


def segment(type_: Code, *modifiers: Code, category: Code | None = TISSUE) -> Any:
    found = item(**{TYPE: [coded(type_, *modifiers)]})
    if category is not None:
        found.SegmentedPropertyCategoryCodeSequence = [coded(category)]
    return found


def test_type_modifier_and_category_are_a_term() -> None:
    assert term_of(segment(LIVER), TYPE) == Term(TISSUE, LIVER)
    assert term_of(segment(LIVER, LEFT), TYPE) == Term(TISSUE, LIVER, LEFT)
    assert term_of(segment(LIVER, category=None), TYPE) == Term(ANATOMY, LIVER)
    assert str(Term(TISSUE, LIVER, LEFT)) == "SCT 10200004 Liver (SCT 7771000 Left)"


def test_what_no_label_can_hold_or_says_nothing_is_no_term() -> None:
    for nothing in (
        segment(LIVER, LEFT, LEFT),
        segment(ANATOMY, category=ANATOMY),
        segment(Code("", "SCT", "Liver")),
        segment(Code("1", "SCT", "")),
        segment(LIVER, Code("", "", "")),
        item(**{TYPE: []}),
        item(),
    ):
        assert term_of(nothing, TYPE) is None


def test_codes_of_snomed_rt_are_those_of_snomed_ct() -> None:
    old = term_of(segment(Code("T-62000", "SRT", "Liver"), category=Code("T-D0050", "SRT", "Tissue")), TYPE)
    assert old is not None and old.same_as(Term(TISSUE, LIVER))
    unknown = term_of(segment(Code("T-XYZ", "SRT", "Liver")), TYPE)
    assert unknown is not None and unknown.type == Code("T-XYZ", "SRT", "Liver")


def test_terms_are_compared_by_their_codes_and_not_their_words() -> None:
    assert Term(TISSUE, LIVER).same_as(Term(TISSUE, Code("10200004", "SCT", "Leber")))
    for other in (Term(ANATOMY, LIVER), Term(TISSUE, TISSUE), Term(TISSUE, LIVER, LEFT), Term(TISSUE, Code("10200004", "99X", "Liver"))):
        assert not Term(TISSUE, LIVER).same_as(other)


def test_colours_are_those_that_highdicom_writes() -> None:
    highdicom: Any = pytest.importorskip("highdicom", reason="highdicom is not installed: pip install 'segpipe[dicom]'")
    ends = [(0, 0, 0), (255, 255, 255), (255, 0, 0), (0, 0, 255), (1, 2, 3)]
    for one in [colour_of(number, SegmentLabel(1, "x")) for number in range(40)] + ends:
        again = colour_of_segment(item(RecommendedDisplayCIELabValue=list(highdicom.color.CIELabColor.from_rgb(*one).value)))
        assert again is not None
        assert max(abs(a - b) for a, b in zip(one, again, strict=True)) <= 1


def test_colours_that_are_none_are_none() -> None:
    assert colour_of_segment(item()) is None
    assert colour_of_segment(item(RecommendedDisplayCIELabValue=[1, 2])) is None
    assert colour_of_region(item()) is None
    assert colour_of_region(item(ROIDisplayColor=[1, 2])) is None
    assert colour_of_region(item(ROIDisplayColor=[230, 25, 300])) == (230, 25, 255)
