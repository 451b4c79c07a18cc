"""SQLite files: who may use one, which format it has, and what is said when it cannot be used."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from segpipe.errors import ConfigError
from segpipe.io import database
from segpipe.io.database import Database, Kind, is_full

FIRST = ("CREATE TABLE things (name TEXT)", "CREATE INDEX by_name ON things (name)")
SECOND = ("ALTER TABLE things ADD COLUMN size INTEGER NOT NULL DEFAULT 7",)
SHARED = Kind("list of things", "delete it, and begin anew", "output folder", (FIRST, SECOND))
HELD = replace(SHARED, holder="segpipe test")


def put(file: Database, *names: str) -> None:
    with file.changing() as connection:
        connection.executemany("INSERT INTO things (name) VALUES (?)", [(name,) for name in names])


def names(file: Database) -> list[str]:
    with file.using() as connection:
        return [record["name"] for record in connection.execute("SELECT name FROM things ORDER BY name")]


def pragma(path: Path, word: str) -> str:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return str(connection.execute(f"PRAGMA {word}").fetchone()[0])


@pytest.mark.parametrize("kind", [SHARED, HELD, replace(HELD, logged=True)])
def test_what_was_put_is_there_again(tmp_path: Path, kind: Kind) -> None:
    for number in range(2):
        file = Database(tmp_path / "a.sqlite", kind)
        put(file, str(number))
        assert names(file) == ["0", "1"][: number + 1]
        file.close()
    assert pragma(tmp_path / "a.sqlite", "user_version") == "2"


def test_a_file_of_an_earlier_format_is_brought_up_and_keeps_what_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    for kind in (SHARED, HELD):
        path.unlink(missing_ok=True)
        old = Database(path, replace(kind, steps=(FIRST,)))
        put(old, "kept")
        old.close()
        new = Database(path, kind, fill=lambda connection: pytest.fail("it was there before"))
        with new.using() as connection:
            assert [tuple(record) for record in connection.execute("SELECT name, size FROM things")] == [("kept", 7)]
        new.close()


def test_a_step_that_fails_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    Database(path, replace(SHARED, steps=(FIRST,))).close()
    with pytest.raises(ConfigError, match="damaged"):
        Database(path, replace(SHARED, steps=(FIRST, (*SECOND, "ALTER TABLE nothing ADD COLUMN x TEXT"))))
    assert pragma(path, "user_version") == "1"
    file = Database(path, SHARED)  # the column is not there already
    assert names(file) == []
    file.close()


def test_what_fills_a_new_file_is_in_it_from_the_first_moment_or_there_is_none(tmp_path: Path) -> None:
    def half(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO things (name) VALUES ('a')")
        raise ValueError

    with pytest.raises(ValueError):
        Database(tmp_path / "a.sqlite", SHARED, fill=half)
    assert pragma(tmp_path / "a.sqlite", "user_version") == "0"
    file = Database(tmp_path / "a.sqlite", SHARED, fill=lambda connection: connection.execute("INSERT INTO things (name) VALUES ('b')"))
    assert names(file) == ["b"]
    file.close()


def test_one_in_memory_leaves_nothing_on_disk(tmp_path: Path) -> None:
    file = Database(tmp_path / "a.sqlite", SHARED, on_disk=False)
    put(file, "a")
    assert names(file) == ["a"] and list(tmp_path.iterdir()) == []
    file.close()


def test_a_change_that_raises_changes_nothing_and_the_next_one_does(tmp_path: Path) -> None:
    file = Database(tmp_path / "a.sqlite", SHARED)
    with pytest.raises(KeyError), file.changing() as connection:
        connection.execute("INSERT INTO things (name) VALUES ('lost')")
        raise KeyError
    put(file, "kept")
    assert names(file) == ["kept"]
    file.close()


def test_one_that_is_held_is_told_at_once_with_its_holder_and_is_free_again_when_it_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "_HELD_SECONDS", 0.05)
    for logged in (False, True):
        kind, path = replace(HELD, logged=logged), tmp_path / f"{logged}.sqlite"
        first = Database(path, kind)
        with pytest.raises(ConfigError, match=r"sqlite: another segpipe test has it: choose another output folder$"):
            Database(path, kind)
        put(first, "a")
        first.close()
        second = Database(path, kind)
        assert names(second) == ["a"]
        second.close()


def test_one_that_another_process_keeps_locked_tells_how_long_was_waited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "_WAIT_SECONDS", 0.05)
    path = tmp_path / "a.sqlite"
    file = Database(path, SHARED)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(ConfigError, match=r"another process has held it for 0 s .*: end that one, or choose another output folder$"):
            put(file, "a")
        other.execute("COMMIT")
    put(file, "b")
    assert names(file) == ["b"]
    file.close()


@pytest.mark.parametrize("kind", [SHARED, HELD])
def test_a_file_of_a_newer_version_is_refused_and_let_go_of(tmp_path: Path, kind: Kind) -> None:
    path = tmp_path / "a.sqlite"
    Database(path, kind).close()
    pragma_set = "PRAGMA user_version = 9"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute(pragma_set)
    with pytest.raises(ConfigError, match=r"is of a newer segpipe \(format 9\): use that one, or choose another output folder$"):
        Database(path, kind)
    with contextlib.closing(sqlite3.connect(path, timeout=0)) as connection:
        connection.execute("PRAGMA user_version = 2")
        connection.commit()
    Database(path, kind).close()


@pytest.mark.parametrize("kind", [SHARED, HELD])
@pytest.mark.parametrize("content", [b"not a database" * 100, b"SQLite format 3\0" + bytes(4080)])
def test_a_damaged_file_is_told_with_its_own_cure_and_stays_as_it_is(tmp_path: Path, kind: Kind, content: bytes) -> None:
    path = tmp_path / "a.sqlite"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"a\.sqlite: is damaged or no list of things \(.*\): delete it, and begin anew$") as caught:
        Database(path, kind)
    assert str(caught.value).isprintable()
    assert path.read_bytes() == content


def test_a_file_of_another_program_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE things (other TEXT)")
        connection.commit()
    with pytest.raises(ConfigError, match=r"is damaged or no list of things \(table things already exists\)"):
        Database(path, SHARED)


def test_a_folder_that_is_not_there_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot be written \(unable to open database file\): choose a folder that you may write to$"):
        Database(tmp_path / "none" / "a.sqlite", SHARED)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("SQLITE_FULL", r"cannot be written \(the disk is full\): free some space"),
        ("SQLITE_READONLY_DBMOVED", r"cannot be written \(x\): choose a folder that you may write to$"),
        ("SQLITE_IOERR_LOCK", r"the disk reports a fault or cannot lock files \(x\): choose another output folder, on another disk$"),
        ("SQLITE_BUSY_SNAPSHOT", r"another process has held it for 60 s \(x\): end that one"),
        ("SQLITE_CORRUPT_INDEX", r"is damaged or no list of things \(x\): delete it, and begin anew$"),
        ("", r"is damaged or no list of things \(x\): delete it, and begin anew$"),
    ],
)
def test_what_sqlite_says_becomes_one_line_with_a_cure(tmp_path: Path, name: str, told: str) -> None:
    file = Database(tmp_path / "a.sqlite", SHARED)
    error = sqlite3.OperationalError("x")
    if name:
        error.sqlite_errorname = name
    with pytest.raises(ConfigError, match=r"a\.sqlite: " + told) as caught, file.using():
        raise error
    assert is_full(caught.value.__cause__) is (name == "SQLITE_FULL")
    file.close()


@pytest.mark.skipif(os.name == "nt", reason="limits of file size are POSIX")
@pytest.mark.parametrize("kind", ["SHARED", "HELD"])
def test_a_file_that_may_not_grow_is_told_and_keeps_what_it_has(tmp_path: Path, kind: str) -> None:
    code = f"""
import resource, signal
from pathlib import Path
from tests.io.test_database import {kind}, put
from segpipe.io.database import Database
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
file = Database(Path({str(tmp_path / "a.sqlite")!r}), {kind})
put(file, "first")
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
for number in range(1000):
    put(file, "x" * 1000)
"""
    root = Path(__file__).resolve().parents[2]
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=root)
    assert "ConfigError" in run.stderr.splitlines()[-1] and "a.sqlite: " in run.stderr.splitlines()[-1], run.stderr
    file = Database(tmp_path / "a.sqlite", SHARED if kind == "SHARED" else HELD)
    assert "first" in names(file)
    file.close()


@pytest.mark.skipif(os.name == "nt", reason="rights of POSIX")
def test_a_private_file_and_its_log_are_nobody_elses(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        file = Database(tmp_path / "a.sqlite", replace(HELD, logged=True, private=True))
        put(file, "a")
        assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {"a.sqlite": 0o600, "a.sqlite-wal": 0o600}
        file.close()
    finally:
        os.umask(before)


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_a_signal_while_sqlite_asks_who_is_gone_is_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[BaseException]
) -> None:
    def interrupted(token: str) -> bool:
        raise kind

    file = Database(tmp_path / "a.sqlite", SHARED)
    monkeypatch.setattr(database, "is_gone", interrupted)
    with pytest.raises(kind), file.using() as connection:
        connection.execute("SELECT gone('x')").fetchall()
    monkeypatch.undo()
    with file.using() as connection:
        assert connection.execute("SELECT gone('x')").fetchone()[0] == 0
    file.close()


@pytest.mark.parametrize(("local", "journal"), [(True, "wal"), (False, "delete")])
def test_the_journal_suits_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, local: bool, journal: str) -> None:
    monkeypatch.setattr(database, "is_local", lambda folder: local)
    file = Database(tmp_path / "a.sqlite", SHARED)
    put(file, "a")
    assert pragma(tmp_path / "a.sqlite", "journal_mode") == journal
    file.close()
