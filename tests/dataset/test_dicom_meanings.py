"""Codes and colours that a model takes over from the segmentations that it is trained on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pydicom
import pytest

from segpipe.dataset.audit import audit
from segpipe.dataset.case import DataSet, Meaning
from segpipe.dataset.fingerprint import fingerprint
from segpipe.dataset.load import load_dataset
from segpipe.dataset.measure import measure
from segpipe.dicom.meaning import colour_of_segment
from segpipe.dicom.terms import Code, Term
from segpipe.plan.planner import make_plan
from segpipe.settings import Settings
from tests.dataset.test_dicom_layout import load, settings
from tests.dicom.examinations import write_study
from tests.dicom.test_meaning import LEFT, LIVER, TISSUE, coded

GREEN, BLUE = [43803, 26565, 37722], [38399, 29410, 23264]
Change = Callable[[Any], None]


def say(path: Path, code: Code = LIVER, *modifiers: Code, colour: list[int] | None = None) -> None:
    """What the first segment of a file is."""
    ds = pydicom.dcmread(path)
    first = ds.SegmentSequence[0]
    first.SegmentedPropertyCategoryCodeSequence = [coded(TISSUE)]
    first.SegmentedPropertyTypeCodeSequence = [coded(code, *modifiers)]
    if colour:
        first.RecommendedDisplayCIELabValue = colour
    ds.save_as(path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for number in range(3):
        write_study(tmp_path / "data", number)
        say(tmp_path / "data" / f"study{number}" / "SEG.dcm", LIVER, LEFT, colour=GREEN)
    return tmp_path / "data"


def told(data: DataSet) -> str:
    return "\n".join(f"{one.what}: {one.cure}" for one in data.findings)


def test_codes_and_colours_that_all_cases_agree_on_are_those_of_the_plan(root: Path) -> None:
    data = load(root)
    assert data.label_names == {1: "core", 2: "shell"}
    green = colour_of_segment(pydicom.dcmread(root / "study0" / "SEG.dcm").SegmentSequence[0])
    assert data.meanings[2] == Meaning(Term(TISSUE, LIVER, LEFT), green)
    assert data.meanings[1].colour is None  # nobody told it
    plan = make_plan("task", fingerprint(data, measure(data, workers=1)), Settings(dataset=settings(root)), "cpu")
    assert [(label.term, label.colour) for label in plan.segment_labels] == [
        (data.meanings[1].term, None),
        (Term(TISSUE, LIVER, LEFT), green),
    ]
    assert plan.reasons["codes"] == "of core, shell from its segmentations, which agree"
    assert told(data) == ""


@pytest.mark.parametrize(
    ("code", "modifiers"), [(Code("51114001", "SCT", "Artery"), (LEFT,)), (LIVER, ()), (LIVER, (Code("24028007", "SCT", "Right"),))]
)
def test_where_one_case_differs_none_is_taken_and_a_line_says_so(root: Path, code: Code, modifiers: tuple[Code, ...]) -> None:
    say(root / "study1" / "SEG.dcm", code, *modifiers, colour=GREEN)
    data = load(root)
    assert data.meanings[2].term is None
    assert data.meanings[2].colour is not None
    assert "the segmentations differ in what 'shell' is (" in told(data)
    assert "SCT 10200004 Liver (SCT 7771000 Left)" in told(data) and "say what it is with dataset.label_codes.shell" in told(data)
    assert any(one.severity == "warning" and "differ in what" in one.what for one in audit(data, measure(data, workers=1)))


def test_other_words_for_the_same_codes_and_silence_are_no_difference(root: Path) -> None:
    say(root / "study1" / "SEG.dcm", Code("10200004", "SCT", "Leber"), LEFT, colour=GREEN)
    say(root / "study2" / "SEG.dcm", Code("", "", ""))
    data = load(root)
    assert data.meanings[2].term is not None
    assert told(data) == ""


def test_colours_that_differ_are_not_taken(root: Path) -> None:
    say(root / "study1" / "SEG.dcm", LIVER, LEFT, colour=BLUE)
    data = load(root)
    assert data.meanings[2] == Meaning(Term(TISSUE, LIVER, LEFT), None)
    assert told(data) == "the segmentations differ in the colour of shell; none is taken: nothing, or say which with dataset.label_colours"


@pytest.mark.parametrize(("key", "names"), [("shell", {}), ("2", {}), ("organ", {"2": "organ"})])
def test_the_settings_have_the_last_word_and_then_nothing_is_asked(root: Path, key: str, names: dict[str, str]) -> None:
    say(root / "study1" / "SEG.dcm", Code("51114001", "SCT", "Artery"), colour=BLUE)
    own = replace(settings(root), label_codes={key: ["SCT 41216001 Prostate"]}, label_colours={key: [1, 2, 3]}, label_names=names)
    data = load_dataset(own)
    assert told(data) == ""
    plan = make_plan("task", fingerprint(data, measure(data, workers=1)), Settings(dataset=own), "cpu")
    label = plan.segment_labels[1]
    assert label.term is not None
    assert (label.term.type.value, label.colour) == ("41216001", (1, 2, 3))


def test_regions_of_structure_sets_have_colours_and_codes_too(tmp_path: Path) -> None:
    for number in range(2):
        write_study(tmp_path, number, kind="RTSTRUCT")
        path = tmp_path / f"study{number}" / "RTSTRUCT.dcm"
        ds = pydicom.dcmread(path)
        ds.RTROIObservationsSequence[0].RTROIIdentificationCodeSequence = [coded(LIVER)]
        ds.ROIContourSequence[0].ROIDisplayColor = [230, 25, 75]
        ds.save_as(path)
    data = load(tmp_path, labels={"whole": "whole"})
    assert data.meanings[1].term is not None and data.meanings[1].term.type == LIVER
    assert data.meanings[1].colour == (230, 25, 75)
