"""How SQLite keeps the ledger safe on this disk, and what it says when it cannot."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from segpipe.errors import ConfigError
from segpipe.inference.table import TABLE

_CURE = f"delete it ({TABLE} beside it, its readable copy, is taken in its place), or choose another output folder"


def explain(path: Path, error: sqlite3.Error, waited: float) -> str:
    """What SQLite says of the ledger at `path`, as one line with a cure.

    Args:
        waited: seconds that it has waited for other processes.
    """
    name = getattr(error, "sqlite_errorname", "")
    if name.startswith("SQLITE_FULL"):
        return f"{path}: cannot be written (the disk is full): free some space, then give the same command again"
    if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM")):
        return f"{path}: cannot be written ({error}): choose a folder that you may write to"
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_PROTOCOL")):
        return f"{path}: another process has held it for {waited:.0f} s ({error}): end that one, or choose another output folder"
    if name.startswith("SQLITE_IOERR"):
        return f"{path}: the disk reports a fault or cannot lock files ({error}): choose an output folder on another disk"
    return f"{path}: is damaged or no ledger of predictions ({error}): {_CURE}"


def choose_journal(connection: sqlite3.Connection, path: Path, local: bool, fresh: bool) -> None:
    """The write-ahead log needs memory that all processes share, which those of two machines do not.

    A ledger that is there keeps the journal that suits the most careful of its users.

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


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All that the block does, or, when it raises, nothing of it; nobody else writes meanwhile."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
