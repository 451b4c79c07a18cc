"""`node.sqlite`: what a listening node knows of each series beyond its files; held by one node at a time."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

from segpipe.io.database import Database, Kind

REGISTER = "node.sqlite"
State = Literal["coming", "whole", "done"]
_SCHEMA = """CREATE TABLE series (
    name TEXT PRIMARY KEY, state TEXT NOT NULL, instances TEXT NOT NULL DEFAULT '[]', changed REAL NOT NULL) WITHOUT ROWID"""
_ASIDE = "ALTER TABLE series ADD COLUMN aside TEXT NOT NULL DEFAULT '[]'"
_KIND = Kind(
    what="register of a node",
    cure="delete it, and series that come again are compared with predictions.sqlite alone",
    place="output folder",
    steps=((_SCHEMA,), (_ASIDE,)),
    holder="segpipe listen",
)


class Register:
    """Each series by the hash of its UIDs: `coming` while a sender is at it, `whole` once all senders have ended in order, `done`.

    Raises:
        ConfigError: another node holds it, it is damaged, or cannot be written.
    """

    def __init__(self, out: Path) -> None:
        self._file = Database(out / REGISTER, _KIND)

    def close(self) -> None:
        """Let another node have it."""
        self._file.close()

    def coming(self, name: str) -> None:
        """A sender has begun with a series, or goes on with it; what was done of it before stays known."""
        self._state(name, "coming")

    def whole(self, name: str) -> None:
        """All its senders have ended in order."""
        self._state(name, "whole")

    def _state(self, name: str, state: State) -> None:
        sql = """INSERT INTO series (name, state, changed) VALUES (?, ?, ?)
            ON CONFLICT (name) DO UPDATE SET state = excluded.state, changed = excluded.changed"""
        with self._file.using() as connection:
            connection.execute(sql, (name, state, time.time()))

    def done(self, name: str, instances: Mapping[str, str]) -> None:
        """Its results are where they are to be.

        Args:
            instances: that made them, with the hash of each one's file.
        """
        sql = """INSERT INTO series (name, state, instances, changed) VALUES (?, 'done', ?, ?) ON CONFLICT (name) DO UPDATE
            SET instances = excluded.instances, aside = '[]', changed = excluded.changed,
            state = CASE state WHEN 'coming' THEN state ELSE 'done' END"""
        with self._file.using() as connection:
            connection.execute(sql, (name, json.dumps(dict(sorted(instances.items()))), time.time()))

    def set_aside(self, name: str, instances: Iterable[str]) -> None:
        """These are set aside as well, until results are made of them with the rest of their series."""
        sql = """INSERT INTO series (name, state, aside, changed) VALUES (?, 'whole', ?, ?) ON CONFLICT (name) DO UPDATE
            SET aside = excluded.aside, changed = excluded.changed"""
        with self._file.changing() as connection:
            known = self.aside(name) | frozenset(instances)
            connection.execute(sql, (name, json.dumps(sorted(known)), time.time()))

    def state(self, name: str) -> str:
        """Empty for one that never came."""
        with self._file.using() as connection:
            found = connection.execute("SELECT state FROM series WHERE name = ?", (name,)).fetchone()
        return str(found[0]) if found else ""

    def instances(self, name: str) -> dict[str, str]:
        """Those of which results were made before, with the hash of each one's file; empty where a node before did not note it."""
        found = json.loads(self._text("instances", name))
        return found if isinstance(found, dict) else dict.fromkeys(found, "")

    def aside(self, name: str) -> frozenset[str]:
        """Those that were set aside, whether they are still there or somebody has removed them."""
        return frozenset(json.loads(self._text("aside", name)))

    def _text(self, column: Literal["instances", "aside"], name: str) -> str:
        with self._file.using() as connection:
            found = connection.execute(f"SELECT {column} FROM series WHERE name = ?", (name,)).fetchone()
        return str(found[0]) if found else "[]"
