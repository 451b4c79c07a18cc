"""What is sent, what is not, and that nothing is lost or sent twice by kills."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from segpipe.errors import ConfigError, DataError
from segpipe.io.alive import new_token
from segpipe.pacs.courier import Courier
from segpipe.pacs.faults import DeniedError, LaterError, RefusedError
from segpipe.pacs.outbox import OUTBOX, Outbox
from segpipe.pacs.parcel import Parcel
from segpipe.pacs.patience import Patience, tried
from tests.conftest import REPOSITORY
from tests.pacs.objects import make_object

PLACE = "dicom://ORTHANC@pacs:4242"
QUICK = Patience(tries=3, first=0.01, most=0.02)


class Archive:
    """A destination in memory: keeps what comes, and fails as it is told to.

    Args:
        script: what happens at each `store`, in turn; then all goes well. `lost`: it is kept, and its answer is lost.
        knows: what `has` can say.
    """

    def __init__(self, *script: BaseException | str, knows: bool = True) -> None:
        self.script, self.knows = list(script), knows
        self.came: list[str] = []
        self.asked: list[str] = []

    def check(self) -> None:
        pass

    def close(self) -> None:
        pass

    def has(self, parcel: Parcel) -> bool | None:
        self.asked.append(parcel.instance)
        return parcel.instance in self.came if self.knows else None

    def store(self, parcel: Parcel, data: bytes) -> None:
        what = self.script.pop(0) if self.script else "kept"
        if isinstance(what, BaseException):
            raise what
        self.came.append(parcel.instance)
        if what == "lost":
            raise LaterError("no answer", unsure=True)


def any_time(case: str, path: Path) -> None:
    """An object is always that of its scan."""


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path


def deliver(out: Path, archive: Archive, *names: str, patience: Patience = QUICK) -> tuple[dict[str, int], str]:
    """Send files that are made if they are not there; the states, and why it gave up."""
    outbox = Outbox(out, PLACE)
    courier = Courier(outbox, archive, out, patience, any_time)
    try:
        for name in names:
            if not (out / name).exists():
                make_object(out / name, "1.2.3", name)
            courier.deliver(name.partition(".")[0], [out / name])
        courier.finish()
        return dict(outbox.counts()), courier.gave_up
    finally:
        courier.stop()
        outbox.close()


def test_each_object_is_sent_once_however_often_it_is_asked_for(out: Path) -> None:
    archive = Archive()
    for _ in range(3):
        assert deliver(out, archive, "a.dcm", "b.dcm") == ({"sent": 2}, "")
    assert len(archive.came) == len(set(archive.came)) == 2
    assert archive.asked == []


def test_each_destination_has_its_own(out: Path) -> None:
    deliver(out, Archive(), "a.dcm")
    other = Outbox(out, "dicom://B@pacs:1")
    assert not other.counts()
    other.close()


def test_an_answer_that_was_lost_is_asked_for_and_nothing_is_sent_twice(out: Path) -> None:
    archive = Archive("lost")
    assert deliver(out, archive, "a.dcm", "b.dcm") == ({"sent": 2}, "")
    assert len(archive.came) == 2
    assert archive.asked == archive.came[:1]


def test_where_it_cannot_be_asked_the_same_object_is_sent_again(out: Path) -> None:
    archive = Archive("lost", knows=False)
    assert deliver(out, archive, "a.dcm") == ({"sent": 1}, "")
    assert len(archive.came) == 2
    assert len(set(archive.came)) == 1  # an archive keeps it once


def test_what_may_go_well_later_is_tried_again_and_given_up_with_its_reason(out: Path) -> None:
    busy = LaterError("pacs: 503 Service Unavailable")
    assert deliver(out, Archive(busy, busy), "a.dcm") == ({"sent": 1}, "")
    archive = Archive(*[busy] * 3)
    assert deliver(out, archive, "b.dcm", "c.dcm") == ({"sent": 1, "waiting": 2}, "pacs: 503 Service Unavailable")
    assert deliver(out, archive) == ({"sent": 3}, "")  # the next call, without being asked


def test_without_end_it_is_tried_until_it_is_stopped(out: Path) -> None:
    busy = LaterError("busy")
    archive = Archive(*[busy] * 20)
    assert deliver(out, archive, "a.dcm", patience=Patience(tries=0, first=0.001, most=0.002)) == ({"sent": 1}, "")


def test_one_refused_object_stops_no_other_and_is_tried_again_on_request_alone(out: Path) -> None:
    archive = Archive(RefusedError("pacs: does not take SEG"))
    assert deliver(out, archive, "a.dcm", "b.dcm") == ({"refused": 1, "sent": 1}, "")
    assert deliver(out, archive) == ({"refused": 1, "sent": 1}, "")
    assert deliver(out, archive, "a.dcm") == ({"sent": 2}, "")


def test_whoever_is_not_let_in_gives_up_at_once(out: Path) -> None:
    assert deliver(out, Archive(DeniedError("401")), "a.dcm") == ({"waiting": 1}, "401")


def test_a_newer_object_of_the_same_name_takes_the_place_of_one_that_was_not_sent(out: Path) -> None:
    busy = LaterError("busy")
    deliver(out, Archive(busy, busy, busy), "a.dcm")
    make_object(out / "a.dcm", "1.2.3", "newer")
    archive = Archive()
    assert deliver(out, archive, "a.dcm") == ({"replaced": 1, "sent": 1}, "")
    assert archive.came == [Parcel.of_file(out / "a.dcm").instance]


def test_a_file_that_changes_or_goes_before_it_is_sent_is_not_sent(out: Path) -> None:
    make_object(out / "a.dcm", "1.2.3", "a")
    make_object(out / "b.dcm", "1.2.3", "b")
    outbox = Outbox(out, PLACE)
    outbox.put("x", [(name, Parcel.of_bytes((out / name).read_bytes(), name)) for name in ("a.dcm", "b.dcm")])
    make_object(out / "a.dcm", "1.2.3", "other")
    (out / "b.dcm").unlink()
    outbox.close()
    archive = Archive()
    assert deliver(out, archive) == ({"refused": 2}, "")
    assert archive.came == []


@pytest.mark.parametrize(
    ("why", "state"),
    [(DataError("its label map was corrected"), "refused"), (LaterError("being written", alone=True), "waiting")],
    ids=["changed", "being written"],
)
def test_what_is_no_result_of_its_scan_any_more_is_not_sent_and_holds_up_no_other(out: Path, why: DataError, state: str) -> None:
    archive, outbox = Archive(), Outbox(out, PLACE)

    def current(case: str, path: Path) -> None:
        assert path == out / f"{case}.dcm"
        if case == "a":
            raise why

    courier = Courier(outbox, archive, out, QUICK, current)
    for name in "ab":
        make_object(out / f"{name}.dcm", "1.2.3", name)
        courier.deliver(name, [out / f"{name}.dcm"])
    assert courier.finish() is (state == "refused")
    assert courier.told() == ({state: 1, "sent": 1}, [("a", "a.dcm", str(why))])
    assert archive.came == [Parcel.of_file(out / "b.dcm").instance]
    courier.stop()
    outbox.close()


_DIES = """
import os, sys
from pathlib import Path
sys.path.insert(0, {repository!r})
from tests.pacs.test_outbox import Archive, deliver
class Dies(Archive):
    def store(self, parcel, data):
        if {after}:
            (Path({out!r}) / "came").write_text(parcel.instance)
        os.kill(os.getpid(), 9)
deliver(Path({out!r}), Dies(), "a.dcm")
"""


@pytest.mark.parametrize("after", [False, True], ids=["before it came", "after it came"])
def test_a_kill_while_an_object_is_sent_leaves_it_to_the_next_call_which_asks_first(out: Path, after: bool) -> None:
    code = _DIES.format(repository=str(REPOSITORY), out=str(out), after=after)
    died = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, timeout=60, env={**os.environ, "PYTHONPATH": str(REPOSITORY)})
    assert died.returncode == -9
    archive = Archive()
    archive.came = [(out / "came").read_text()] if after else []
    assert deliver(out, archive) == ({"sent": 1}, "")
    assert len(archive.asked) == len(archive.came) == 1


def test_what_another_living_call_is_sending_is_left_to_it(out: Path) -> None:
    make_object(out / "a.dcm", "1.2.3", "a")
    outbox = Outbox(out, PLACE)
    outbox.put("a", [("a.dcm", Parcel.of_bytes((out / "a.dcm").read_bytes(), "a"))])
    assert outbox.claim(new_token()) is not None
    assert outbox.claim(new_token()) is None
    courier = Courier(outbox, Archive(), out, QUICK, any_time)
    assert not courier.finish()  # nothing is left to do, and yet not all is sent
    [(_, _, why)] = courier.told()[1]
    assert "another call is sending it" in why
    courier.stop()
    outbox.close()


@pytest.mark.parametrize(
    "odd", [RuntimeError("the association is over"), ValueError("A700"), AttributeError("DOE^JANE"), TypeError("None")]
)
def test_what_nobody_foresaw_fails_one_object_which_is_told_once_and_asked_for(
    out: Path, odd: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    archive = Archive(odd, odd)
    assert deliver(out, archive, "a.dcm", "b.dcm", "c.dcm") == ({"sent": 3}, "")
    assert archive.asked  # it may have come
    told = [record.getMessage() for record in caplog.records if type(odd).__name__ in record.getMessage()]
    assert len(told) == len(set(told)) <= 2
    assert "JANE" not in caplog.text


def test_a_thread_that_has_died_is_a_fault_and_never_the_end(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outbox = Outbox(out, PLACE)
    courier = Courier(outbox, Archive(), out, QUICK, any_time)

    def dies(*_: object) -> None:
        raise RuntimeError("odd")

    monkeypatch.setattr(outbox, "claim", dies)
    courier._thread.join(10)
    make_object(out / "a.dcm", "1.2.3", "a")
    for call in (courier.check, courier.finish, lambda: courier.deliver("a", [out / "a.dcm"])):
        with pytest.raises(DataError, match=r"nothing is sent any more: an unforeseen RuntimeError"):
            call()
    assert outbox.counts() == {"waiting": 1}  # for the next call
    courier._fault = None
    with pytest.raises(DataError, match="has died"):
        courier.finish()
    courier.stop()
    outbox.close()


class Poisoned(Archive):
    """Never takes some objects."""

    def __init__(self, error: LaterError) -> None:
        super().__init__()
        self.error, self.poison, self.tried = error, "", 0

    def store(self, parcel: Parcel, data: bytes) -> None:
        self.poison = self.poison or parcel.instance
        if parcel.instance == self.poison:
            self.tried += 1
            raise self.error
        super().store(parcel, data)


@pytest.mark.parametrize("alone", [True, False], ids=["of the object", "as if of the destination"])
def test_one_object_that_never_goes_well_holds_up_no_other(out: Path, alone: bool) -> None:
    archive = Poisoned(LaterError("pacs: 500 Internal Server Error", alone=alone))
    outbox = Outbox(out, PLACE)
    for name in "abcd":
        make_object(out / f"{name}.dcm", "1.2.3", name)
        outbox.put(name, [(f"{name}.dcm", Parcel.of_bytes((out / f"{name}.dcm").read_bytes(), name))])
    courier = Courier(outbox, archive, out, QUICK, any_time)
    assert not courier.finish()
    assert outbox.counts() == {"sent": 3, "waiting": 1}
    assert [(path, why) for _, path, why in courier.told()[1]] == [("a.dcm", "pacs: 500 Internal Server Error")]
    assert archive.tried == QUICK.tries
    courier.stop()
    outbox.close()


def test_many_objects_that_fail_in_a_row_are_the_fault_of_the_destination(out: Path) -> None:
    archive = Archive(*[LaterError("500", alone=True)] * 40)
    states, why = deliver(out, archive, *(f"{number}.dcm" for number in range(30)))
    assert (states, why) == ({"waiting": 30}, "500")
    assert len(archive.script) > 10


def test_what_a_call_elsewhere_was_sending_is_taken_over_when_it_has_been_silent_for_long(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_object(out / "a.dcm", "1.2.3", "a")
    outbox = Outbox(out, PLACE)
    outbox.put("a", [("a.dcm", Parcel.of_bytes((out / "a.dcm").read_bytes(), "a"))])
    now = time.time()
    monkeypatch.setattr("segpipe.pacs.outbox.time.time", lambda: now)
    theirs = outbox.claim("00000000-1-00000000")  # of another machine
    assert theirs is not None
    now += 400
    outbox.renew(theirs)
    now += 400
    assert outbox.claim(new_token()) is None
    now += 400
    ours = outbox.claim(new_token())
    assert ours is not None
    assert ours.unsure
    outbox.renew(theirs)
    outbox.later(theirs, "late", False)
    outbox.refused(theirs, "late")
    assert outbox.counts() == {"sending": 1}  # it is ours
    outbox.close()


def test_a_long_sending_says_that_it_lives(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("segpipe.pacs.courier._RENEW_SECONDS", 0.01)
    seen: list[float] = []

    class Slow(Archive):
        def store(self, parcel: Parcel, data: bytes) -> None:
            with contextlib.closing(sqlite3.connect(out / OUTBOX)) as connection:
                for _ in range(2):
                    seen.append(connection.execute("SELECT changed FROM deliveries").fetchone()[0])
                    time.sleep(0.5)

    assert deliver(out, Slow(), "a.dcm") == ({"sent": 1}, "")
    assert seen[1] > seen[0]


@pytest.mark.parametrize("script", [[], [LaterError("no answer", unsure=True)] * 3], ids=["sent", "perhaps sent"])
def test_another_object_of_a_known_uid_is_told_and_not_taken_for_sent(out: Path, script: list[BaseException]) -> None:
    deliver(out, Archive(*script), "a.dcm")
    make_object(out / "a.dcm", "1.2.3", "a.dcm", patient="Q")
    make_object(out / "b.dcm", "1.2.3", "b.dcm")
    outbox, archive = Outbox(out, PLACE), Archive()
    courier = Courier(outbox, archive, out, QUICK, any_time)
    with pytest.raises(DataError, match=r"a\.dcm: another object of the same UID was sent before to .*") as raised:
        courier.deliver("a", [out / "a.dcm", out / "b.dcm"])
    assert raised.value.exit_code == 3
    courier.finish()
    assert archive.came == [Parcel.of_file(out / "b.dcm").instance]
    courier.stop()
    outbox.close()


@pytest.mark.parametrize("before", ["sent", "sending", "waiting"])
def test_an_object_that_was_made_again_is_the_same_whatever_its_date(out: Path, before: str) -> None:
    make_object(out / "a.dcm", "1.2.3", "a", when="120000")
    outbox, archive = Outbox(out, PLACE), Archive()
    outbox.put("a", [("a.dcm", Parcel.of_bytes((out / "a.dcm").read_bytes(), "a"))])
    claimed = outbox.claim("00000000-1-00000000") if before != "waiting" else None  # by a call on another machine
    if before == "sent":
        assert claimed is not None
        outbox.sent(claimed)
    (out / "a.dcm").unlink()
    make_object(out / "a.dcm", "1.2.3", "a", when="130000")
    assert outbox.put("a", [("a.dcm", Parcel.of_bytes((out / "a.dcm").read_bytes(), "a"))]) == 0
    with contextlib.closing(sqlite3.connect(out / OUTBOX)) as connection:
        connection.execute("UPDATE deliveries SET changed = 0")  # that one has been silent for long
        connection.commit()
    courier = Courier(outbox, archive, out, QUICK, any_time)
    assert courier.finish()
    assert outbox.counts() == {"sent": 1}
    assert len(archive.came) == (0 if before == "sent" else 1)
    courier.stop()
    outbox.close()


def test_an_outbox_of_the_version_before_is_taken_over(out: Path) -> None:
    deliver(out, Archive(*[LaterError("busy")] * 3), "a.dcm")
    with contextlib.closing(sqlite3.connect(out / OUTBOX)) as connection:
        connection.execute("ALTER TABLE deliveries DROP COLUMN due")
        connection.execute("ALTER TABLE deliveries DROP COLUMN content")
        connection.execute("PRAGMA user_version = 1")
    assert deliver(out, Archive()) == ({"sent": 1}, "")


def test_a_damaged_outbox_is_one_line_with_a_cure(out: Path) -> None:
    (out / OUTBOX).write_bytes(b"no database" * 100)
    with pytest.raises(ConfigError, match=r"deliveries.sqlite: is damaged .* delete it"):
        Outbox(out, PLACE)


def test_a_newer_outbox_is_refused(out: Path) -> None:
    Outbox(out, PLACE).close()
    with contextlib.closing(sqlite3.connect(out / OUTBOX)) as connection:
        connection.execute("PRAGMA user_version = 9")
    with pytest.raises(ConfigError, match="newer segpipe"):
        Outbox(out, PLACE)


def test_pauses_grow_to_a_limit_and_respect_what_the_server_asks_for() -> None:
    patience = Patience(tries=4, first=1.0, most=10.0)
    slept: list[float] = []

    def fails() -> None:
        raise LaterError("busy", wait=7.0 if len(slept) == 1 else 0.0)

    with pytest.raises(LaterError, match=r"busy \(tried 4 times\)"):
        tried(patience, fails, slept.append)
    assert 0.5 <= slept[0] <= 1.0
    assert slept[1] == 7.0
    assert 2.0 <= slept[2] <= 4.0
    assert all(5.0 <= patience.pause(50) <= 10.0 for _ in range(20))
