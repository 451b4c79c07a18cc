"""Where series lie, through kills and repetitions."""

from __future__ import annotations

from pathlib import Path

import pytest

from segpipe.dicom.identity import short
from segpipe.pacs.parcel import Parcel
from segpipe.pacs.spool import ASIDE, INCOMING, TAKEN, FullError, Limits, Spool

NAME = short("1.2\0001.3")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Box:
    """A spool, its clock, and a sender."""

    def __init__(self, out: Path, **limits: float) -> None:
        self.out, self.clock, self.limits = out, Clock(), Limits(quiet=5.0, **limits)  # type: ignore[arg-type]
        out.mkdir(exist_ok=True)
        self.spool = Spool(out, self.limits, self.clock)

    def put(self, *instances: str, end: bool = True) -> None:
        for instance in instances:
            self.spool.put(Parcel("1.9", instance, "1.2", "1.3", "1.8"), instance.encode(), "sender")
        if end:
            self.spool.ended("sender", True)

    def take(self, after: float = 6.0) -> str | None:
        self.clock.now += after
        return self.spool.take()

    def killed(self) -> None:
        """A new process finds what the old one has left; the operating system frees its locks."""
        self.spool.close()
        self.spool = Spool(self.out, self.limits, self.clock)

    def names(self, place: str) -> set[str]:
        return {path.name for path in (self.out / place).rglob("*.dcm")}


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path / "out")


def files(*instances: str) -> set[str]:
    return {f"{short(instance)}.dcm" for instance in instances}


def test_a_series_is_in_one_place_at_a_time(box: Box) -> None:
    box.put("1", "2")
    assert box.take() == NAME
    assert (box.names(INCOMING), box.names(TAKEN)) == (set(), files("1", "2"))
    box.spool.done(NAME)
    assert not list(box.out.rglob("*.dcm"))


def test_after_a_kill_a_complete_series_waits_its_seconds_again(box: Box) -> None:
    box.put("1")
    box.killed()
    assert box.take(4.0) is None
    assert box.take(2.0) == NAME


def test_after_a_kill_a_series_whose_sender_was_at_it_is_not_taken_for_a_whole_one(box: Box, caplog: pytest.LogCaptureFixture) -> None:
    box.put("1", end=False)
    box.killed()
    assert box.take(60.0) is None
    assert "broken off" in caplog.text
    box.put("1", "2")
    assert box.take() == NAME


def test_a_broken_series_is_taken_on_request_after_a_longer_time(tmp_path: Path) -> None:
    box = Box(tmp_path / "out", broken=True)
    box.put("1", end=False)
    box.spool.ended("sender", False)
    assert box.take(49.0) is None
    assert box.take(2.0) == NAME


def test_after_a_kill_a_taken_series_is_there_to_be_taken_again(box: Box) -> None:
    box.put("1")
    box.take()
    box.killed()
    assert box.spool.left == [NAME]


def test_what_comes_again_is_dropped_what_is_more_is_new_and_what_is_late_is_set_aside(box: Box, caplog: pytest.LogCaptureFixture) -> None:
    box.put("1", "2")
    box.take()
    box.spool.done(NAME)
    box.put("1")
    assert box.take() is None
    assert box.names("") == set()
    box.put("3")
    assert box.take() is None
    assert box.names(ASIDE) == files("3")
    assert "have come after it was segmented and are set aside" in caplog.text
    box.put("1", "2", "3")
    assert box.take() == NAME
    box.spool.done(NAME)
    box.put("4")
    assert box.take() is None
    assert box.names(ASIDE) == files("3", "4")  # nothing is written over


def test_what_comes_while_its_series_is_in_hand_waits_for_its_end(box: Box) -> None:
    box.put("1", "2")
    box.take()
    box.put("3")
    assert box.take(60.0) is None
    assert box.names(TAKEN) == files("1", "2")
    box.spool.done(NAME)
    assert box.take() is None
    assert box.names(ASIDE) == files("3")


def test_what_a_kill_left_half_removed_is_not_found_again(box: Box) -> None:
    box.put("1", "2")
    box.take()
    (box.out / ".removed").mkdir()
    (box.out / TAKEN / NAME).rename(box.out / ".removed" / NAME)
    box.killed()
    assert box.spool.left == []
    assert not (box.out / ".removed").exists()


def test_room_is_counted_again_after_a_kill_and_freed_with_the_files(tmp_path: Path) -> None:
    box = Box(tmp_path / "out", bytes=4)
    box.put("1", "2")
    box.killed()
    with pytest.raises(FullError):
        box.spool.put(Parcel("1.9", "3", "1.2", "9.9", "1.8"), b"3", "sender")  # a new series, and half the room is used
    box.put("3", "4")
    with pytest.raises(FullError):
        box.put("5")
    box.spool.ended("sender", True)
    assert box.take() == NAME
    box.spool.done(NAME)
    box.put("6")


def test_a_disk_that_cannot_be_written_is_full_to_the_sender(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1, 1, 0))  # type: ignore[attr-defined]
    with pytest.raises(FullError, match="the disk is full"):
        box.put("1")
