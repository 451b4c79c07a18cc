"""`node.sqlite`: what a listening node knows of each series beyond its files; held by one node at a time."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Literal

from segpipe.errors import ConfigError
from segpipe.inference.journal import explain

REGISTER = "node.sqlite"
State = Literal["coming", "whole", "done"]
_VERSION = 2
_WAIT_SECONDS = 1.0
_SCHEMA = """CREATE TABLE series (
    name TEXT PRIMARY KEY, state TEXT NOT NULL, instances TEXT NOT NULL DEFAULT '[]', changed REAL NOT NULL,
    aside TEXT NOT NULL DEFAULT '[]') WITHOUT ROWID"""
_SINCE_1 = "ALTER TABLE series ADD COLUMN aside TEXT NOT NULL DEFAULT '[]'"


class Register:
    """Each series by the hash of its UIDs: `coming` while a sender is at it, `whole` once all senders have ended in order, `done`.

    Raises:
        ConfigError: another node holds it, it is damaged, or cannot be written.
    """

    def __init__(self, out: Path) -> None:
        self._path = out / REGISTER
        self._lock = threading.RLock()
        with self._explained():
            self._connection = sqlite3.connect(self._path, _WAIT_SECONDS, isolation_level=None, check_same_thread=False)
            try:
                self._set_up()
            except BaseException:
                self._connection.close()
                raise

    def _set_up(self) -> None:
        connection = self._connection
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")  # until this process ends, however it ends
        connection.execute("BEGIN EXCLUSIVE")
        version = int(connection.execute("PRAGMA user_version").fetchone()[0])
        if version > _VERSION:
            raise ConfigError(f"{self._path}: is of a newer segpipe (format {version}): use that one, or choose another output folder")
        if version == 0:
            connection.execute(_SCHEMA)
        elif version < _VERSION:
            connection.execute(_SINCE_1)
        connection.execute(f"PRAGMA user_version = {_VERSION}")
        connection.execute("COMMIT")
        connection.execute("PRAGMA synchronous = FULL")

    def close(self) -> None:
        """Let another node have it."""
        with self._lock:
            self._connection.close()

    def coming(self, name: str) -> None:
        """A sender has begun with a series, or goes on with it; what was done of it before stays known."""
        self._state(name, "coming")

    def whole(self, name: str) -> None:
        """All its senders have ended in order."""
        self._state(name, "whole")

    def _state(self, name: str, state: State) -> None:
        sql = """INSERT INTO series (name, state, changed) VALUES (?, ?, ?)
            ON CONFLICT (name) DO UPDATE SET state = excluded.state, changed = excluded.changed"""
        with self._explained():
            self._connection.execute(sql, (name, state, time.time()))

    def done(self, name: str, instances: Mapping[str, str]) -> None:
        """Its results are where they are to be.

        Args:
            instances: that made them, with the hash of each one's file.
        """
        sql = """INSERT INTO series (name, state, instances, changed) VALUES (?, 'done', ?, ?) ON CONFLICT (name) DO UPDATE
            SET instances = excluded.instances, aside = '[]', changed = excluded.changed,
            state = CASE state WHEN 'coming' THEN state ELSE 'done' END"""
        with self._explained():
            self._connection.execute(sql, (name, json.dumps(dict(sorted(instances.items()))), time.time()))

    def set_aside(self, name: str, instances: Iterable[str]) -> None:
        """These are set aside as well, until results are made of them with the rest of their series."""
        sql = """INSERT INTO series (name, state, aside, changed) VALUES (?, 'whole', ?, ?) ON CONFLICT (name) DO UPDATE
            SET aside = excluded.aside, changed = excluded.changed"""
        with self._lock:
            known = self.aside(name) | frozenset(instances)
            with self._explained():
                self._connection.execute(sql, (name, json.dumps(sorted(known)), time.time()))

    def state(self, name: str) -> str:
        """Empty for one that never came."""
        with self._explained():
            found = self._connection.execute("SELECT state FROM series WHERE name = ?", (name,)).fetchone()
        return str(found[0]) if found else ""

    def instances(self, name: str) -> dict[str, str]:
        """Those of which results were made before, with the hash of each one's file; empty where a node before did not note it."""
        found = json.loads(self._text("instances", name))
        return found if isinstance(found, dict) else dict.fromkeys(found, "")

    def aside(self, name: str) -> frozenset[str]:
        """Those that were set aside, whether they are still there or somebody has removed them."""
        return frozenset(json.loads(self._text("aside", name)))

    def _text(self, column: Literal["instances", "aside"], name: str) -> str:
        with self._explained():
            found = self._connection.execute(f"SELECT {column} FROM series WHERE name = ?", (name,)).fetchone()
        return str(found[0]) if found else "[]"

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            with self._lock:
                yield
        except sqlite3.Error as error:
            name = getattr(error, "sqlite_errorname", "")
            if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
                raise ConfigError(f"{self._path}: another segpipe listen has it: choose another output folder") from error
            if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_ERROR")):
                cure = "delete it, and series that come again are compared with predictions.sqlite alone"
                raise ConfigError(f"{self._path}: is damaged or no register of a node ({error}): {cure}") from error
            raise ConfigError(explain(self._path, error, _WAIT_SECONDS)) from error
