"""`jobs.sqlite`: every job of a server and what became of it; held by one server at a time, and whole whenever a process ends.

A job is `queued` once its files are on disk, then `running`, then `done`, `failed` or `cancelled`. What was running when a server ended is
queued again, in its old place.
"""

from __future__ import annotations

import contextlib
import errno
import json
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from segpipe.errors import ConfigError
from segpipe.io.database import Database, Kind, is_full

JOBS = "jobs.sqlite"
State = Literal["queued", "running", "done", "failed", "cancelled"]
STATES: tuple[State, ...] = ("queued", "running", "done", "failed", "cancelled")
ENDED: tuple[State, ...] = ("done", "failed", "cancelled")
_JSON = ("files", "warnings", "volumes", "results")
_SCHEMA = """CREATE TABLE jobs (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, model TEXT NOT NULL, version TEXT NOT NULL, name TEXT NOT NULL,
    files TEXT NOT NULL, tta INTEGER NOT NULL, state TEXT NOT NULL, created REAL NOT NULL, started REAL, ended REAL, tries INTEGER NOT NULL,
    error TEXT NOT NULL, warnings TEXT NOT NULL, volumes TEXT NOT NULL, results TEXT NOT NULL,
    unwanted INTEGER NOT NULL DEFAULT 0)"""
_INDEX = "CREATE INDEX by_state ON jobs (state, number)"
_HASH = "ALTER TABLE jobs ADD COLUMN sha256 TEXT NOT NULL DEFAULT ''"
"""Of the model, so that no other file of its name does the job."""
_KIND = Kind(
    what="list of jobs",
    cure="choose another --data folder",
    place="--data folder",
    steps=((_SCHEMA, _INDEX), (_HASH,)),
    holder="segpipe serve",
    logged=True,
    private=True,  # names of files may be names of patients
)


@dataclass(frozen=True)
class Job:
    """Attributes:
    id: random, names its folder; whoever knows it may have its results.
    model, version: which is to segment it.
    name: of the input as people may read it; no path.
    files: of the scan in its folder, one a channel in the model's order, or one zip archive of DICOM.
    tta: whether mirrorings are averaged.
    created, started, ended: seconds since 1970.
    tries: how often a worker began with it.
    error: why it has failed, one line; else empty.
    warnings: how the scan is unlike those of the training, and what was repaired or could not be written.
    volumes: of each label but the background: value, name, colour, ml (None for pictures), voxels.
    results: format -> file in the job's folder.
    sha256: of the model file; empty: not known, the job is of a server that did not keep it.
    """

    id: str
    model: str
    version: str
    name: str
    files: tuple[str, ...]
    tta: bool = False
    state: State = "queued"
    created: float = field(default_factory=time.time)
    started: float | None = None
    ended: float | None = None
    tries: int = 0
    error: str = ""
    warnings: tuple[str, ...] = ()
    volumes: tuple[dict[str, Any], ...] = ()
    results: dict[str, str] = field(default_factory=dict)
    sha256: str = ""

    @property
    def identity(self) -> tuple[str, str, str]:
        """Of the model that was chosen for it: id, version, SHA-256. No other one may do it."""
        return self.model, self.version, self.sha256

    @property
    def over(self) -> bool:
        """Whether nothing more becomes of it."""
        return self.state in ENDED


_COLUMNS = tuple(one.name for one in fields(Job))


class Store:
    """Threads may share it. What is added, cancelled or removed is on disk when its method returns.

    Args:
        folder: of the server.

    Raises:
        ConfigError: another server holds it, it is damaged, or cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        with _full_told():
            self._file = Database(folder / JOBS, _KIND)
        try:
            self._take_back()
        except BaseException:
            self._file.close()
            raise

    def _take_back(self) -> None:
        """What was running when the server before ended."""
        with self._using() as connection:
            connection.execute("UPDATE jobs SET state = 'cancelled', ended = ? WHERE state = 'running' AND unwanted", (time.time(),))
            connection.execute("UPDATE jobs SET state = 'queued', started = NULL WHERE state = 'running'")

    def close(self) -> None:
        """Let another server have it."""
        self._file.close()

    def add(self, job: Job) -> None:
        """A job from now on, behind all others."""
        values = _to_record(job)
        sql = f"INSERT INTO jobs ({', '.join(values)}) VALUES ({', '.join(f':{name}' for name in values)})"
        with self._using() as connection:
            connection.execute(sql, values)

    def get(self, id: str) -> Job | None:
        """A job; None: there is none."""
        found = self._jobs("WHERE id = ?", id)
        return found[0] if found else None

    def newest(self, most: int) -> list[Job]:
        """The newest first."""
        return self._jobs("ORDER BY number DESC LIMIT ?", most)

    def next(self) -> Job | None:
        """The job that has waited longest."""
        found = self._jobs("WHERE state = 'queued' ORDER BY number LIMIT 1")
        return found[0] if found else None

    def position(self, id: str) -> int:
        """Of a job that waits: 1 is the next; 0: it does not wait."""
        sql = (
            """SELECT count(*) FROM jobs WHERE state = 'queued' AND number <= (SELECT number FROM jobs WHERE id = ? AND state = 'queued')"""
        )
        with self._using() as connection:
            return int(connection.execute(sql, (id,)).fetchone()[0])

    def counts(self) -> dict[State, int]:
        """Jobs in each state."""
        with self._using() as connection:
            found = dict(connection.execute("SELECT state, count(*) FROM jobs GROUP BY state").fetchall())
        return {state: int(found.get(state, 0)) for state in STATES}

    def start(self, id: str) -> bool:
        """A worker begins; False: it does not wait any more."""
        sql = "UPDATE jobs SET state = 'running', started = ?, tries = tries + 1 WHERE id = ? AND state = 'queued'"
        with self._in_passing() as connection:
            return connection.execute(sql, (time.time(), id)).rowcount == 1

    def back(self, id: str) -> bool:
        """A worker has let go of a job, which waits in its old place; one that nobody wants any more is cancelled."""
        sql = """UPDATE jobs SET tries = tries - 1, state = CASE WHEN unwanted THEN 'cancelled' ELSE 'queued' END,
            started = CASE WHEN unwanted THEN started END, ended = CASE WHEN unwanted THEN ? END WHERE id = ? AND state = 'running'"""
        return self._change(sql, time.time(), id)

    def cancel(self, id: str) -> bool:
        """A job that waits is done without; False: it does not wait."""
        return self._change("UPDATE jobs SET state = 'cancelled', ended = ? WHERE id = ? AND state = 'queued'", time.time(), id)

    def unwanted(self, id: str) -> bool:
        """A running job is not to be gone on with; False: it does not run."""
        return self._change("UPDATE jobs SET unwanted = 1 WHERE id = ? AND state = 'running'", id)

    def end(self, job: Job) -> bool:
        """What became of a running job: state, error, warnings, volumes and results; False: it does not run."""
        values = _to_record(job) | {"ended": time.time()}
        names = ("state", "ended", "error", "warnings", "volumes", "results")
        sql = f"UPDATE jobs SET {', '.join(f'{name} = :{name}' for name in names)} WHERE id = :id AND state = 'running'"
        with self._in_passing() as connection:
            return connection.execute(sql, {name: values[name] for name in (*names, "id")}).rowcount == 1

    def remove(self, id: str) -> bool:
        """Forget a job that has ended; False: it has not, or is not there."""
        return self._change("DELETE FROM jobs WHERE id = ? AND state IN ('done', 'failed', 'cancelled')", id)

    def ended_before(self, when: float) -> list[str]:
        """Those that ended before `when`, seconds since 1970."""
        with self._using() as connection:
            rows = connection.execute("SELECT id FROM jobs WHERE ended < ? ORDER BY ended", (when,)).fetchall()
        return [str(row[0]) for row in rows]

    def too_many(self, most: int) -> list[str]:
        """Those that must go so that `most` are left, the oldest that have ended."""
        sql = """SELECT id FROM jobs WHERE state IN ('done', 'failed', 'cancelled') ORDER BY ended
            LIMIT max(0, (SELECT count(*) FROM jobs) - ?)"""
        with self._using() as connection:
            return [str(row[0]) for row in connection.execute(sql, (most,)).fetchall()]

    def ids(self) -> set[str]:
        """Of all jobs."""
        with self._using() as connection:
            return {str(row[0]) for row in connection.execute("SELECT id FROM jobs").fetchall()}

    @contextlib.contextmanager
    def _in_passing(self) -> Iterator[sqlite3.Connection]:
        """Not waited for by the disk: after a power cut, not after a kill, a job may be back in its place and is done once more."""
        with self._using() as connection:
            connection.execute("PRAGMA synchronous = NORMAL")
            try:
                yield connection
            finally:
                connection.execute("PRAGMA synchronous = FULL")

    def _change(self, sql: str, *values: Any) -> bool:
        with self._using() as connection:
            return connection.execute(sql, values).rowcount == 1

    def _jobs(self, where: str, *values: Any) -> list[Job]:
        with self._using() as connection:
            rows = connection.execute(f"SELECT {', '.join(_COLUMNS)} FROM jobs {where}", values).fetchall()
        return [_from_record(dict(zip(_COLUMNS, row, strict=True))) for row in rows]

    @contextlib.contextmanager
    def _using(self) -> Iterator[sqlite3.Connection]:
        with _full_told(), self._file.using() as connection:
            yield connection


@contextlib.contextmanager
def _full_told() -> Iterator[None]:
    """A full disk is told to a client as such."""
    try:
        yield
    except ConfigError as error:
        if is_full(error.__cause__):
            raise OSError(errno.ENOSPC, "the disk is full") from error
        raise


def _to_record(job: Job) -> dict[str, Any]:
    values = asdict(job)
    return values | {name: json.dumps(values[name]) for name in _JSON} | {"tta": int(job.tta)}


def _from_record(record: dict[str, Any]) -> Job:
    values = record | {name: json.loads(record[name]) for name in _JSON}
    for name in ("files", "warnings", "volumes"):
        values[name] = tuple(values[name])
    return Job(**values | {"tta": bool(record["tta"])})
