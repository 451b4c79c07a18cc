"""Whose the objects are, which UIDs they have, and what of a patient leaves them."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

from segpipe.dicom.writing.record import Maker
from segpipe.dicom.writing.results import record_of, redated, write_results
from segpipe.dicom.writing.wanted import KINDS, Wanted
from segpipe.errors import DataError, GeometryError
from tests.dicom.series import Series
from tests.dicom.writing.given import MAKER, TABLE, WHEN, blobs, faults, given, laid, needs_highdicom, read, record, written

needs_highdicom()


def all_bytes(source: Any, labels: Any, **more: Any) -> dict[str, bytes]:
    return dict(write_results(record(source, labels, KINDS, **more), labels))


@pytest.fixture
def scan(tmp_path: Path) -> tuple[Any, Any]:
    made = Series().write(tmp_path / "in")
    source, numbers = given(tmp_path / "in")
    return source, laid(blobs(made.stored.shape), numbers)


def test_the_same_scan_model_and_words_make_the_same_bytes(scan: tuple[Any, Any]) -> None:
    first, second = all_bytes(*scan), all_bytes(*scan)
    assert {kind: hashlib.sha256(data).hexdigest() for kind, data in first.items()} == {
        kind: hashlib.sha256(data).hexdigest() for kind, data in second.items()
    }


def test_another_day_is_the_same_object_and_another_model_label_map_or_word_is_not(scan: tuple[Any, Any]) -> None:
    source, labels = scan
    other = labels.copy()
    other[0, 0, 0] = 7
    base = record(source, labels, KINDS)
    assert record(source, labels, KINDS, when=datetime(2030, 1, 1)).instance("sr") == base.instance("sr")
    changed = [
        record(source, other, KINDS),
        record(source, labels, KINDS, maker=replace(MAKER, sha256="cd" * 32)),
        record(source, labels, KINDS, maker=replace(MAKER, options="tta")),
        record(source, labels, KINDS, maker=replace(MAKER, warnings=("spacing",))),
        record(source, labels, KINDS, table=TABLE[:1]),
        record(source, labels, KINDS, description="other"),
        record(source, labels, KINDS, number=7),
    ]
    uids = [one.instance(kind) for one in (base, *changed) for kind in KINDS]
    assert len(set(uids)) == len(uids)
    assert all(pydicom.uid.UID(uid).is_valid and len(uid) <= 64 for uid in uids)


def moved(n: int) -> dict[str, Any]:
    return {"ImagePositionPatient": ["-31.7", "12.3", f"{-88.1 + 2.5 * n + 0.5:.9f}"]}


@pytest.mark.parametrize(
    "other",
    [
        {"more": {"PatientID": "OTHER"}},
        {"more": {"PatientName": "Other^Name"}},
        {"more": {"PatientBirthDate": "19500204"}},
        {"more": {"PatientSex": "M"}},
        {"more": {"StudyInstanceUID": "1.2.3.99"}},
        {"more": {"AccessionNumber": "A10"}},
        {"more": {"SliceThickness": "2.0"}},
        {"each": moved},
        {"axes": ((1.0, 0.0, 0.0), (0.0, -1.0, 0.0))},
        {"spacing": (0.8, 0.71)},
        {"number": 4},
    ],
    ids=lambda other: next(iter(other)) + "-" + next(iter(other.get("more", {"": 0}))),
)
def test_what_was_corrected_at_the_source_makes_other_objects(scan: tuple[Any, Any], other: dict[str, Any], tmp_path: Path) -> None:
    source, labels = scan
    Series(**other).write(tmp_path / "other")
    corrected = given(tmp_path / "other")[0]
    assert corrected.grid.shape == source.grid.shape
    base, now = record(source, labels, KINDS), record(corrected, labels, KINDS)
    assert not {base.instance(kind) for kind in KINDS} & {now.instance(kind) for kind in KINDS}
    assert now.instance("sc") == record(given(tmp_path / "other")[0], labels, KINDS).instance("sc")


def test_other_pixels_make_another_overview_alone(scan: tuple[Any, Any], tmp_path: Path) -> None:
    source, labels = scan
    Series(stored=Series().values() // 2).write(tmp_path / "other")
    base, now = record(source, labels, KINDS), record(given(tmp_path / "other")[0], labels, KINDS)
    assert [kind for kind in KINDS if base.instance(kind) != now.instance(kind)] == ["sc"]


def test_an_object_that_lies_there_keeps_its_date(scan: tuple[Any, Any], tmp_path: Path) -> None:
    source, labels = scan
    (path,) = written(source, labels, tmp_path, "dicom-seg")
    later = record(source, labels, ("dicom-seg",), when=datetime(2031, 1, 1))
    kept = redated(later, "dicom-seg", path)
    assert kept is not None
    assert kept.when == WHEN
    assert dict(write_results(kept, labels))["dicom-seg"] == path.read_bytes()
    assert redated(record(source, labels, ("dicom-seg",), number=9), "dicom-seg", path) is None
    path.write_bytes(path.read_bytes()[:200])
    assert redated(later, "dicom-seg", path) is None


@pytest.mark.parametrize(
    ("characters", "name"),
    [
        ("ISO_IR 100", "Müller^Jürgen"),
        ("ISO_IR 192", "山田^太郎"),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        ("", "Plain^Name"),
    ],
)
def test_patient_and_study_are_those_of_the_series_in_any_script(characters: Any, name: str, tmp_path: Path) -> None:
    more = {
        "SpecificCharacterSet": characters,
        "PatientName": name,
        "PatientBirthDate": "19500203",
        "PatientSex": "F",
        "PatientAge": "070Y",
        "StudyID": "17",
        "StudyDate": "20200101",
        "StudyTime": "101112",
        "AccessionNumber": "A9",
        "StudyDescription": "MR",
        "ReferringPhysicianName": "Dr^Who",
        "OperatorsName": "Op^Erator",
        "InstitutionName": "Hospital",
        "StationName": "SCANNER1",
    }
    Series(more=more).write(tmp_path / "in")
    source, numbers = given(tmp_path / "in")
    for path in written(source, np.zeros(numbers.shape, np.uint8), tmp_path, *KINDS):
        ds = read(path)
        assert str(ds.PatientName) == name
        for key in ("PatientID", "PatientBirthDate", "PatientSex", "PatientAge", "StudyID", "StudyDate", "StudyTime", "AccessionNumber"):
            assert str(ds[key].value) == more.get(key, "SECRET7")
        assert (ds.StudyInstanceUID, ds.SpecificCharacterSet) == ("1.2.3.77", "ISO_IR 192")
        assert "Erator" not in str(ds)
        assert "SCANNER1" not in str(ds)
        assert faults(path) == []


def test_values_that_break_the_rules_are_taken_as_they_are(tmp_path: Path) -> None:
    more = {"PatientSex": "F", "PatientBirthDate": "19500203", "PatientID": "x" * 60, "PatientAge": "070Y", "PatientWeight": "71.5"}
    wrong = ((b"CS\x02\x00F ", b"CS\x02\x00?!"), (b"19500203", b"02/03/50"), (b"070Y", b"old "), (b"71.5", b"fat "))
    for path in Series(more=more).write(tmp_path / "in").paths:
        data = path.read_bytes()
        for good, bad in wrong:
            assert good in data
            data = data.replace(good, bad)
        path.write_bytes(data)
    source, numbers = given(tmp_path / "in")
    for path in written(source, np.zeros(numbers.shape, np.uint8), tmp_path, *KINDS):
        ds = read(path)
        found = (ds.PatientID, ds.PatientSex, str(ds.PatientBirthDate), ds.PatientAge)
        assert found == ("x" * 60, "?!", "02/03/50", "old")


@pytest.mark.parametrize("name", ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID"])
def test_a_series_that_cannot_be_referred_to_is_refused_with_what_it_lacks(name: str, tmp_path: Path) -> None:
    for path in Series().write(tmp_path / "in").paths:
        ds = read(path)
        ds[name].value = ""
        ds.save_as(path)
    with pytest.raises(DataError, match=f"states no {name}"):
        given(tmp_path / "in")


def test_slices_that_share_a_uid_are_refused(tmp_path: Path) -> None:
    for path in Series().write(tmp_path / "in").paths:
        ds = read(path)
        ds.SOPInstanceUID = "1.2.3.4"
        ds.save_as(path)
    with pytest.raises(DataError, match="share a SOPInstanceUID"):
        given(tmp_path / "in")


def test_a_label_map_of_another_size_is_refused(scan: tuple[Any, Any]) -> None:
    source, labels = scan
    with pytest.raises(GeometryError, match="must have those of its series"):
        record_of(source, labels[1:], TABLE, Wanted(KINDS), Maker("t", "0"), WHEN)


def test_neither_logs_nor_errors_name_the_patient(scan: tuple[Any, Any], caplog: pytest.LogCaptureFixture) -> None:
    source, labels = scan
    caplog.set_level(logging.INFO)
    all_bytes(source, labels)
    broken = replace(source, planes=tuple(replace(plane, position=("Secret", "Name", "SECRET7")) for plane in source.planes))  # type: ignore[arg-type]
    with pytest.raises(DataError) as caught:
        list(write_results(replace(record(source, labels, ("rtstruct",)), source=broken), labels))
    for text in (caplog.text, str(caught.value)):
        assert "ecret" not in text
        assert "SECRET" not in text
        assert "1.2.3." not in text


def test_series_are_numbered_and_described_as_wanted(scan: tuple[Any, Any], tmp_path: Path) -> None:
    source, labels = scan
    own = [read(path) for path in written(source, labels, tmp_path, *KINDS, description="Prostate AI", number=500)]
    assert [(ds.SeriesNumber, ds.SeriesDescription) for ds in own] == [
        (500, "Prostate AI segmentation"),
        (501, "Prostate AI contours"),
        (502, "Prostate AI volumes"),
        (503, "Prostate AI overview"),
    ]
    usual = [read(path) for path in written(source, labels, tmp_path, *KINDS)]
    assert [(ds.SeriesNumber, ds.SeriesDescription) for ds in usual][:2] == [
        (3001, "segpipe prostate segmentation, not for diagnosis"),
        (3002, "segpipe prostate contours, not for diagnosis"),
    ]
    assert len({ds.SeriesInstanceUID for ds in own + usual}) == 8
