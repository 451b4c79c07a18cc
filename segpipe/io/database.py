"""SQLite files: how they are opened, kept safe on their disk and brought to this version's format, and what is said when that fails.

Every change is one transaction, so that a file is whole whenever a process ends. One that calls share has a write-ahead log on a disk of
this machine, and a rollback journal on a network disk, whose machines share no memory.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from segpipe.errors import ConfigError
from segpipe.io.alive import is_gone
from segpipe.io.disk import is_local

_WAIT_SECONDS = 60.0
"""For another process's transaction; each takes milliseconds, on a network disk some more."""
_HELD_SECONDS = 1.0
"""For a process that has the file for itself as long as it lives."""


@dataclass(frozen=True)
class Kind:
    """What a file is, and what users are told of it.

    Attributes:
        what: follows "is damaged or no".
        cure: of one that is damaged.
        place: what is to be chosen anew where the file cannot be used; follows "choose another".
        steps: SQL that leads from each format to the next one, beginning with none; their number is this version's format.
        holder: the program that has it for itself as long as it lives; empty: calls share it.
        logged: whether the holder keeps a write-ahead log.
        private: whether nobody but the user may read it.
    """

    what: str
    cure: str
    place: str
    steps: tuple[tuple[str, ...], ...]
    holder: str = ""
    logged: bool = False
    private: bool = False


class Database:
    """One file, open; threads may share it. Statements know `gone(worker)`, see `alive.is_gone`.

    Args:
        path: made where it is not there; its folder must be.
        on_disk: False: it is kept in memory, and `path` stands in messages alone.
        fill: called once, in the transaction that makes the file.

    Raises:
        ConfigError: it is damaged, another program's, of a newer version or held by another process, or its disk cannot keep it.
    """

    def __init__(self, path: Path, kind: Kind, on_disk: bool = True, fill: Callable[[sqlite3.Connection], None] | None = None) -> None:
        self._path, self._kind, self._on_disk = path, kind, on_disk
        self._lock = threading.RLock()
        self._signal: BaseException | None = None
        with self._explained():
            where = path if on_disk else ":memory:"
            self._connection = sqlite3.connect(where, self._patience, isolation_level=None, check_same_thread=False)
            try:
                if kind.private:
                    path.chmod(0o600)  # before there is a log, which gets the same rights
                self._set_up(fill)
            except BaseException:
                self._connection.close()
                raise

    def close(self) -> None:
        """Leave the file to others; the last one to leave takes a write-ahead log away."""
        with self._lock:
            self._connection.close()

    @contextlib.contextmanager
    def using(self) -> Iterator[sqlite3.Connection]:
        """One thread at a time, each statement whole by itself.

        Raises:
            ConfigError: what SQLite says, as one line with a cure.
        """
        with self._explained():
            yield self._connection

    @contextlib.contextmanager
    def changing(self) -> Iterator[sqlite3.Connection]:
        """One transaction: all of it or, when the block raises, nothing; nobody else writes meanwhile.

        Raises:
            ConfigError: as `using`.
        """
        with self._explained(), self._transaction("IMMEDIATE"):
            yield self._connection

    @contextlib.contextmanager
    def _transaction(self, kind: str) -> Iterator[None]:
        connection = self._connection
        connection.execute(f"BEGIN {kind}")
        try:
            yield
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    @property
    def _patience(self) -> float:
        return _HELD_SECONDS if self._kind.holder else _WAIT_SECONDS

    def _set_up(self, fill: Callable[[sqlite3.Connection], None] | None) -> None:
        self._connection.row_factory = sqlite3.Row
        self._connection.create_function("gone", 1, self._is_gone)
        if self._kind.holder:
            self._hold()
        else:
            self._check_format()
            if self._on_disk:
                _choose_journal(self._connection, self._path, is_local(self._path.parent), fresh=self._format() == 0)
        if self._kind.holder or self._format() < len(self._kind.steps):
            with self._transaction("EXCLUSIVE" if self._kind.holder else "IMMEDIATE"):
                self._bring_up(fill)
        if self._kind.holder:
            self._connection.execute("PRAGMA synchronous = FULL")

    def _hold(self) -> None:
        self._connection.execute("PRAGMA locking_mode = EXCLUSIVE")  # until this process ends, however it ends
        if self._kind.logged:
            self._connection.execute("PRAGMA journal_mode = WAL")

    def _bring_up(self, fill: Callable[[sqlite3.Connection], None] | None) -> None:
        """Asks for the format again: another call may have been faster."""
        self._check_format()
        before = self._format()
        for step in self._kind.steps[before:]:
            for statement in step:
                self._connection.execute(statement)
        if before == 0 and fill is not None:
            fill(self._connection)
        self._connection.execute(f"PRAGMA user_version = {len(self._kind.steps)}")  # the write that holds it, too

    def _format(self) -> int:
        return int(self._connection.execute("PRAGMA user_version").fetchone()[0])

    def _check_format(self) -> None:
        found = self._format()
        if found > len(self._kind.steps):
            cure = f"use that one, or choose another {self._kind.place}"
            raise ConfigError(f"{self._path}: is of a newer segpipe (format {found}): {cure}")

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            with self._lock:
                yield
        except sqlite3.Error as error:
            signalled, self._signal = self._signal, None
            if signalled is not None:
                raise signalled from None
            raise ConfigError(f"{self._path}: {self._explain(error)}") from error

    def _explain(self, error: sqlite3.Error) -> str:
        name, kind = getattr(error, "sqlite_errorname", ""), self._kind
        if is_full(error):
            return "cannot be written (the disk is full): free some space, then give the same command again"
        if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM")):
            return f"cannot be written ({error}): choose a folder that you may write to"
        if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_PROTOCOL")):
            if kind.holder:
                return f"another {kind.holder} has it: choose another {kind.place}"
            held = f"another process has held it for {self._patience:.0f} s ({error})"
            return f"{held}: end that one, or choose another {kind.place}"
        if name.startswith("SQLITE_IOERR"):
            return f"the disk reports a fault or cannot lock files ({error}): choose another {kind.place}, on another disk"
        return f"is damaged or no {kind.what} ({error}): {kind.cure}"

    def _is_gone(self, token: str) -> bool:
        """As `is_gone`; SQLite, which calls it, would make an error of its own of a signal that comes meanwhile."""
        try:
            return is_gone(token)
        except (KeyboardInterrupt, SystemExit) as signalled:
            self._signal = signalled
            raise


def is_full(error: BaseException | None) -> bool:
    """Whether SQLite says that the disk is full."""
    return getattr(error, "sqlite_errorname", "").startswith("SQLITE_FULL")


def _choose_journal(connection: sqlite3.Connection, path: Path, local: bool, fresh: bool) -> None:
    """The write-ahead log needs memory that all processes share, which those of two machines do not.

    A file that is there keeps the journal that suits the most careful of its users.

    Raises:
        ConfigError: this machine needs the rollback journal, and a call on the machine of the disk is at work with the log.
    """
    logged = _journal(connection) == "wal"
    wanted = "wal" if local and (fresh or logged) else "delete"
    if logged != (wanted == "wal"):
        with contextlib.suppress(sqlite3.OperationalError):  # another call has it open; what follows tells whether that matters
            connection.execute(f"PRAGMA journal_mode = {wanted}")
    if not local and _journal(connection) == "wal":
        raise ConfigError(
            f"{path}: is in use by a call for which this disk is its own machine's; over a network it cannot be shared so: "
            "wait for the end of that call, then start all calls again, the one over the network first"
        )
    # a file that is on disk must not be unknown when the power fails: nobody would replace it, and it would be nobody's
    connection.execute("PRAGMA synchronous = FULL")


def _journal(connection: sqlite3.Connection) -> str:
    return str(connection.execute("PRAGMA journal_mode").fetchone()[0])
