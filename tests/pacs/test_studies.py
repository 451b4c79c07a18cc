"""Series of a study that are the channels of one scan, as a node gets them."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import pytest

from segpipe.dicom.channels import Wanted
from segpipe.dicom.policy import Policy
from segpipe.inference.table import Row
from segpipe.pacs.coming import Limits
from segpipe.pacs.parcel import Parcel
from segpipe.pacs.spool import ASIDE, Spool
from segpipe.pacs.studies import StudyIntake
from tests.dicom.series import Series

pytest.importorskip("pydicom")
WANTED = (Wanted("T2", "t2*"), Wanted("ADC", "adc*"))
WAIT = 300.0


class Desk:
    """A spool without waiting, and an intake that takes T2 and ADC."""

    def __init__(self, out: Path) -> None:
        out.mkdir(exist_ok=True)
        self.out, self.now, self.stop = out, 1000.0, threading.Event()
        self.spool = Spool(out, Limits(quiet=5.0), self.clock)
        given = (self.spool, ("T2", "ADC"), Policy(), 2, self.stop, lambda: None)
        self.intake = StudyIntake(*given, wanted=WANTED, seconds=WAIT, clock=self.clock)

    def clock(self) -> float:
        return self.now

    def send(self, folder: Path, seed: int, words: str, study: str = "1.2.3.77", end: bool = True) -> list[Path]:
        paths = made(folder, seed, words, study)
        for path in paths:
            data = path.read_bytes()
            self.spool.put(Parcel.of_bytes(data, path.name), data, seed)
        if end:
            self.spool.ended(seed, True)
        return paths

    def look(self, after: float = 6.0) -> list[str]:
        self.now += after
        self.given = self.intake.look(lambda case: False) or []
        return [scan.case for scan in self.given]

    def files(self, place: str) -> int:
        return len(list((self.out / place).rglob("*.dcm")))


def made(folder: Path, seed: int, words: str, study: str) -> list[Path]:
    more = {"SeriesDescription": words, "StudyInstanceUID": study, "FrameOfReferenceUID": f"{study}.5"}
    shutil.rmtree(folder / str(seed), ignore_errors=True)
    return Series(seed=seed, modality="MR", more=more).write(folder / str(seed)).paths


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path / "out")


def test_a_study_is_segmented_once_each_channel_has_a_series_and_let_go_as_a_whole(desk: Desk, tmp_path: Path) -> None:
    desk.send(tmp_path, 1, "adc map")
    assert desk.look() == []
    desk.send(tmp_path, 2, "t2 tra")
    [case] = desk.look()
    [scan] = desk.given
    assert scan.problem == ""
    assert scan.slices is not None
    assert [len(scan.slices.planes), *(len(one.planes) for one in scan.slices.others)] == [8, 8]
    assert scan.input.startswith("series ")
    assert len(scan.input.split(";")) == 2
    assert desk.files(".taken") == 16
    desk.intake.ended(Row(case, "", "x.nii.gz", "done"))
    assert (desk.files(".taken"), desk.files(ASIDE)) == (0, 0)


def test_channels_of_two_studies_are_never_one_scan(desk: Desk, tmp_path: Path) -> None:
    desk.send(tmp_path, 1, "adc map", study="1.2.3.1")
    desk.send(tmp_path, 2, "t2 tra", study="1.2.3.2")
    assert desk.look() == []
    desk.send(tmp_path, 3, "t2 tra", study="1.2.3.1")
    assert len(desk.look()) == 1
    assert desk.files(".taken") == 24


def test_while_another_series_of_the_study_is_coming_it_waits_because_that_may_be_the_channel(desk: Desk, tmp_path: Path) -> None:
    desk.send(tmp_path, 1, "adc map")
    desk.send(tmp_path, 2, "t2 tra")
    desk.send(tmp_path, 3, "adc other", end=False)
    assert desk.look() == []
    desk.spool.ended(3, True)
    desk.look()
    [scan] = desk.given
    assert "2 series of the study" in scan.problem
    assert "fit the channel 'ADC'" in scan.problem


def test_a_study_without_a_channel_is_told_once_and_set_aside(desk: Desk, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    desk.send(tmp_path, 2, "t2 tra")
    assert desk.look() == []
    assert desk.look(WAIT / 2) == []
    assert desk.files(ASIDE) == 0
    for _ in range(3):
        assert desk.look(WAIT) == []
    [told] = [line for line in caplog.messages if line.startswith("study ")]
    assert "no series has come for the channel ADC 300 s after the last one" in told
    assert "send the whole study again" in told
    assert desk.files(ASIDE) == 8
    desk.send(tmp_path, 1, "adc map")
    desk.send(tmp_path, 2, "t2 tra")
    assert len(desk.look()) == 1
    assert desk.files(ASIDE) == 0


def test_a_study_of_which_a_series_is_never_whole_is_told_and_set_aside(
    desk: Desk, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    desk.send(tmp_path, 1, "adc map")
    desk.send(tmp_path, 2, "t2 tra")
    desk.send(tmp_path, 3, "adc other", end=False)
    desk.spool.ended(3, False)
    assert desk.look(WAIT / 2) == []
    assert "has broken off" in caplog.text
    assert desk.look(WAIT) == []
    assert "a series of it is not whole 300 s after the last one" in caplog.text
    assert desk.files(ASIDE) == 16


def test_what_is_none_of_the_channels_is_set_aside_at_once(desk: Desk, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    desk.send(tmp_path, 4, "scout")
    assert desk.look() == []
    assert desk.files(ASIDE) == 8
    assert "holds none of the channels T2, ADC" in caplog.text


def test_what_waited_when_a_node_was_killed_waits_for_the_rest_again(desk: Desk, tmp_path: Path) -> None:
    desk.send(tmp_path, 2, "t2 tra")
    assert desk.look() == []
    desk.send(tmp_path, 1, "adc map")
    desk.spool.close()
    again = Desk(desk.out)
    assert again.look(0.0) == []  # the rest is coming, as far as anybody knows
    assert len(again.look()) == 1
    again.spool.close()


def test_a_study_that_fails_is_set_aside_as_a_whole(desk: Desk, tmp_path: Path) -> None:
    desk.send(tmp_path, 1, "adc map")
    desk.send(tmp_path, 2, "t2 tra")
    [case] = desk.look()
    desk.intake.ended(Row(case, "", "", "failed", "no"))
    assert (desk.files(".taken"), desk.files(ASIDE)) == (0, 16)
