"""predictions.sqlite: who may do what with a case, whatever happens to whom."""

from __future__ import annotations

import multiprocessing
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from segpipe.errors import ConfigError
from segpipe.inference import ledger as ledger_module
from segpipe.inference.ledger import Ledger
from segpipe.inference.table import LEDGER, TABLE, Row, read_table, to_csv
from segpipe.io import database
from segpipe.io.alive import new_token

from .test_table import ROW

JOB = "job"
ME, OTHER = "00000000-1-00000000", "00000000-2-00000000"
"""Of another machine, so that nobody knows whether they live."""


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path) as opened:
        opened.begin()
        yield opened


def waiting(ledger: Ledger, *cases: str) -> None:
    assert ledger.enqueue([(case, 0) for case in cases], JOB) == []


def test_one_case_is_let_go_of_as_if_it_had_not_been_claimed(ledger: Ledger) -> None:
    waiting(ledger, "a", "b")
    for case in "ab":
        assert ledger.claim([case], JOB, ME) is not None
    ledger.release(OTHER, "a")
    ledger.release(ME, "b")
    a, b = (ledger.entry(case) for case in "ab")
    assert a is not None and (a.state, a.worker, a.attempts) == ("running", ME, 1)
    assert b is not None and (b.state, b.worker, b.attempts, b.crashes) == ("waiting", "", 0, 0)


def journal(folder: Path) -> str:
    connection = sqlite3.connect(folder / LEDGER)
    try:
        return str(connection.execute("PRAGMA journal_mode").fetchone()[0])
    finally:
        connection.close()


def dead_token() -> str:
    """Of a process of this machine that has ended."""
    code = "from segpipe.io.alive import new_token; print(new_token())"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_rows_come_back_as_they_were_put_and_from_another_process_file_too(ledger: Ledger, tmp_path: Path) -> None:
    failed = Row("a", "/in/a.nii", "", "failed", 'has 3 "channels", not\n2')
    ledger.put([ROW, failed])
    assert ledger.rows == [failed, ROW]
    with Ledger(tmp_path) as again:
        assert again.get("sub/case") == ROW and again.get("b") is None


def test_nothing_is_written_before_it_begins_and_the_table_is_its_readable_copy(tmp_path: Path) -> None:
    with Ledger(tmp_path) as ledger:
        assert list(tmp_path.iterdir()) == []
        ledger.begin()
        ledger.put([ROW])
        ledger.export()
    assert read_table(tmp_path / TABLE) == [ROW]
    assert sorted(path.name for path in tmp_path.iterdir()) == [TABLE, LEDGER]


def test_the_table_of_an_earlier_version_is_taken_over_once(tmp_path: Path) -> None:
    started = replace(ROW, case="b", status="started")
    (tmp_path / TABLE).write_text(to_csv([ROW, started]))
    with Ledger(tmp_path) as ledger:
        assert ledger.rows == [started, ROW]
        assert not (tmp_path / LEDGER).exists()
        ledger.begin()
        assert ledger.rows == [started, ROW]
        ledger.put([replace(ROW, status="skipped")])
    with Ledger(tmp_path) as again:
        row = again.get("sub/case")
        assert row is not None and row.status == "skipped"


def test_a_table_of_another_program_is_refused_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / TABLE).write_text("name,age\nx,3\n")
    with pytest.raises(ConfigError, match="no table of earlier predictions"):
        Ledger(tmp_path)
    with pytest.raises(ConfigError, match="no table"):  # beside a ledger, too
        (tmp_path / TABLE).unlink()
        with Ledger(tmp_path) as ledger:
            ledger.begin()
        (tmp_path / TABLE).write_text("name,age\nx,3\n")
        Ledger(tmp_path)
    assert (tmp_path / TABLE).read_text() == "name,age\nx,3\n"


@pytest.mark.parametrize("damage", ["text", "cut", "middle", "newer"])
def test_a_damaged_ledger_is_one_line_with_the_cure(tmp_path: Path, damage: str) -> None:
    with Ledger(tmp_path) as ledger:
        ledger.begin()
        ledger.put([replace(ROW, case=f"case {number}") for number in range(400)])
    path = tmp_path / LEDGER
    data = bytearray(path.read_bytes())
    if damage == "newer":
        with sqlite3.connect(path) as connection:
            connection.execute("PRAGMA user_version = 99")
        connection.close()
    else:
        changed = {"text": b"not a database" * 100, "cut": data[: len(data) // 2], "middle": data[:4096] + bytes(len(data) - 4096)}
        path.write_bytes(changed[damage])
    with (
        pytest.raises(ConfigError, match=r"predictions\.sqlite: is (damaged|of a newer).*another output folder") as caught,
        Ledger(tmp_path) as ledger,
    ):
        assert len(ledger.rows) == 400
    assert "\n" not in str(caught.value)


def test_a_case_is_claimed_by_one_and_only_for_its_job(ledger: Ledger) -> None:
    waiting(ledger, "a", "b")
    assert ledger.claim(["a", "b"], "another job", ME) is None
    first = ledger.claim(["a", "b"], JOB, ME)
    assert first is not None and (first.case, first.state, first.held, first.attempts, first.worker) == ("a", "running", True, 1, ME)
    second = ledger.claim(["a", "b"], JOB, OTHER)
    assert second is not None and second.case == "b"
    assert ledger.claim(["a", "b"], JOB, OTHER) is None


def test_only_who_holds_a_case_may_finish_it(ledger: Ledger) -> None:
    waiting(ledger, "a")
    ledger.claim(["a"], JOB, ME)
    done = Row("a", "", "a.nii", "done")
    assert not ledger.mark(done, OTHER) and not ledger.finish(done, OTHER)
    assert ledger.get("a") is None
    assert ledger.mark(replace(done, status="started"), ME)
    assert ledger.finish(done, ME)
    assert not ledger.finish(done, ME)  # once
    entry = ledger.entry("a")
    assert entry is not None and (entry.state, entry.held, entry.row) == ("done", False, done)


def test_a_lease_that_ran_out_is_taken_by_another_and_a_renewed_one_is_not(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(ledger_module.time, "time", lambda: now[0])
    waiting(ledger, "a")
    ledger.claim(["a"], JOB, ME)
    now[0] += ledger_module.LEASE_SECONDS - 1
    ledger.renew(ME)
    now[0] += ledger_module.LEASE_SECONDS - 1
    assert ledger.claim(["a"], JOB, OTHER) is None
    now[0] += 2
    taken = ledger.claim(["a"], JOB, OTHER)
    assert taken is not None and taken.attempts == 2
    assert not ledger.finish(Row("a", "", "a.nii", "done"), ME)
    assert ledger.finish(Row("a", "", "a.nii", "done"), OTHER)


def test_what_a_dead_process_of_this_machine_held_is_free_at_once(ledger: Ledger) -> None:
    waiting(ledger, "a", "b")
    assert ledger.claim(["a"], JOB, dead_token()) is not None
    assert ledger.claim(["b"], JOB, new_token()) is not None  # alive
    taken = ledger.claim(["a", "b"], JOB, ME)
    assert taken is not None and taken.case == "a"
    assert ledger.claim(["a", "b"], JOB, OTHER) is None


def test_a_case_that_changed_meanwhile_or_is_held_is_not_put_back(ledger: Ledger) -> None:
    waiting(ledger, "a", "b")
    seen = {case: entry.revision for case, entry in ledger.entries(["a", "b"]).items()}
    ledger.claim(["a"], JOB, ME)
    ledger.finish(Row("a", "", "a.nii", "done"), ME)
    assert ledger.enqueue([("a", seen["a"]), ("b", seen["b"]), ("c", 0)], "new") == ["a"]
    ledger.claim(["b"], "new", ME)
    entry = ledger.entry("b")
    assert entry is not None and ledger.enqueue([("b", entry.revision)], "another") == ["b"]
    ledger.put([Row("b", "", "b.nii", "skipped")])
    assert ledger.get("b") is None


def test_a_released_case_waits_again_and_counts_no_attempt(ledger: Ledger) -> None:
    waiting(ledger, "a")
    ledger.claim(["a"], JOB, ME)
    ledger.release(ME)
    entry = ledger.claim(["a"], JOB, OTHER)
    assert entry is not None and entry.attempts == 1


def test_a_case_that_a_worker_died_of_is_passed_over_until_it_is_asked_for(ledger: Ledger) -> None:
    waiting(ledger, "a", "b")
    ledger.claim(["a"], JOB, ME)
    ledger.crashed("a", ME)
    other = ledger.claim(["a", "b"], JOB, ME)
    assert other is not None and other.case == "b"
    again = ledger.claim(["a"], JOB, ME, crashed=True)
    assert again is not None and (again.case, again.crashes, again.attempts) == ("a", 1, 2)
    ledger.finish(Row("a", "", "", "failed", "died"), ME, set_aside=True)
    entry = ledger.entry("a")
    assert entry is not None and (entry.state, entry.crashes) == ("set aside", 1)


def test_what_is_known_of_the_files_stays_while_a_case_waits_and_runs(ledger: Ledger) -> None:
    ledger.put([ROW])
    entry = ledger.entry(ROW.case)
    assert entry is not None
    ledger.enqueue([(ROW.case, entry.revision)], JOB)
    claimed = ledger.claim([ROW.case], JOB, ME)
    assert claimed is not None and claimed.row == ROW


def _work(folder: Path, name: str, local: bool) -> None:
    database.is_local = lambda folder: local
    with Ledger(folder) as ledger:
        ledger.begin()
        while entry := ledger.claim([f"{number:03}" for number in range(60)], JOB, new_token()):
            ledger.finish(Row(entry.case, "", "", "done", name), entry.worker)


@pytest.mark.parametrize("local", [True, False])
def test_two_processes_at_once_do_each_case_once(tmp_path: Path, local: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "is_local", lambda folder: local)
    with Ledger(tmp_path) as ledger:
        ledger.begin()
        assert journal(tmp_path) == ("wal" if local else "delete")
        waiting(ledger, *(f"{number:03}" for number in range(60)))
        context = multiprocessing.get_context("spawn")
        processes = [context.Process(target=_work, args=(tmp_path, name, local)) for name in "ab"]
        for process in processes:
            process.start()
        for process in processes:
            process.join(60)
        assert [process.exitcode for process in processes] == [0, 0]
        entries = ledger.entries([f"{number:03}" for number in range(60)])
        assert {(entry.state, entry.attempts) for entry in entries.values()} == {("done", 1)} and len(entries) == 60


def test_threads_may_share_one(ledger: Ledger) -> None:
    waiting(ledger, *(f"{number:03}" for number in range(60)))
    done: list[str] = []

    def work() -> None:
        while entry := ledger.claim([f"{number:03}" for number in range(60)], JOB, ME):
            ledger.finish(Row(entry.case, "", "", "done"), ME)
            done.append(entry.case)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(done) == [f"{number:03}" for number in range(60)]


def test_a_network_disk_has_a_rollback_journal_and_keeps_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for first, local in (("local", True), ("network", False)):
        monkeypatch.setattr(database, "is_local", lambda folder, local=local: local)
        with Ledger(tmp_path / first) as ledger:
            ledger.begin()
        assert journal(tmp_path / first) == ("wal" if first == "local" else "delete")
    for second, local in (("network", True), ("local", False)):  # now seen from the other side
        monkeypatch.setattr(database, "is_local", lambda folder, local=local: local)
        with Ledger(tmp_path / second):
            assert journal(tmp_path / second) == "delete"


def test_a_log_that_a_call_on_the_disks_own_machine_keeps_is_not_shared_over_the_network(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "_WAIT_SECONDS", 0.1)
    monkeypatch.setattr(database, "is_local", lambda folder: False)
    assert ledger.rows == []
    with pytest.raises(ConfigError, match="over a network it cannot be shared so"):
        Ledger(tmp_path)


@pytest.mark.skipif(os.name == "nt", reason="limits of file size are POSIX")
def test_a_full_disk_is_one_line_and_the_ledger_stays_whole(tmp_path: Path) -> None:
    code = f"""
import resource, signal
from pathlib import Path
from segpipe.inference.ledger import Ledger
from segpipe.inference.table import Row
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with Ledger(Path({str(tmp_path)!r})) as ledger:
    ledger.begin()
    ledger.put([Row("first", "", "", "done")])
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
    for number in range(3000):
        ledger.put([Row(str(number), "x" * 1000, "", "done")])
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "ConfigError" in run.stderr.splitlines()[-1] and "predictions.sqlite: " in run.stderr.splitlines()[-1]
    with Ledger(tmp_path) as ledger:
        assert ledger.get("first") is not None


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_a_signal_while_sqlite_asks_is_no_damage(ledger: Ledger, monkeypatch: pytest.MonkeyPatch, kind: type[BaseException]) -> None:
    ledger.enqueue([("a", 0)], "job")
    assert ledger.claim(["a"], "job", new_token()) is not None

    def interrupted(token: str) -> bool:
        raise kind

    monkeypatch.setattr(database, "is_gone", interrupted)
    with pytest.raises(kind):
        ledger.entries(["a"])
    monkeypatch.undo()
    assert ledger.entries(["a"])["a"].held
