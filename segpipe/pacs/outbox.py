"""`deliveries.sqlite`: what has been, is being and is to be sent where. Each change is on disk before anything follows from it.

An object is `waiting`, then `sending`, then `sent`, `refused`, or `waiting` again; `replaced` where a newer one of the same name came
before it was sent. A call that is killed leaves `sending`: whether that object came is not known, and asked before it is sent again.
An object is known by its SOP Instance UID: it is sent to a place once, whoever asks for it how often.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from segpipe.errors import ConfigError
from segpipe.inference.disk import is_local
from segpipe.inference.journal import choose_journal, explain
from segpipe.io.alive import is_gone
from segpipe.pacs.parcel import Parcel

OUTBOX = "deliveries.sqlite"
_VERSION = 1
_WAIT_SECONDS = 60.0
_SCHEMA = """
CREATE TABLE deliveries (
    number INTEGER PRIMARY KEY, destination TEXT NOT NULL, instance TEXT NOT NULL, sha256 TEXT NOT NULL, path TEXT NOT NULL,
    scan TEXT NOT NULL, state TEXT NOT NULL, worker TEXT NOT NULL DEFAULT '', unsure INTEGER NOT NULL DEFAULT 0,
    tries INTEGER NOT NULL DEFAULT 0, reason TEXT NOT NULL DEFAULT '', changed REAL NOT NULL, UNIQUE (destination, instance)
)"""
_INDEX = "CREATE INDEX open ON deliveries (destination, state)"
_FREE = "(state = 'waiting' OR (state = 'sending' AND gone(worker)))"


@dataclass(frozen=True)
class Delivery:
    """An object that this call is to send.

    Attributes:
        scan: the case that it is a result of.
        path: relative to the output folder.
        unsure: it was sent before, and nobody knows whether it came.
    """

    number: int
    scan: str
    path: str
    instance: str
    sha256: str
    unsure: bool


class Outbox:
    """The deliveries of one output folder to one destination; threads and calls may share it.

    Args:
        destination: as `shown` of its address says it.

    Raises:
        ConfigError: the file is damaged or another program's, or cannot be written.
    """

    def __init__(self, out: Path, destination: str) -> None:
        self._path = out / OUTBOX
        self._destination = destination
        self._lock = threading.RLock()
        out.mkdir(parents=True, exist_ok=True)
        with self._explained():
            self._connection = sqlite3.connect(self._path, _WAIT_SECONDS, isolation_level=None, check_same_thread=False)
            try:
                self._set_up(is_local(out))
            except BaseException:
                self._connection.close()
                raise

    def close(self) -> None:
        """Leave the file to others."""
        with self._lock:
            self._connection.close()

    def put(self, scan: str, parcels: Sequence[tuple[str, Parcel]]) -> int:
        """Let a scan's objects wait, unless they are known; what waits under the same path in an older version is not sent any more.

        Args:
            parcels: each with its path relative to the output folder.

        Returns:
            How many are new.
        """
        with self._changing() as connection:
            return sum(self._put(connection, scan, path, parcel) for path, parcel in parcels)

    def _put(self, connection: sqlite3.Connection, scan: str, path: str, parcel: Parcel) -> int:
        older = """UPDATE deliveries SET state = 'replaced', changed = ? WHERE destination = ? AND path = ? AND instance != ?
            AND state IN ('waiting', 'refused')"""
        connection.execute(older, (time.time(), self._destination, path, parcel.instance))
        fresh = """INSERT INTO deliveries (destination, instance, sha256, path, scan, state, changed) VALUES (?, ?, ?, ?, ?, 'waiting', ?)
            ON CONFLICT DO NOTHING"""
        values = (self._destination, parcel.instance, parcel.sha256, path, scan, time.time())
        if connection.execute(fresh, values).rowcount == 1:
            return 1
        again = """UPDATE deliveries SET state = 'waiting', sha256 = ?, path = ?, scan = ?, changed = ?
            WHERE destination = ? AND instance = ? AND state IN ('waiting', 'refused', 'replaced')"""
        connection.execute(again, (parcel.sha256, path, scan, time.time(), self._destination, parcel.instance))
        return 0

    def claim(self, worker: str) -> Delivery | None:
        """Hold the object that has waited longest; None when none waits.

        Args:
            worker: this process, see `alive.new_token`.
        """
        find = f"SELECT * FROM deliveries WHERE destination = ? AND state IN ('waiting', 'sending') AND {_FREE} ORDER BY number LIMIT 1"
        with self._changing() as connection:
            found = connection.execute(find, (self._destination,)).fetchone()
            if found is None:
                return None
            unsure = bool(found["unsure"]) or found["state"] == "sending"
            sql = "UPDATE deliveries SET state = 'sending', worker = ?, unsure = ?, tries = tries + 1, changed = ? WHERE number = ?"
            connection.execute(sql, (worker, int(unsure), time.time(), found["number"]))
        return Delivery(found["number"], found["scan"], found["path"], found["instance"], found["sha256"], unsure)

    def sent(self, delivery: Delivery) -> None:
        """It has come."""
        self._set(delivery, "sent", "", False)

    def later(self, delivery: Delivery, reason: str, unsure: bool) -> None:
        """It is to be tried again."""
        self._set(delivery, "waiting", reason, unsure)

    def refused(self, delivery: Delivery, reason: str) -> None:
        """It is not tried again until somebody asks for it again."""
        self._set(delivery, "refused", reason, False)

    def _set(self, delivery: Delivery, state: str, reason: str, unsure: bool) -> None:
        with self._changing() as connection:
            sql = "UPDATE deliveries SET state = ?, worker = '', reason = ?, unsure = ?, changed = ? WHERE number = ?"
            connection.execute(sql, (state, reason, int(unsure), time.time(), delivery.number))

    def counts(self) -> Counter[str]:
        """How many objects are in each state."""
        with self._explained():
            sql = "SELECT state, COUNT(*) FROM deliveries WHERE destination = ? GROUP BY state"
            return Counter(dict(map(tuple, self._connection.execute(sql, (self._destination,)))))

    def open(self, scan: str) -> bool:
        """Whether any object of a scan has still to be sent."""
        with self._explained():
            sql = "SELECT 1 FROM deliveries WHERE destination = ? AND scan = ? AND state IN ('waiting', 'sending') LIMIT 1"
            return self._connection.execute(sql, (self._destination, scan)).fetchone() is not None

    def reasons(self) -> list[tuple[str, str, str]]:
        """Scan, path and reason of each object that is not sent."""
        with self._explained():
            sql = "SELECT scan, path, reason FROM deliveries WHERE destination = ? AND state IN ('waiting', 'sending', 'refused')"
            return [tuple(record) for record in self._connection.execute(sql + " ORDER BY number", (self._destination,))]

    def _set_up(self, local: bool) -> None:
        connection = self._connection
        connection.row_factory = sqlite3.Row
        connection.create_function("gone", 1, is_gone)
        version = int(connection.execute("PRAGMA user_version").fetchone()[0])
        if version > _VERSION:
            raise ConfigError(f"{self._path}: is of a newer segpipe (format {version}): use that one, or choose another output folder")
        choose_journal(connection, self._path, local, fresh=version == 0)
        connection.execute("PRAGMA synchronous = FULL")  # what is sent must not be forgotten when the power fails
        connection.execute("BEGIN IMMEDIATE")
        if int(connection.execute("PRAGMA user_version").fetchone()[0]) == 0:
            connection.execute(_SCHEMA)
            connection.execute(_INDEX)
            connection.execute(f"PRAGMA user_version = {_VERSION}")
        connection.execute("COMMIT")

    @contextlib.contextmanager
    def _changing(self) -> Iterator[sqlite3.Connection]:
        """One transaction: all of it or, when the block raises, nothing."""
        with self._explained():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            with self._lock:
                yield
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorname", "").startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_ERROR")):
                cure = "delete it, and what was sent is sent once more under the same UIDs, which a PACS keeps once"
                raise ConfigError(f"{self._path}: is damaged or no list of deliveries ({error}): {cure}") from error
            raise ConfigError(explain(self._path, error, _WAIT_SECONDS)) from error
