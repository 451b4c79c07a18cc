"""Where series lie, through kills and repetitions."""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
import stat
import threading
from pathlib import Path

import pytest

from segpipe.dicom.identity import short
from segpipe.pacs import spool
from segpipe.pacs.coming import Limits
from segpipe.pacs.parcel import Parcel
from segpipe.pacs.spool import ASIDE, INCOMING, TAKEN, FullError, Spool

NAME = short("1.2\0001.3")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Box:
    """A spool, its clock, and a sender."""

    def __init__(self, out: Path, **limits: float) -> None:
        self.out, self.clock, self.limits = out, Clock(), Limits(**{"quiet": 5.0, **limits})  # type: ignore[arg-type]
        out.mkdir(exist_ok=True)
        self.spool = Spool(out, self.limits, self.clock)

    def put(self, *instances: str, end: bool = True, data: bytes = b"") -> None:
        for instance in instances:
            self.spool.put(Parcel("1.9", instance, "1.2", "1.3", "1.8"), data or instance.encode(), "sender")
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
    assert box.names(ASIDE) == files("4")  # what joined the whole is not there twice


def test_what_comes_after_a_first_part_that_was_set_aside_is_judged_with_it(box: Box) -> None:
    box.put("1")
    assert box.take() == NAME
    box.spool.set_aside(NAME)
    box.killed()
    box.put("2", "3")
    assert box.take() == NAME
    assert (box.names(TAKEN), box.names(ASIDE)) == (files("1", "2", "3"), set())
    box.spool.set_aside(NAME)  # once more as a whole, and nothing comes back by itself
    assert box.take(600.0) is None
    assert box.names(ASIDE) == files("1", "2", "3")


def test_a_rest_that_comes_while_the_first_part_is_in_hand_is_judged_with_it(box: Box) -> None:
    box.put("1")
    box.take()
    box.put("2", "3")
    box.spool.set_aside(NAME)
    assert box.take() == NAME
    assert box.names(TAKEN) == files("1", "2", "3")


def test_a_kill_while_parts_are_joined_loses_none(box: Box) -> None:
    box.put("1", "2")
    box.take()
    box.spool.set_aside(NAME)
    box.put("3")
    moved = f"{short('1')}.dcm"
    (box.out / ASIDE / NAME / moved).rename(box.out / INCOMING / NAME / moved)
    box.killed()
    assert box.take() == NAME
    assert box.names(TAKEN) == files("1", "2", "3")


def test_without_a_first_part_that_somebody_has_removed_the_rest_is_no_series(box: Box, caplog: pytest.LogCaptureFixture) -> None:
    box.put("1")
    box.take()
    box.spool.set_aside(NAME)
    shutil.rmtree(box.out / ASIDE / NAME)
    box.put("2", "3")
    assert box.take() is None
    assert box.names(ASIDE) == files("2", "3")
    assert "2 instance(s) have come without 1 that came before and are gone from aside, and are set aside: send the whole" in caplog.text
    box.put("1")
    assert box.take() == NAME
    assert box.names(TAKEN) == files("1", "2", "3")


def test_slices_that_come_again_with_other_content_are_set_aside_and_join_the_others(box: Box, caplog: pytest.LogCaptureFixture) -> None:
    box.put("1", "2", "3")
    box.take()
    box.spool.done(NAME)
    box.put("2", data=b"corrected")
    assert box.take() is None
    assert box.names(ASIDE) == files("2")
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "are set aside (1 of them with other content): send the whole series again" in caplog.text
    box.put("1", "3")
    assert box.take() == NAME
    assert (box.out / TAKEN / NAME / f"{short('2')}.dcm").read_bytes() == b"corrected"


def test_the_last_content_counts_and_what_it_replaces_is_kept(box: Box) -> None:
    box.put("1", data=b"old")
    box.take()
    box.spool.set_aside(NAME)
    box.put("1", "2", data=b"new")
    assert box.take() == NAME
    assert {path.read_bytes() for path in (box.out / TAKEN / NAME).iterdir()} == {b"new"}
    assert (box.out / ASIDE / f"{NAME}-replaced" / f"{short('1')}.dcm").read_bytes() == b"old"
    box.spool.done(NAME)
    box.put("2", data=b"new")
    assert box.take() is None
    assert box.names(INCOMING) == set()  # a repetition, which what was replaced does not make a whole


def test_a_register_of_the_first_format_is_read_and_what_it_does_not_know_is_not_taken_as_the_same(box: Box) -> None:
    box.spool.close()
    with contextlib.closing(sqlite3.connect(box.out / "node.sqlite")) as old:
        old.execute("DROP TABLE series")
        old.execute("CREATE TABLE series (name TEXT PRIMARY KEY, state TEXT, instances TEXT DEFAULT '[]', changed REAL) WITHOUT ROWID")
        old.execute("INSERT INTO series VALUES (?, 'done', ?, 0)", (NAME, json.dumps([short("1"), short("2")])))
        old.execute("PRAGMA user_version = 1")
        old.commit()
    box.killed()
    box.put("1")
    assert box.take() is None
    assert box.names(ASIDE) == files("1")
    box.put("2")
    assert box.take() == NAME


@pytest.mark.parametrize(("quiet", "seconds"), [(2.0, 60.0), (20.0, 200.0)])
def test_a_sender_that_stays_connected_does_not_keep_its_series_for_ever(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, quiet: float, seconds: float
) -> None:
    box = Box(tmp_path / "out", quiet=quiet)
    box.put("1", "2", end=False)
    assert box.take(seconds - 1) is None
    assert box.take(1.0) == NAME
    assert "still connected" in caplog.text
    box.put("3", end=False)  # it does go on
    box.spool.done(NAME)
    assert box.take(seconds) is None
    assert box.names(ASIDE) == files("3")


def test_an_instance_that_two_senders_send_at_once_is_counted_once(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    both, write = threading.Barrier(2, timeout=10), spool.write_bytes

    def together(path: Path, data: bytes) -> None:
        both.wait()
        write(path, data)

    monkeypatch.setattr(spool, "write_bytes", together)
    parcel = Parcel("1.9", "1", "1.2", "1.3", "1.8")
    senders = [threading.Thread(target=box.spool.put, args=(parcel, b"four", number)) for number in range(2)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    assert box.spool._here == 4


def test_what_is_removed_from_aside_by_hand_makes_room_and_aside_is_told_apart(tmp_path: Path) -> None:
    box = Box(tmp_path / "out", bytes=4 << 20)
    box.put("1", data=bytes(1 << 20), end=False)
    box.put("2", data=bytes(2 << 20))
    box.take()
    box.spool.set_aside(NAME)
    other = Parcel("1.9", "9", "1.2", "9.9", "1.8")
    with pytest.raises(FullError, match=r"0.0 GB are here, and 0.0 GB more in aside"):
        box.spool.put(other, b"9", "sender")
    assert (box.spool._bytes, box.spool._aside) == (0, 3 << 20)
    shutil.rmtree(box.out / ASIDE / NAME)
    box.take(60.0)
    assert box.spool._here == 0
    box.spool.put(other, b"9", "sender")


def test_only_we_may_read_what_was_sent(box: Box) -> None:
    box.put("1")
    box.take()
    box.spool.set_aside(NAME)
    box.put("2", end=False)
    for place in (INCOMING, TAKEN, ASIDE):
        assert stat.S_IMODE((box.out / place).stat().st_mode) == 0o700
    kept = [path for place in (INCOMING, ASIDE) for path in (box.out / place).rglob("*")]
    assert {(path.is_dir(), stat.S_IMODE(path.stat().st_mode)) for path in kept} == {(True, 0o700), (False, 0o600)}


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
    assert box.take(60.0) is None
    box.put("1")  # once more, and for this sender that is all
    assert box.take() == NAME
    box.spool.done(NAME)
    box.put("6")


def test_a_disk_that_cannot_be_written_is_full_to_the_sender(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1, 1, 0))  # type: ignore[attr-defined]
    with pytest.raises(FullError, match="the disk is full"):
        box.put("1")


def send(box: Box, sender: str, *instances: str, series: str = "1.3") -> None:
    for instance in instances:
        box.spool.put(Parcel("1.9", instance, "1.2", series, "1.8"), instance.encode(), sender)


def test_a_series_of_which_an_instance_was_refused_is_not_whole_until_that_has_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    box = Box(tmp_path / "out")
    send(box, "A", "1", "2")
    with monkeypatch.context() as patch:
        patch.setattr(spool.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1, 1, 0))  # type: ignore[attr-defined]
        with pytest.raises(FullError):
            send(box, "A", "3")
    box.spool.ended("A", True)
    assert box.take(60.0) is None
    assert "an instance that its sender sent was refused, so that slices may be missing" in caplog.text
    box.killed()
    assert box.take(60.0) is None
    send(box, "B", "3")
    box.spool.ended("B", True)
    assert box.take() == NAME
    assert box.names(TAKEN) == files("1", "2", "3")


def test_an_instance_that_was_refused_and_came_after_all_is_not_missing(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    send(box, "A", "1")

    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(spool, "write_bytes", full)
        with pytest.raises(FullError, match="No space left"):
            send(box, "A", "2")
    send(box, "A", "2")
    box.spool.ended("A", True)
    assert box.take() == NAME


def test_what_was_refused_and_tells_no_series_may_be_of_any_of_its_kind(box: Box) -> None:
    send(box, "A", "1")
    box.spool.refused("A", "1.10")
    box.spool.ended("A", True)
    assert box.take() == NAME
    box.spool.done(NAME)
    send(box, "A", "1", "2")
    box.spool.refused("A", "1.9")
    assert box.take(600.0) is None  # while it is connected, too
    box.spool.ended("A", True)
    assert box.take(600.0) is None


def test_one_of_two_senders_that_breaks_off_is_not_made_good_by_the_other(box: Box) -> None:
    send(box, "A", "1", "2")
    send(box, "B", "3")
    box.clock.now += 1.0
    box.spool.ended("A", False)
    box.clock.now += 1.0
    send(box, "B", "4")
    box.spool.ended("B", True)
    assert box.take(100.0) is None
    send(box, "C", "1", "2", "3", "4")
    box.spool.ended("C", True)
    assert box.take() == NAME


def test_a_series_whose_sender_is_at_another_one_meanwhile_is_not_complete(box: Box, caplog: pytest.LogCaptureFixture) -> None:
    send(box, "A", "1")
    for number in range(20):
        box.clock.now += 10.0
        send(box, "A", f"9{number}", series="1.4")
        assert box.spool.take() is None
    send(box, "A", "2")
    box.spool.ended("A", True)
    assert {box.take(), box.take(0.0)} == {NAME, short("1.2\0001.4")}
    assert box.names(TAKEN) > files("1", "2")


def test_a_sender_that_is_at_other_series_all_day_does_not_keep_one_for_ever(box: Box, caplog: pytest.LogCaptureFixture) -> None:
    send(box, "A", "1")
    for number in range(60):
        assert box.spool.take() is None
        box.clock.now += 10.0
        send(box, "A", f"9{number}", series="1.4")
    assert box.spool.take() == NAME
    assert "still connected" in caplog.text


def test_what_is_removed_from_aside_while_it_is_counted_ends_no_node(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("1", "2"):
        (box.out / ASIDE / f"{name}.dcm").write_bytes(b"1")
    found = Path.rglob

    def removing(folder: Path, pattern: str) -> list[Path]:
        paths = list(found(folder, pattern))
        (box.out / ASIDE / "1.dcm").unlink(missing_ok=True)
        return paths

    monkeypatch.setattr(Path, "rglob", removing)
    assert box.take(100.0) is None
    assert box.spool._aside == 1


def test_a_series_that_the_disk_does_not_give_holds_up_no_other(
    box: Box, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    send(box, "A", "1")
    box.clock.now += 1.0
    send(box, "A", "1", series="1.4")
    box.spool.ended("A", True)
    move = Spool._move

    def bad(own: Spool, place: str, to: str, name: str, new: str = "") -> None:
        if name == NAME:
            raise OSError(5, "Input/output error")
        move(own, place, to, name, new)

    with monkeypatch.context() as patch:
        patch.setattr(Spool, "_move", bad)
        assert box.take() == short("1.2\0001.4")
    assert f"series {NAME}: its files cannot be read or moved (Input/output error)" in caplog.text
    box.killed()
    assert box.take() == NAME
