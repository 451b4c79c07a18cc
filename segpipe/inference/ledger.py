"""`predictions.sqlite`: the state of every scan of an output folder, shared by all calls that work on it; what counts after a cut.

A case is `waiting` until a call claims it, then `running` under a lease that the call renews while it lives, then `done`, `skipped`,
`failed` or `set aside` (its worker died of it twice). What is known of its files (`Row`) stays until it is replaced, so that a case that
waits to be done again still knows what lies on disk.

The first call imports the `predictions.csv` of an earlier version. How the file is kept safe: see `io.database`.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from segpipe.inference.columns import FIELDS, from_record, to_record
from segpipe.inference.lock import locked
from segpipe.inference.table import LEDGER, TABLE, Row, check_table, read_table, write_csv
from segpipe.io.atomic import replacing
from segpipe.io.database import Database, Kind

State = Literal["waiting", "running", "done", "skipped", "failed", "set aside"]
LEASE_SECONDS = 120.0
"""How long a claim holds after its last renewal: time for a machine that pauses or whose clock is a minute off."""

_MANY = 500
"""Names in one statement; SQLite allows 32,766."""
_SCHEMA = f"""
CREATE TABLE cases (
    name TEXT PRIMARY KEY, state TEXT NOT NULL, job TEXT NOT NULL DEFAULT '', worker TEXT NOT NULL DEFAULT '',
    lease_until REAL NOT NULL DEFAULT 0, attempts INTEGER NOT NULL DEFAULT 0, crashes INTEGER NOT NULL DEFAULT 0,
    revision INTEGER NOT NULL DEFAULT 1, {", ".join(f"{name} TEXT NOT NULL DEFAULT ''" for name in FIELDS)}
) WITHOUT ROWID"""
_KIND = Kind(
    what="ledger of predictions",
    cure=f"delete it ({TABLE} beside it, its readable copy, is taken in its place), or choose another output folder",
    place="output folder",
    steps=((_SCHEMA,),),
)
_SET_ROW = ", ".join(f"{name} = :{name}" for name in FIELDS)
_FREE = "(state = 'waiting' OR (state = 'running' AND (lease_until < :now OR gone(worker))))"


@dataclass(frozen=True)
class Entry:
    """What the ledger knows of one case.

    Attributes:
        row: what became of it, and which files of it lie in the folder; None when it was never segmented.
        job: what the call that put it here wants: model, options, format.
        worker: the call that holds it (see `alive.new_token`); empty when none does.
        held: whether a living call holds it.
        attempts: how often it was claimed.
        crashes: how often a worker died of it since it was last done.
        revision: counts its changes.
    """

    case: str
    state: State
    row: Row | None
    job: str
    worker: str
    held: bool
    attempts: int
    crashes: int
    revision: int


class Ledger:
    """The ledger of one output folder; threads may share it. Nothing is written to disk before `begin`.

    Raises:
        ConfigError: the ledger or the table is damaged or another program's, or the disk cannot lock files.
    """

    def __init__(self, out: Path) -> None:
        self._out = out
        self._path = out / LEDGER
        self._lock = threading.RLock()
        check_table(out / TABLE)
        self._file = self._opened()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave the file to others; the last one to leave takes the write-ahead log away."""
        with self._lock:
            self._file.close()

    def begin(self) -> None:
        """Make the file where there is none yet.

        Raises:
            ConfigError: the folder cannot be written to.
        """
        with self._lock:
            if self._on_disk:
                return
            self._file.close()
            self._out.mkdir(parents=True, exist_ok=True)
            self._file = self._opened(make=True)

    def read_again(self) -> None:
        """Turn to the file where there was none yet and another call has made one."""
        if not self._on_disk and self._path.exists():
            self.begin()

    def get(self, case: str) -> Row | None:
        """What became of a case; None when it was never segmented."""
        entry = self.entry(case)
        return entry.row if entry else None

    def entry(self, case: str) -> Entry | None:
        """Everything known of a case."""
        return self.entries([case]).get(case)

    def entries(self, cases: Sequence[str]) -> dict[str, Entry]:
        """Everything known of those of `cases` that are here."""
        found: dict[str, Entry] = {}
        with self._using() as connection:
            for start in range(0, len(cases), _MANY):
                some = cases[start : start + _MANY]
                sql = f"SELECT *, (state = 'running' AND gone(worker)) AS gone FROM cases WHERE name IN ({','.join('?' * len(some))})"
                found |= {record["name"]: _entry(record) for record in connection.execute(sql, some)}
        return found

    @property
    def rows(self) -> list[Row]:
        """What became of every case that was ever segmented, sorted by case."""
        with self._using() as connection:
            return list(_each_row(connection))

    def put(self, rows: Sequence[Row]) -> None:
        """Set what became of cases that no call holds, without a claim: of those that are skipped."""
        sql = f"""INSERT INTO cases (name, state, {", ".join(FIELDS)}) VALUES (:name, :state, {", ".join(f":{name}" for name in FIELDS)})
            ON CONFLICT (name) DO UPDATE SET state = :state, {_SET_ROW}, revision = revision + 1
            WHERE state != 'running' OR lease_until < :now OR gone(worker)"""
        with self._changing() as connection:
            connection.executemany(sql, [{**to_record(row), "state": _state(row), "now": time.time()} for row in rows])

    def enqueue(self, cases: Sequence[tuple[str, int]], job: str) -> list[str]:
        """Let cases wait for `job`, unless they have changed since they were looked at.

        Args:
            cases: each with the revision that was seen; 0 for one that was not here.

        Returns:
            Those that somebody else has changed, as they were.
        """
        sql = f"""INSERT INTO cases (name, state, job) VALUES (:name, 'waiting', :job)
            ON CONFLICT (name) DO UPDATE SET state = 'waiting', job = :job, worker = '', revision = revision + 1
            WHERE revision = :revision AND (state != 'running' OR {_FREE})"""
        with self._changing() as connection:
            values = [{"name": name, "job": job, "revision": revision, "now": time.time()} for name, revision in cases]
            return [str(value["name"]) for value in values if connection.execute(sql, value).rowcount == 0]

    def claim(self, cases: Sequence[str], job: str, worker: str, crashed: bool = False) -> Entry | None:
        """Hold the first of `cases` (500 at most) that waits for `job`, or whose call has died; None when there is none.

        Args:
            crashed: take one of those that a worker has died of, which are else passed over.
        """
        names = ",".join(f":n{number}" for number in range(len(cases)))
        find = f"SELECT name FROM cases WHERE name IN ({names}) AND job = :job AND crashes {'>' if crashed else '='} 0 AND {_FREE}"
        values = {f"n{number}": name for number, name in enumerate(cases)} | {"job": job, "now": time.time()}
        with self._changing() as connection:
            free = {record["name"] for record in connection.execute(find, values)}
            name = next((name for name in cases if name in free), None)
            if name is None:
                return None
            sql = """UPDATE cases SET state = 'running', worker = ?, lease_until = ?, attempts = attempts + 1, revision = revision + 1
                WHERE name = ?"""
            connection.execute(sql, (worker, time.time() + LEASE_SECONDS, name))
        return self.entry(name)

    def renew(self, worker: str) -> None:
        """Everything that `worker` holds stays its own for another `LEASE_SECONDS`."""
        with self._changing() as connection:
            sql = "UPDATE cases SET lease_until = ? WHERE state = 'running' AND worker = ?"
            connection.execute(sql, (time.time() + LEASE_SECONDS, worker))

    def mark(self, row: Row, worker: str) -> bool:
        """Note which files of a case are about to be written; False, and nothing is noted, when `worker` no longer holds it."""
        return self._owned(row, worker, _SET_ROW)

    def finish(self, row: Row, worker: str, set_aside: bool = False) -> bool:
        """Note what became of a case and let it go; False, and nothing is noted, when `worker` no longer holds it."""
        crashes = "crashes" if row.status == "failed" else "0"
        state = "set aside" if set_aside else _state(row)
        return self._owned(row, worker, f"{_SET_ROW}, state = '{state}', lease_until = 0, crashes = {crashes}")

    def _owned(self, row: Row, worker: str, what: str) -> bool:
        sql = f"UPDATE cases SET {what}, revision = revision + 1 WHERE name = :name AND state = 'running' AND worker = :worker"
        with self._changing() as connection:
            return connection.execute(sql, {**to_record(row), "worker": worker}).rowcount == 1

    def crashed(self, case: str, worker: str) -> None:
        """Note that a process died of a case that `worker` holds; it waits again."""
        with self._changing() as connection:
            sql = """UPDATE cases SET state = 'waiting', worker = '', crashes = crashes + 1, revision = revision + 1
                WHERE name = ? AND state = 'running' AND worker = ?"""
            connection.execute(sql, (case, worker))

    def release(self, worker: str, case: str | None = None) -> None:
        """Let everything wait again that `worker` holds, or one case, as if it had not been claimed."""
        with self._changing() as connection:
            sql = """UPDATE cases SET state = 'waiting', worker = '', lease_until = 0, attempts = attempts - 1, revision = revision + 1
                WHERE state = 'running' AND worker = :worker AND (:case IS NULL OR name = :case)"""
            connection.execute(sql, {"worker": worker, "case": case})

    def export(self) -> None:
        """Write `predictions.csv`.

        Raises:
            ConfigError: it cannot be written.
        """
        with locked(self._out), replacing(self._out / TABLE) as path:  # locked, so that no call puts an older table over a newer one
            self._write_table(path)

    def _write_table(self, path: Path) -> None:
        with path.open("w", encoding="utf-8", newline="") as file, self._using() as connection:
            connection.execute("BEGIN")  # both looks see the same rows
            try:
                write_csv(file, _each_row(connection), _each_row(connection))
            finally:
                connection.execute("COMMIT")

    def _opened(self, make: bool = False) -> Database:
        """The file, or, where there is none, a copy in memory of what the table says."""
        there = self._path.exists()
        self._on_disk = make or there
        rows = [] if there else read_table(self._out / TABLE)
        return Database(self._path, _KIND, self._on_disk, fill=lambda connection: _take_over(connection, rows))

    @contextlib.contextmanager
    def _using(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._file.using() as connection:  # no thread keeps one that `begin` has closed
            yield connection

    @contextlib.contextmanager
    def _changing(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._file.changing() as connection:
            yield connection


def _take_over(connection: sqlite3.Connection, rows: Sequence[Row]) -> None:
    sql = f"INSERT INTO cases (name, state, {', '.join(FIELDS)}) VALUES (:name, :state, {', '.join(f':{name}' for name in FIELDS)})"
    connection.executemany(sql, [{**to_record(row), "state": _state(row)} for row in rows])


def _each_row(connection: sqlite3.Connection) -> Iterator[Row]:
    for record in connection.execute("SELECT * FROM cases WHERE status != '' ORDER BY name"):
        yield from_record(record)


def _state(row: Row) -> State:
    """Of a case that nobody holds, by what became of it; one that was being written when its call ended waits."""
    return "waiting" if row.status == "started" else row.status


def _entry(record: sqlite3.Row) -> Entry:
    if record["state"] not in get_args(State):
        raise sqlite3.DatabaseError(f"state {record['state']!r} of {record['name']}")
    held = record["state"] == "running" and record["lease_until"] >= time.time() and not record["gone"]
    plain = {key: record[key] for key in ("state", "job", "worker", "attempts", "crashes", "revision")}
    return Entry(case=record["name"], row=from_record(record) if record["status"] else None, held=held, **plain)
