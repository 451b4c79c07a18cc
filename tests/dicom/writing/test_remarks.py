"""What every object says of itself: no diagnosis, and what was warned of."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from segpipe.dicom.writing.remarks import LONG_TEXT, NOT_FOR_DIAGNOSIS, SHORT_TEXT, headline, remarks
from segpipe.dicom.writing.wanted import KINDS
from tests.dicom.series import Series
from tests.dicom.writing.given import MAKER, blobs, faults, given, laid, needs_highdicom, read, record, written

highdicom: Any = needs_highdicom()

ODD = ("spacing along z is 8 mm, in training 3 mm", "Größe\nof PZ\\TZ has 34 ml, in training 1 to 6 ml")


def test_warnings_that_have_no_room_are_counted_and_none_is_cut() -> None:
    assert remarks((), SHORT_TEXT) == NOT_FOR_DIAGNOSIS
    assert remarks(("a", "b\nc"), SHORT_TEXT) == f"{NOT_FOR_DIAGNOSIS} Warnings: a; b c"
    many = [f"label {n} has 10 ml, in training 1 to 2 ml" for n in range(400)]
    for most in (SHORT_TEXT, LONG_TEXT):
        text = remarks(many, most)
        *shown, rest = text.partition(" Warnings: ")[2].split("; ")
        assert len(text) <= most < len(text) + 50
        assert shown == many[: len(shown)]
        assert rest == f"{400 - len(shown)} more than there is room for, see predictions.csv"
    assert remarks(["x" * 2000], SHORT_TEXT).endswith("1 more than there is room for, see predictions.csv")
    assert [headline(many[:n]) for n in (0, 1, 2)] == ["not for diagnosis", "1 warning, not for diagnosis", "2 warnings, not for diagnosis"]


def comments(path: Path) -> list[str]:
    """Of the qualitative evaluations of a report."""
    content = highdicom.sr.srread(path).content
    found = [item for item in content[0].ContentSequence if item.name.meaning == "Qualitative Evaluations"]
    return [item.value for item in found[0].ContentSequence if item.name.value == "121106"]


@pytest.mark.parametrize(
    ("warnings", "seg_type"),
    [
        ((), "binary"),
        (ODD, "binary"),
        (ODD, "labelmap"),
        (tuple(f"label {n} has 10 ml, in training 1 to 2 ml" for n in range(400)), "binary"),
    ],
)
def test_every_object_says_it_where_the_standard_has_room(warnings: tuple[str, ...], seg_type: Any, tmp_path: Path) -> None:
    made = Series().write(tmp_path / "in")
    source, numbers = given(tmp_path / "in")
    labels = laid(blobs(made.stored.shape), numbers)
    paths = written(source, labels, tmp_path, *KINDS, maker=replace(MAKER, warnings=warnings), seg_type=seg_type)
    binary = seg_type == "binary"  # dciodvfy of 2022 knows no label map, nor a report that refers to one
    assert [faults(path) for path in (paths if binary else (paths[1], paths[3]))] == [[]] * (4 if binary else 2)
    seg, contours, report, overview = map(read, paths)
    short, whole = remarks(warnings, SHORT_TEXT), remarks(warnings, LONG_TEXT)
    assert seg.ImageComments == overview.ImageComments == whole
    assert seg.ContentDescription == f"{headline(warnings)}; segpipe prostate"
    described = [item.SegmentDescription for item in seg.SegmentSequence if item.SegmentNumber]
    assert described == [short, short]
    assert contours.StructureSetDescription == short
    assert [item.ROIDescription for item in contours.StructureSetROISequence] == [short, short]
    assert comments(paths[2]) == [NOT_FOR_DIAGNOSIS, *warnings]
    assert len(highdicom.sr.srread(paths[2]).content.get_volumetric_roi_measurement_groups()) == 2
    for ds in (seg, contours, report, overview):
        assert ds.SeriesDescription.endswith(headline(warnings))
        assert len(ds.SeriesDescription) <= 64


def test_another_warning_is_another_object(tmp_path: Path) -> None:
    Series().write(tmp_path / "in")
    source, numbers = given(tmp_path / "in")
    each = [record(source, numbers * 0, KINDS, maker=replace(MAKER, warnings=one)) for one in ((), ("a",), ("b",), ("a", "b"), ("a; b",))]
    uids = [one.instance(kind) for one in each for kind in KINDS]
    assert len(set(uids)) == len(uids)


def test_a_description_that_was_given_stays_as_it_is(tmp_path: Path) -> None:
    Series().write(tmp_path / "in")
    source, numbers = given(tmp_path / "in")
    paths = written(source, numbers * 0, tmp_path, "dicom-seg", "sc", maker=replace(MAKER, warnings=ODD), description="Prostate AI")
    assert [read(path).SeriesDescription for path in paths] == ["Prostate AI segmentation", "Prostate AI overview"]
    assert all("spacing along z" in read(path).ImageComments for path in paths)


def test_the_picture_grows_by_the_lines_of_its_warnings(tmp_path: Path) -> None:
    Series().write(tmp_path / "in")
    source, numbers = given(tmp_path / "in")
    tall = []
    for warnings in ((), ODD, ODD * 3):
        (path,) = written(source, numbers * 0, tmp_path, "sc", maker=replace(MAKER, warnings=warnings))
        ds = read(path)
        tall.append(ds.Rows)
        below = ds.pixel_array[-8:]
        assert below.max() < 255 or not below[:, -8:].any()  # nothing is written over the rims
    assert tall[0] < tall[1] < tall[2]
