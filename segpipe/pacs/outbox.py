"""`deliveries.sqlite`: what has been, is being and is to be sent where. Each change is on disk before anything follows from it.

An object is `waiting`, then `sending`, then `sent`, `refused`, or `waiting` again; `replaced` where a newer one of the same name came
before it was sent. A call that is killed leaves `sending`: whether that object came is not known, and asked before it is sent again, at
once where this machine can see that the call is gone, else when it has not said for ten minutes that it still sends.
An object is known by its SOP Instance UID: it is sent to a place once, whoever asks for it how often.
"""

from __future__ import annotations

import sqlite3
import time
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from segpipe.errors import DataError
from segpipe.io.database import Database, Kind
from segpipe.pacs.parcel import Parcel

OUTBOX = "deliveries.sqlite"
_LEASE_SECONDS = 600.0
"""That long an object is another call's that says nothing: in another container, or on another machine, nobody sees whether it lives."""
_SENDING = "another call is sending it, or was killed elsewhere less than ten minutes ago"
_FAR_SECONDS = 3600.0
"""No pause is that long: the clock was set."""
_SCHEMA = """
CREATE TABLE deliveries (
    number INTEGER PRIMARY KEY, destination TEXT NOT NULL, instance TEXT NOT NULL, sha256 TEXT NOT NULL, path TEXT NOT NULL,
    scan TEXT NOT NULL, state TEXT NOT NULL, worker TEXT NOT NULL DEFAULT '', unsure INTEGER NOT NULL DEFAULT 0,
    tries INTEGER NOT NULL DEFAULT 0, reason TEXT NOT NULL DEFAULT '', changed REAL NOT NULL, UNIQUE (destination, instance)
)"""
_DUE = "ALTER TABLE deliveries ADD COLUMN due REAL NOT NULL DEFAULT 0"
_CONTENT = "ALTER TABLE deliveries ADD COLUMN content TEXT NOT NULL DEFAULT ''"
_INDEX = "CREATE INDEX open ON deliveries (destination, state)"
_KIND = Kind(
    what="list of deliveries",
    cure="delete it, and what was sent is sent once more under the same UIDs, which a PACS keeps once",
    place="output folder",
    steps=((_SCHEMA, _INDEX), (_DUE,), (_CONTENT,)),
)
_FREE = f"(state = 'waiting' OR (state = 'sending' AND (gone(worker) OR abs(:now - changed) > {_LEASE_SECONDS})))"
_OPEN = f"destination = :place AND state IN ('waiting', 'sending') AND {_FREE}"
_READY = f"(due <= :now OR due > :now + {_FAR_SECONDS})"


@dataclass(frozen=True)
class Delivery:
    """An object that this call is to send.

    Attributes:
        scan: the case that it is a result of.
        path: relative to the output folder.
        unsure: it was sent before, and nobody knows whether it came.
        worker: the one that holds it.
    """

    number: int
    scan: str
    path: str
    instance: str
    sha256: str
    unsure: bool
    worker: str = ""


class Outbox:
    """The deliveries of one output folder to one destination; threads and calls may share it.

    Args:
        destination: as `shown` of its address says it.

    Raises:
        ConfigError: the file is damaged or another program's, or cannot be written.
    """

    def __init__(self, out: Path, destination: str) -> None:
        self._destination = destination
        out.mkdir(parents=True, exist_ok=True)
        self._file = Database(out / OUTBOX, _KIND)

    def close(self) -> None:
        """Leave the file to others."""
        self._file.close()

    def put(self, scan: str, parcels: Sequence[tuple[str, Parcel]]) -> int:
        """Let a scan's objects wait, unless they are known; what waits under the same path in an older version is not sent any more.

        Args:
            parcels: each with its path relative to the output folder.

        Returns:
            How many are new.

        Raises:
            DataError: an object of the same UID and other content was sent, or may have been; the others wait all the same.
        """
        with self._file.changing() as connection:
            clashes = [path for path, parcel in parcels if self._clashes(connection, parcel)]
            fresh = sum(self._put(connection, scan, path, parcel) for path, parcel in parcels if path not in clashes)
        if clashes:
            cure = "is not sent; must be the same object, or have a UID of its own: segment the scan into another output folder"
            raise DataError(f"{', '.join(clashes)}: another object of the same UID was sent before to {self._destination}: {cure}")
        return fresh

    def _clashes(self, connection: sqlite3.Connection, parcel: Parcel) -> bool:
        find = """SELECT 1 FROM deliveries WHERE destination = ? AND instance = ? AND sha256 != ? AND (content = '' OR content != ?)
            AND (state IN ('sent', 'sending') OR unsure)"""
        return connection.execute(find, (self._destination, parcel.instance, parcel.sha256, parcel.content)).fetchone() is not None

    def _put(self, connection: sqlite3.Connection, scan: str, path: str, parcel: Parcel) -> int:
        older = """UPDATE deliveries SET state = 'replaced', changed = ? WHERE destination = ? AND path = ? AND instance != ?
            AND state IN ('waiting', 'refused')"""
        connection.execute(older, (time.time(), self._destination, path, parcel.instance))
        fresh = """INSERT INTO deliveries (destination, instance, sha256, content, path, scan, state, changed)
            VALUES (?, ?, ?, ?, ?, ?, 'waiting', ?) ON CONFLICT DO NOTHING"""
        values = (self._destination, parcel.instance, parcel.sha256, parcel.content, path, scan, time.time())
        if connection.execute(fresh, values).rowcount == 1:
            return 1
        again = """UPDATE deliveries SET state = 'waiting', sha256 = ?, content = ?, path = ?, scan = ?, changed = ?, due = 0
            WHERE destination = ? AND instance = ? AND state IN ('waiting', 'refused', 'replaced')"""
        connection.execute(again, (parcel.sha256, parcel.content, path, scan, time.time(), self._destination, parcel.instance))
        # one that a killed call was sending, and that was made again since, is the same but for its date
        taken_over = "UPDATE deliveries SET sha256 = ?, path = ? WHERE destination = ? AND instance = ? AND state = 'sending'"
        connection.execute(taken_over, (parcel.sha256, path, self._destination, parcel.instance))
        return 0

    def claim(self, worker: str, but: Collection[int] = ()) -> Delivery | None:
        """Hold the object that has waited longest, those that failed behind the others; None when none is due.

        Args:
            worker: this process, see `alive.new_token`; it must `renew` what it holds.
            but: numbers that are passed over.
        """
        find = f"SELECT * FROM deliveries WHERE {_OPEN} AND {_READY} ORDER BY due, number"
        with self._file.changing() as connection:
            records = connection.execute(find, {"place": self._destination, "now": time.time()})
            found = next((record for record in records if record["number"] not in but), None)
            if found is None:
                return None
            unsure = bool(found["unsure"]) or found["state"] == "sending"
            sql = "UPDATE deliveries SET state = 'sending', worker = ?, unsure = ?, tries = tries + 1, changed = ? WHERE number = ?"
            connection.execute(sql, (worker, int(unsure), time.time(), found["number"]))
        return Delivery(found["number"], found["scan"], found["path"], found["instance"], found["sha256"], unsure, worker)

    def pause(self, but: Collection[int] = ()) -> float | None:
        """Seconds until an object that waits is due, 0 where one is; None where none waits.

        Args:
            but: as in `claim`.
        """
        now = time.time()
        with self._file.using() as connection:
            records = connection.execute(f"SELECT number, due FROM deliveries WHERE {_OPEN}", {"place": self._destination, "now": now})
            pauses = [due - now for number, due in map(tuple, records) if number not in but]
        return min((pause if 0 < pause <= _FAR_SECONDS else 0.0 for pause in pauses), default=None)

    def renew(self, delivery: Delivery) -> None:
        """Say that it is still being sent."""
        with self._file.changing() as connection:
            sql = "UPDATE deliveries SET changed = ? WHERE number = ? AND state = 'sending' AND worker = ?"
            connection.execute(sql, (time.time(), delivery.number, delivery.worker))

    def sent(self, delivery: Delivery) -> None:
        """It has come."""
        self._set(delivery, "sent", "", False)

    def later(self, delivery: Delivery, reason: str, unsure: bool, pause: float = 0.0) -> None:
        """It is to be tried again, after those that have not failed.

        Args:
            pause: seconds, before which it is not.
        """
        self._set(delivery, "waiting", reason, unsure, time.time() + pause)

    def refused(self, delivery: Delivery, reason: str) -> None:
        """It is not tried again until somebody asks for it again."""
        self._set(delivery, "refused", reason, delivery.unsure)

    def changed(self, delivery: Delivery, reason: str, instance: str) -> bool:
        """Another object lies in its file; whether that one is known, and takes its place.

        Args:
            instance: UID of the one that lies there.
        """
        find = "SELECT 1 FROM deliveries WHERE destination = ? AND path = ? AND instance = ? AND number != ?"
        with self._file.changing() as connection:
            known = connection.execute(find, (self._destination, delivery.path, instance, delivery.number)).fetchone() is not None
            self._set_in(connection, delivery, "replaced" if known else "refused", "" if known else reason, delivery.unsure, 0.0)
        return known

    def _set(self, delivery: Delivery, state: str, reason: str, unsure: bool, due: float = 0.0) -> None:
        with self._file.changing() as connection:
            self._set_in(connection, delivery, state, reason, unsure, due)

    def _set_in(self, connection: sqlite3.Connection, delivery: Delivery, state: str, reason: str, unsure: bool, due: float) -> None:
        """Nothing where another call has taken it over, but that it has come."""
        sql = """UPDATE deliveries SET state = ?, worker = '', reason = ?, unsure = ?, changed = ?, due = ? WHERE number = ?
            AND state != 'sent' AND (? = 'sent' OR worker = ?)"""
        values = (state, reason, int(unsure), time.time(), due, delivery.number, state, delivery.worker)
        connection.execute(sql, values)

    def counts(self) -> Counter[str]:
        """How many objects are in each state."""
        with self._file.using() as connection:
            sql = "SELECT state, COUNT(*) FROM deliveries WHERE destination = ? GROUP BY state"
            return Counter(dict(map(tuple, connection.execute(sql, (self._destination,)))))

    def open(self, scan: str) -> bool:
        """Whether any object of a scan has still to be sent."""
        with self._file.using() as connection:
            sql = "SELECT 1 FROM deliveries WHERE destination = ? AND scan = ? AND state IN ('waiting', 'sending') LIMIT 1"
            return connection.execute(sql, (self._destination, scan)).fetchone() is not None

    def reasons(self) -> list[tuple[str, str, str]]:
        """Scan, path and reason of each object that is not sent."""
        with self._file.using() as connection:
            sql = """SELECT scan, path, CASE state WHEN 'sending' THEN ? ELSE reason END FROM deliveries
                WHERE destination = ? AND state IN ('waiting', 'sending', 'refused') ORDER BY number"""
            return [tuple(record) for record in connection.execute(sql, (_SENDING, self._destination))]
