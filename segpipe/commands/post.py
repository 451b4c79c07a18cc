"""What `segpipe predict` fetches before and sends after: its scans from a PACS, its results to one."""

from __future__ import annotations

import hashlib
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from segpipe.commands.closing import Closing
from segpipe.errors import DataError
from segpipe.inference.examination import Examination
from segpipe.inference.lock import locked
from segpipe.inference.table import Row
from segpipe.pacs.courier import Courier
from segpipe.pacs.exchange import Exchange, courier_to, fetch_all
from segpipe.pacs.fetch import SPOOL, Missing
from segpipe.pacs.results import objects_of

log = logging.getLogger(__name__)

_LINES = 20
_OURS = 0o700
_MAY_BE_A_CHANNEL = (
    " of its study could not be fetched, and may be one of its channels; must be here: give the same command again, or a --from for the "
    "series of each channel"
)


class Post:
    """Args:
    closing: told of every row.
    """

    def __init__(self, exchange: Exchange, out: Path, closing: Closing) -> None:
        self._exchange, self._out, self._closing = exchange, out, closing
        self._courier: Courier | None = None
        self._spool = out / SPOOL
        self._missing: list[Missing] = []
        self._origins: dict[str, str] = {}
        self._folders: dict[str, set[str]] = {}
        self._failed: set[str] = set()
        self._bare: list[str] = []
        self._bad: list[str] = []
        self._counts: dict[str, int] = {}
        self._reasons: list[tuple[str, str, str]] = []

    @contextmanager
    def open(self) -> Iterator[Post]:
        """Send meanwhile.

        Raises:
            DataError, ConfigError: see `courier_to`.
        """
        with courier_to(self._exchange, self._out, self._exchange.patience) as self._courier:
            yield self

    @contextmanager
    def scans(self, source: Path | None) -> Iterator[Path]:
        """The folder of the scans, fetched first where `source` is None; what was fetched is removed at the end, but for what failed.

        Raises:
            DataError, ConfigError: see `fetch`; nothing could be fetched.
        """
        if source is not None:
            yield source
            return
        name = hashlib.blake2b("\0".join(self._exchange.sources).encode(), digest_size=6).hexdigest()
        self._spool = spool = self._out / SPOOL / name
        spool.mkdir(parents=True, exist_ok=True)
        spool.parent.chmod(_OURS)  # pictures with names of patients
        with locked(spool):  # the same command twice at a time: one waits for the other
            fetched = fetch_all(self._exchange, spool)
            self._missing, self._origins = fetched.missing, fetched.origins
            if self._missing and not any(path for path in spool.iterdir() if not path.name.startswith(".")):
                raise DataError(f"nothing could be fetched: {self._missing[0].why}")
            yield spool
            self._clear(spool)

    def _clear(self, spool: Path) -> None:
        for folder in spool.iterdir():
            if not folder.name.startswith(".") and folder.name not in self._failed:
                shutil.rmtree(folder)
        for empty in (spool, spool.parent):
            if not any(empty.iterdir()):
                empty.rmdir()
        if spool.exists():
            log.info("%s: is kept, what failed can be looked at there", spool)

    def known(self, scan: Examination) -> Examination:
        """A scan that was fetched, with the series that it is: what the table says in place of a folder that is removed at the end.

        One of several channels is refused where a series of its study could not be fetched, which might have been a channel, too.
        """
        names = [path.relative_to(self._spool).parts[0] for path in scan.images]
        self._folders[scan.case] = set(names)
        origin = ";".join(self._origins[name] for name in names)
        missing = [one.series for one in self._missing if f"study {one.study} " in origin]
        several = scan.slices is not None and bool(scan.slices.others)
        problem = f"{scan.images[0]}: series {missing[0]}{_MAY_BE_A_CHANNEL}" if several and missing else ""
        return replace(scan, origin=origin, problem=scan.problem or problem)

    def each(self, row: Row) -> None:
        """Take a row, and have its results sent."""
        self._closing.add(row)
        if row.status == "failed":
            self._failed |= self._folders.get(row.case, set())
        elif self._courier is not None:
            self._deliver(self._courier, row)

    def _deliver(self, courier: Courier, row: Row) -> None:
        try:
            paths = objects_of(self._out, row)
            if paths:
                courier.deliver(row.case, paths)
            else:
                self._bare.append(row.case)
        except DataError as error:
            self._bad.append(str(error))

    def finish(self) -> None:
        """Wait until all is sent, or is not to be.

        Raises:
            ConfigError: the outbox cannot be written.
        """
        if self._courier is None:
            return
        self._courier.finish()
        self._counts, self._reasons = self._courier.told()

    @property
    def failed(self) -> bool:
        """Whether something was not fetched or not sent."""
        return bool(self._missing or self._bare or self._bad or self._reasons)

    def lines(self) -> list[str]:
        """What was sent, and why something was not."""
        lines = [f"not fetched  series {one.series}: {one.why}" for one in self._missing]
        if self._courier is None:
            return lines
        lines.append(f"{self._counts.get('sent', 0)} object(s) of {self._out} are at {self._exchange.to}, {len(self._reasons)} are not")
        lines += self._bad
        reasons: dict[str, list[str]] = {}
        for _, path, why in self._reasons:
            reasons.setdefault(why or "was not tried any more", []).append(path)
        for why, paths in list(reasons.items())[:_LINES]:
            lines.append(f"not sent  {paths[0]}{f' and {len(paths) - 1} more' if len(paths) > 1 else ''}: {why}")
        if self._reasons:
            lines.append("the same command sends what is missing")
        if self._bare:
            lines.append(f"not sent  {len(self._bare)} scan(s), {self._bare[0]} the first: no result of theirs is DICOM (.dcm)")
        return lines
