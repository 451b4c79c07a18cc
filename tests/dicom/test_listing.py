"""Files -> what DICOM is among them."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from segpipe.dicom.files import candidates
from segpipe.dicom.listing import list_stacks, read_all
from segpipe.dicom.policy import Policy, parse_policy
from segpipe.dicom.verdict import judge
from segpipe.dicom.volume import read_stack
from segpipe.errors import ConfigError, DataError
from tests.dicom.series import Series, furthest_mm, save


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_other_files_and_the_index_are_passed_over(tmp_path: Path) -> None:
    Series().write(tmp_path / "a")
    index = Dataset()
    index.SOPClassUID, index.SOPInstanceUID, index.DirectoryRecordSequence = "1.2.840.10008.1.3.10", "1.2.8", []
    save(index, tmp_path / "DICOMDIR")
    save(index, tmp_path / "index_by_another_name")
    for name, data in (("notes.txt", b"x" * 500), ("empty", b""), ("zeros", bytes(4000)), ("short", b"\x08\x00\x05\x00CS")):
        (tmp_path / name).write_bytes(data)
    listing = list_stacks(files(tmp_path))
    assert len(listing.stacks) == 1
    assert not listing.faults
    assert listing.others == 5


def test_a_zip_archive_is_read_without_unpacking_it(tmp_path: Path) -> None:
    made = Series().write(tmp_path / "in")
    archive = tmp_path / "scans.ZIP"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        for n, path in enumerate(made.paths):
            packed.write(path, f"CD/{n % 2}/{path.name}")
        packed.writestr("__MACOSX/._x", b"y" * 300)
        packed.writestr("../../outside", made.paths[0].read_bytes())
        packed.writestr("CD/README.TXT", b"y" * 300)
    listing = list_stacks([archive])
    (stack,) = listing.stacks
    assert listing.others == 1
    scan = read_stack(stack, Policy())
    assert furthest_mm(scan.volume.array, scan.volume.grid, made) < 1e-6


def test_a_file_that_is_called_dcm_and_is_none_is_a_fault_of_the_series_beside_it(tmp_path: Path) -> None:
    made = Series().write(tmp_path / "in")
    last = tmp_path / "in" / "last.DCM"
    made.paths[-1].rename(last)
    last.write_bytes(b"garbage " * 100)  # at an end of the series, where no gap tells of it
    listing = list_stacks(files(tmp_path))
    (stack,), (fault,) = listing.stacks, listing.faults
    assert (fault.path, fault.series) == (last, stack.planes[0].series)
    assert "is no DICOM" in fault.why
    with pytest.raises(DataError, match="last.DCM"):
        read_stack(stack, Policy())
    alone = list_stacks([last])
    assert (len(alone.faults), alone.others) == (1, 0)


def test_a_damaged_archive_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "bad.zip").write_bytes(b"PK\x03\x04" + bytes(99))
    Series().write(tmp_path / "in")
    assert len(list_stacks(files(tmp_path)).stacks) == 1
    assert "bad.zip: passed over" in caplog.text
    assert candidates([tmp_path / "DICOMDIR"]) == []


def test_damaged_files_are_faults_with_a_reason(tmp_path: Path) -> None:
    made = Series().write(tmp_path)
    whole = made.paths[0].read_bytes()
    made.paths[0].write_bytes(whole[:150])
    made.paths[1].write_bytes(whole.replace(b"PS-31", b"PS-31").replace(b"0.8\\0.7 ", b"0.8\\abc "))
    made.paths[2].write_bytes(bytes(128) + b"DICM" + bytes(100))
    listing = list_stacks(files(tmp_path))
    assert {fault.path.name for fault in listing.faults} == {"IM0000", "IM0001", "IM0002"}
    assert all("\n" not in fault.why for fault in listing.faults)
    with pytest.raises(DataError, match="IM0000"):
        read_all([made.paths[0]])


def test_a_series_of_which_a_slice_is_lost_is_refused_even_where_what_is_left_is_regular(tmp_path: Path) -> None:
    made = Series(seed=1).write(tmp_path / "damaged")
    made.paths[7].write_bytes(made.paths[7].read_bytes().replace(b"0.8\\0.7 ", b"0.8\\abc "))
    Series(seed=2, each=lambda n: {"ImagePositionPatient": None} if n == 0 else {}).write(tmp_path / "nowhere")
    Series(seed=3).write(tmp_path / "whole")
    listing = list_stacks(files(tmp_path))
    verdicts = {(stack.first.path.parent.name, len(stack.planes)): judge(stack, Policy()) for stack in listing.stacks}
    assert "the file IM0007 is damaged" in verdicts["damaged", 7].why
    assert "the file IM0000 of the series does not say where it lies" in verdicts["nowhere", 7].why
    assert {key for key, verdict in verdicts.items() if verdict.action == "accept"} == {("whole", 8)}


def test_without_pydicom_one_line_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Series().write(tmp_path)
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(DataError, match=r"pydicom is not installed.*pip install 'segpipe\[dicom\]'"):
        list_stacks(files(tmp_path))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "x").write_bytes(b"text" * 100)
    assert not list_stacks(files(tmp_path / "other")).stacks


def test_a_policy_is_read_from_words_and_told_again() -> None:
    policy = parse_policy(["gap=resample,single=accept", "tilted=accept"])
    assert policy == Policy(gap="resample", single="accept", tilted="accept")
    assert parse_policy([policy.to_text()]) == policy
    assert Policy().to_text() == ""
    for word, said in (
        ("gap=accept", "must be one of refuse, resample"),
        ("hole=resample", "must be CLASS=ACTION"),
        ("gap", "CLASS=ACTION"),
    ):
        with pytest.raises(ConfigError, match=said):
            parse_policy([word])
