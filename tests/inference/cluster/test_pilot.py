"""Scans on their way through a cluster in this process (see `conftest`), with a real ledger."""

from __future__ import annotations

import contextlib
import pickle
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from segpipe.errors import ConfigError
from segpipe.inference.agenda import open_agenda
from segpipe.inference.api import load_model, predict_folder
from segpipe.inference.claims import Claims
from segpipe.inference.cluster.fleet import Fleet
from segpipe.inference.cluster.pilot import Pilot
from segpipe.inference.engine import Work
from segpipe.inference.gather import Examination, gather
from segpipe.inference.lease import holding
from segpipe.inference.ledger import Ledger
from segpipe.inference.messages import Order
from segpipe.inference.table import Row
from segpipe.inference.task import FolderOptions, Task
from segpipe.io.atomic import write_bytes
from segpipe.progress import board

from .conftest import LocalFleet


class Call:
    """One command's side, in the order of `inference.call`."""

    def __init__(self, order: Order, scans: Path, out: Path) -> None:
        self.fleet = LocalFleet(order)
        self.rows: dict[str, Row] = {}
        self._scans, self._out = scans, out
        self.task: Task = replace(pickle.loads(self.fleet.kit).task, out=out)

    def run(self, timeout: float = 0.0) -> None:
        found = gather(self._scans, self._out, ["T2"])
        with Ledger(self._out) as ledger:
            agenda = open_agenda(self.task, ledger, found)
            with board("segmenting", len(found)) as shown, holding(ledger) as worker:
                claims = Claims(ledger, self.task.job, worker, self._ended)
                claims.add(agenda.todo)
                for row in agenda.skipped.values():
                    self._ended(row)
                Pilot(cast(Fleet, self.fleet), Work(self.task, claims, shown, timeout), 20).run()

    def _ended(self, row: Row) -> None:
        assert row.case not in self.rows  # every scan leaves once
        self.rows[row.case] = row

    @property
    def statuses(self) -> set[str]:
        return {row.status for row in self.rows.values()}


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def call(order: Order, scans: Path, out: Path) -> Iterator[Call]:
    call = Call(order, scans, out)
    yield call
    assert call.fleet.closed and call.fleet.left == 0
    assert not [path.name for path in out.rglob(".*")]


@contextlib.contextmanager
def ledger_of(out: Path) -> Iterator[Ledger]:
    with Ledger(out) as ledger:
        yield ledger


def crashes(out: Path, case: str) -> tuple[str, int, int]:
    with ledger_of(out) as ledger:
        entry = ledger.entry(case)
    assert entry is not None
    return entry.state, entry.attempts, entry.crashes


def test_every_scan_is_written_once_and_as_in_this_process(call: Call, scans: Path, out: Path, order: Order, tmp_path: Path) -> None:
    call.run()
    assert len(call.rows) == 6 and call.statuses == {"done"}
    assert len(call.fleet.log) == 18 and {node for stage, _, node in call.fleet.log if stage == "compute"} == {"n0", "n1"}
    assert call.fleet.most <= call.fleet.room
    model = load_model(order.models[0], "cpu", precision="fp32", runtime="torch")
    predict_folder(model, scans, tmp_path / "here", FolderOptions(probabilities=True))
    for path in (tmp_path / "here").glob("*.nii.gz"):
        assert (out / path.name).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("stage", ["read", "compute", "write"])
def test_a_process_that_dies_of_a_scan_is_followed_by_another_one_after_the_others(
    call: Call, out: Path, stage: str, caplog: pytest.LogCaptureFixture
) -> None:
    call.fleet.accidents.plan(stage, "case_1", "dies")
    call.run()
    assert len(call.rows) == 6 and call.statuses == {"done"}
    assert crashes(out, "case_1") == ("done", 2, 0)
    read = [case for what, case, _ in call.fleet.log if what == "read"]
    assert read.count("case_1") == 2 and read.index("case_1", 3) > max(read.index(f"case_{number}") for number in range(6))
    assert "case_1.nii.gz: the process that" in caplog.text and "was killed; it is tried once more, after the others" in caplog.text


@pytest.mark.parametrize("stage", ["read", "compute", "write"])
def test_a_scan_that_kills_twice_is_set_aside_by_its_name(call: Call, out: Path, stage: str) -> None:
    call.fleet.accidents.plan(stage, "case_1", "dies", "dies")
    call.run()
    assert len(call.rows) == 6
    row = call.rows["case_1"]
    assert row.status == "failed" and "case_1.nii.gz: the process that" in row.reason and "(the 2nd time)" in row.reason
    assert crashes(out, "case_1")[0] == "set aside" and crashes(out, "case_1")[1] == 2
    assert not (out / "case_1.nii.gz").exists() and {row.status for case, row in call.rows.items() if case != "case_1"} == {"done"}


def test_a_suspect_shares_no_node_with_another_scan(call: Call) -> None:
    for case in ("case_0", "case_1", "case_2"):
        call.fleet.accidents.plan("compute", case, "dies", "slow", "slow")
    for case in ("case_3", "case_4", "case_5"):
        call.fleet.accidents.plan("compute", case, "slow", "slow")
    call.run()
    assert call.statuses == {"done"}
    assert len([case for what, case, _ in call.fleet.log if what == "compute"]) >= 9
    assert all(call.fleet.beside[case] == 0 for case in ("case_0", "case_1", "case_2"))
    assert any(call.fleet.beside.values())  # others share


def test_those_that_waited_behind_one_that_died_start_again_and_are_not_counted(call: Call, out: Path) -> None:
    for case in ("case_0", "case_1", "case_2", "case_3"):
        call.fleet.accidents.plan("compute", case, "early")
    call.fleet.accidents.plan("compute", "case_4", "input", "input")
    call.run()
    assert call.statuses == {"done"} and len(call.rows) == 6
    assert {crashes(out, f"case_{number}") for number in range(5)} == {("done", 1, 0)}


def test_what_never_begins_counts_in_the_end(call: Call, out: Path) -> None:
    call.fleet.accidents.plan("read", "case_1", *["early"] * 12)
    call.run()
    assert call.rows["case_1"].status == "failed" and crashes(out, "case_1")[0] == "set aside"


def test_what_a_lost_writer_has_written_is_written_again_and_its_half_is_removed(call: Call, out: Path) -> None:
    call.fleet.accidents.plan("write", "case_1", "late")
    real, halves = call.fleet.submit, []

    def submit(what: str, **told: Any) -> int:
        if what == "write" and told["scan"]["case"] == "case_1" and not halves:
            halves.append(out / f".case_1.{told['token']}.nii.gz")
            halves[0].write_bytes(b"half")
        return real(what, **told)

    call.fleet.submit = submit  # type: ignore[method-assign]
    call.run()
    assert call.statuses == {"done"} and crashes(out, "case_1") == ("done", 2, 0)
    assert halves and not halves[0].exists()


@pytest.mark.parametrize("stage", ["read", "compute", "write"])
def test_a_scan_that_hangs_is_given_up(call: Call, out: Path, stage: str) -> None:
    call.fleet.accidents.plan(stage, "case_1", "hangs")
    start = time.monotonic()
    call.run(timeout=1.0)
    assert time.monotonic() - start < 60
    assert "was not done after 1 s" in call.rows["case_1"].reason and crashes(out, "case_1") == ("failed", 1, 0)
    assert {row.status for case, row in call.rows.items() if case != "case_1"} == {"done"}


def test_a_bad_scan_fails_alone_and_one_that_only_the_command_sees_is_told_so(call: Call, scans: Path) -> None:
    (scans / "case_1.nii.gz").write_bytes(b"no scan")
    call.fleet.accidents.plan("read", "case_2", "unseen")
    call.run()
    assert len(call.rows) == 6 and [case for case, row in sorted(call.rows.items()) if row.status == "failed"] == ["case_1", "case_2"]
    shared = "IN must lie on a disk that all nodes share"
    assert "case_1.nii.gz" in call.rows["case_1"].reason and shared not in call.rows["case_1"].reason
    assert shared in call.rows["case_2"].reason


def test_a_lost_lease_leaves_the_scan_to_whoever_has_it(call: Call, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, lost = Claims.mark, []

    def mark(self: Claims, row: Row) -> bool:
        if row.case == "case_2" and not lost:
            lost.append(row.case)
            with ledger_of(out) as other:
                other._file._connection.execute("UPDATE cases SET state = 'waiting', worker = '' WHERE name = 'case_2'")
            return False
        return real(self, row)

    monkeypatch.setattr(Claims, "mark", mark)
    call.run()
    assert lost and call.statuses == {"done"} and crashes(out, "case_2") == ("done", 2, 0)


def test_a_signal_ends_what_is_under_way_and_the_next_call_does_the_rest(
    order: Order, scans: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Call(order, scans, out)
    first.fleet.accidents.plan("write", "case_1", "hangs")
    monkeypatch.setattr("segpipe.inference.cluster.pilot._END_SECONDS", 5.0)

    def ended(row: Row) -> None:
        first.rows[row.case] = row
        if len(first.rows) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(first, "_ended", ended)
    with pytest.raises(KeyboardInterrupt):
        first.run()
    assert first.fleet.closed and not list(out.glob(".*"))
    second = Call(order, scans, out)
    second.run()
    assert len(second.rows) == 6 and second.statuses == {"done", "skipped"}
    with ledger_of(out) as ledger:
        assert {entry.state for entry in ledger.entries(list(second.rows)).values()} <= {"done", "skipped"}


def test_a_folder_that_cannot_be_written_ends_the_call(call: Call, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("segpipe.inference.cluster.stages._SEE_SECONDS", 0.1)
    real = call.fleet.event
    call.fleet.event = lambda seconds: _raised(real(seconds))  # type: ignore[method-assign]
    monkeypatch.setattr(Pilot, "_touch", lambda self: None)  # the nodes see another folder
    with pytest.raises(ConfigError, match="OUT must lie on a disk that all nodes share"):
        call.run()


def _raised(event: object) -> object:
    """As `Fleet.event` does it."""
    from segpipe.inference.cluster.fleet import Event
    from segpipe.inference.messages import error_from_json

    if isinstance(event, Event) and event.said is not None and "refused" in event.said:
        raise error_from_json(event.said["refused"])
    return event


def test_scans_that_arrive_are_taken(call: Call, scans: Path, out: Path) -> None:
    data = (scans / "case_0.nii.gz").read_bytes()
    late = scans.parent / "late" / "case_9.nii.gz"
    write_bytes(late, data)
    given: list[Examination] = [Examination("case_9", (late,))]
    out.mkdir()
    with Ledger(out) as ledger, board("segmenting", 0) as shown, holding(ledger) as worker:
        ledger.begin()
        claims = Claims(ledger, call.task.job, worker, call._ended)

        def more() -> list[Examination]:
            if call.rows:
                raise KeyboardInterrupt
            found, given[:] = list(given), []
            ledger.enqueue([(scan.case, 0) for scan in found], call.task.job)
            return found

        with pytest.raises(KeyboardInterrupt):
            Pilot(cast(Fleet, call.fleet), Work(call.task, claims, shown, 0.0, more), 20).run()
    assert call.rows["case_9"].status == "done"
