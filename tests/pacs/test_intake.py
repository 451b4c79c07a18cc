"""Complete series as scans, and what becomes of them."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from segpipe.dicom.policy import Policy
from segpipe.inference.table import Row
from segpipe.io.atomic import check_folder
from segpipe.pacs.coming import Limits
from segpipe.pacs.intake import Intake
from segpipe.pacs.parcel import Parcel
from segpipe.pacs.spool import ASIDE, Spool
from tests.dicom.series import Series
from tests.pacs.objects import make_object


class Desk:
    """A spool without waiting, and an intake."""

    def __init__(self, out: Path, ahead: int = 2) -> None:
        check_folder(out)
        out.mkdir(exist_ok=True)
        self.out, self.now, self.stop = out, 0.0, threading.Event()
        self.spool = Spool(out, Limits(), lambda: self.now)
        self.intake = Intake(self.spool, ("CT",), Policy(), ahead, self.stop, lambda: None)

    def send(self, paths: list[Path]) -> None:
        for path in paths:
            data = path.read_bytes()
            self.spool.put(Parcel.of_bytes(data, path.name), data, "sender")
        self.spool.ended("sender", True)

    def look(self) -> list[str]:
        self.now += 60
        return [scan.case for scan in self.intake.look(lambda case: False) or []]

    def files(self, place: str) -> int:
        return len(list((self.out / place).rglob("*.dcm")))


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path / "out")


def done(case: str) -> Row:
    return Row(case, "", f"{case}.nii.gz", "done")


def test_scans_are_given_a_few_at_a_time_and_their_files_go_when_they_are_done(desk: Desk, tmp_path: Path) -> None:
    for seed in (1, 2, 3):
        desk.send(Series(seed=seed).write(tmp_path / str(seed)).paths)
    first = desk.look()
    assert len(first) == 2
    assert desk.look() == []
    desk.intake.ended(done(first[0]))
    assert desk.files(".taken") == 8
    assert len(desk.look()) == 1


def test_a_series_with_two_stacks_is_kept_until_both_have_ended(desk: Desk, tmp_path: Path) -> None:
    series = Series(modality="MR", more={"EchoTime": "10"}, each=lambda n: {"EchoTime": "10" if n < 4 else "80"})
    desk.send(series.write(tmp_path / "made").paths)
    first, second = desk.look()
    desk.intake.ended(done(first))
    assert desk.files(".taken") == 8
    desk.intake.ended(done(second))
    assert desk.files(".taken") == 0


def test_a_series_that_fails_is_set_aside_with_all_its_files(desk: Desk, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    paths = Series().write(tmp_path / "made").paths
    desk.send(paths[:3] + paths[5:])  # a gap
    [case] = desk.look()
    desk.intake.ended(Row(case, "", "", "failed", "slices are missing"))
    assert (desk.files(".taken"), desk.files(ASIDE)) == (0, 6)
    assert f"was not segmented, and is set aside in {ASIDE}" in caplog.text


def test_a_series_whose_results_cannot_be_sent_is_kept(desk: Desk, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    desk.send(Series().write(tmp_path / "made").paths)
    [case] = desk.look()
    desk.intake.ended(done(case), "x.dcm: is no DICOM file")
    assert (desk.files(".taken"), desk.files(ASIDE)) == (0, 8)
    assert f"has results that cannot be sent, and is set aside in {ASIDE}" in caplog.text


def test_objects_that_are_no_scans_are_set_aside(desk: Desk, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make_object(tmp_path / "seg.dcm", "1.2.3", "x")
    desk.send([tmp_path / "seg.dcm"])
    assert desk.look() == []
    assert desk.files(ASIDE) == 1
    assert "holds no scan" in caplog.text


def test_a_slice_without_pixels_fails_its_series(desk: Desk, tmp_path: Path) -> None:
    import pydicom

    paths = Series().write(tmp_path / "made").paths
    ds = pydicom.dcmread(paths[2])
    ds.PixelData = b""
    ds.save_as(paths[2])
    desk.send(paths)
    desk.now += 60
    found = desk.intake.look(lambda case: False) or []
    assert found
    assert all(scan.problem for scan in found)


def test_what_a_killed_node_had_in_hand_comes_first(desk: Desk, tmp_path: Path) -> None:
    desk.send(Series(seed=1).write(tmp_path / "1").paths)
    [case] = desk.look()
    desk.send(Series(seed=2).write(tmp_path / "2").paths)
    desk.spool.close()
    again = Desk(desk.out, ahead=1)
    assert again.look() == [case]
    again.spool.close()


def test_no_more_scans_are_given_once_the_node_is_to_end(desk: Desk, tmp_path: Path) -> None:
    desk.send(Series().write(tmp_path / "made").paths)
    desk.stop.set()
    desk.now += 60
    assert desk.intake.look(lambda case: False) is None
