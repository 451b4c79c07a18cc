"""The scans of a call, shared with other calls."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from segpipe.inference import claims as claims_module
from segpipe.inference.claims import Claims
from segpipe.inference.content import scan_hash
from segpipe.inference.gather import Examination
from segpipe.inference.lease import holding
from segpipe.inference.ledger import Ledger
from segpipe.inference.table import TABLE, Row, read_table

A, B = "00000000-1-00000000", "00000000-2-00000000"
SCANS = [Examination(case, (Path(f"/in/{case}.nii"),)) for case in "abcd"]


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path) as opened:
        opened.begin()
        opened.enqueue([(scan.case, 0) for scan in SCANS], "job")
        yield opened


def claims_of(ledger: Ledger, worker: str, job: str = "job") -> tuple[Claims, list[Row]]:
    told: list[Row] = []
    claims = Claims(ledger, job, worker, told.append)
    claims.add(SCANS)
    return claims, told


def done(case: str) -> Row:
    return Row(case, f"/in/{case}.nii", f"{case}.nii", "done")


def test_two_calls_take_turns_and_each_tells_every_scan_once(ledger: Ledger) -> None:
    (first, told_first), (second, told_second) = claims_of(ledger, A), claims_of(ledger, B)
    for claims in (first, second, first, second):
        claim = claims.next()
        assert claim is not None
        claims.finish(done(claim.scan.case))
    assert first.next() is None and second.next() is None
    assert not first.look_again() and not second.look_again()
    assert first.open == second.open == 0
    assert sorted((row.case, row.status) for row in told_first) == [("a", "done"), ("b", "skipped"), ("c", "done"), ("d", "skipped")]
    assert {row.reason for row in told_second if row.status == "skipped"} == {"done by another call meanwhile"}


def test_a_scan_that_another_call_lets_go_of_is_taken_up(ledger: Ledger) -> None:
    (first, _), (second, told) = claims_of(ledger, A), claims_of(ledger, B)
    claim = first.next()
    assert claim is not None and claim.scan.case == "a"
    while (other := second.next()) is not None:
        second.finish(done(other.scan.case))
    assert not second.look_again() and second.open == 1
    ledger.release(A)
    assert second.look_again()
    last = second.next()
    assert last is not None and last.scan.case == "a"
    second.finish(done("a"))
    first.finish(done("a"))  # too late: it is told by whoever looks again
    assert first.open == 4 and len(told) == 4
    while first.next():
        raise AssertionError("nothing is left")
    first.look_again()
    assert first.open == 0


def test_a_failure_of_another_call_is_told_as_a_failure(ledger: Ledger) -> None:
    (first, _), (second, told) = claims_of(ledger, A), claims_of(ledger, B)
    first.next()
    first.finish(Row("a", "", "", "failed", "broken"))
    while second.next():
        pass
    second.look_again()
    assert [(row.case, row.status, row.reason) for row in told] == [("a", "failed", "broken")]


def test_scans_that_a_call_with_another_model_has_taken_are_told_and_not_waited_for(ledger: Ledger) -> None:
    claims, told = claims_of(ledger, A)
    ledger.enqueue([(case, entry.revision) for case, entry in ledger.entries(list("abcd")).items()], "another")
    assert claims.next() is None
    claims.look_again()
    assert claims.open == 0 and {row.status for row in told} == {"failed"}
    assert "another call segments it with another model" in told[0].reason


def test_a_scan_that_a_worker_died_of_comes_last(ledger: Ledger) -> None:
    claims, _ = claims_of(ledger, A)
    claim = claims.next()
    assert claim is not None
    claims.crashed(claim.scan.case)
    others = []
    while (other := claims.next()) is not None:
        others.append(other.scan.case)
    assert others == ["b", "c", "d"]
    last = claims.next_crashed()
    assert last is not None and (last.scan.case, last.crashes) == ("a", 1)
    assert claims.next_crashed() is None


def test_what_is_given_back_is_the_next_one_again_and_no_other_call_is_kept_from_it(ledger: Ledger) -> None:
    (first, _), (second, _) = claims_of(ledger, A), claims_of(ledger, B)
    assert [claim.scan.case for claim in (first.next(), first.next()) if claim] == ["a", "b"]
    for case in "ba":
        first.give_back(case)
    claim = first.next()
    assert claim is not None and (claim.scan.case, claim.crashes) == ("a", 0)
    entry = ledger.entry("b")
    assert entry is not None and (entry.state, entry.attempts) == ("waiting", 0)
    other = second.next()
    assert other is not None and other.scan.case == "b"
    claim = first.next()
    assert claim is not None and claim.scan.case == "c"


def test_the_table_is_written_at_growing_intervals(ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Clock:
        now = 100.0

        @classmethod
        def monotonic(cls) -> float:
            return cls.now

    monkeypatch.setattr(claims_module, "time", Clock)
    written: list[float] = []
    export = ledger.export

    def slow() -> None:
        export()
        written.append(Clock.now)
        Clock.now += 1.0  # a large one

    monkeypatch.setattr(ledger, "export", slow)
    claims, _ = claims_of(ledger, A)
    for _ in range(4):
        claim = claims.next()
        assert claim is not None
        claims.finish(done(claim.scan.case))
        Clock.now += 8.0
    assert written == [100.0, 125.0]
    assert len(read_table(tmp_path / TABLE)) == 4


def test_what_a_call_holds_is_renewed_and_let_go_at_its_end(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("segpipe.inference.lease.LEASE_SECONDS", 0.02)
    renewed: list[str] = []
    monkeypatch.setattr(ledger, "renew", renewed.append)
    with holding(ledger) as worker:
        claims, _ = claims_of(ledger, worker)
        assert claims.next() is not None
        while len(renewed) < 3:
            pass
    assert set(renewed) == {worker}
    entry = ledger.entry("a")
    assert entry is not None and (entry.state, entry.worker) == ("waiting", "")


def test_another_scan_of_the_same_name_is_not_taken_for_done(ledger: Ledger, tmp_path: Path) -> None:
    other, same = tmp_path / "other.nii", tmp_path / "same.nii"
    other.write_bytes(b"another")
    same.write_bytes(b"the same")
    told: list[Row] = []
    claims = Claims(ledger, "job", A, told.append)
    claims.add([Examination("a", (other,)), Examination("b", (same,))])
    ledger.claim(["a"], "job", B)
    ledger.claim(["b"], "job", B)
    for case in "ab":
        ledger.finish(Row(case, "/elsewhere.nii", f"{case}.nii", "done", input_hash=scan_hash((same,))), B)
    assert claims.next() is None
    claims.look_again()
    assert [(row.case, row.status) for row in told] == [("a", "failed"), ("b", "skipped")]
    assert f"{other}: another call has written the label map of /elsewhere.nii" in told[0].reason
