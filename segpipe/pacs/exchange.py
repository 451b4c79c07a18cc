"""What a command is told of the network: where scans come from, where results go, and who we are."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from segpipe.pacs.address import Destination, WebPlace, check_title, parse_destination, parse_source
from segpipe.pacs.courier import Courier, Sender
from segpipe.pacs.credentials import Credentials, read_credentials
from segpipe.pacs.faults import LaterError
from segpipe.pacs.fetch import Fetched, fetch, hold_back
from segpipe.pacs.library import check_installed
from segpipe.pacs.node import Node
from segpipe.pacs.outbox import Outbox
from segpipe.pacs.patience import Patience
from segpipe.pacs.results import check_current
from segpipe.pacs.tls import TlsFiles
from segpipe.pacs.web import Web

log = logging.getLogger(__name__)

TITLE = "SEGPIPE"


@dataclass(frozen=True)
class Exchange:
    """Attributes:
    sources: studies and series to fetch, as a user writes them.
    to: where results are sent; empty: nowhere.
    credentials: file; None: from the environment.
    title: our own AE title.
    tls: certificates.
    tries: how often a request is tried; see `Patience`.
    """

    sources: tuple[str, ...] = ()
    to: str = ""
    credentials: Path | None = None
    title: str = TITLE
    tls: TlsFiles = field(default_factory=TlsFiles)
    tries: int = 6

    def check(self) -> None:
        """Refuse what cannot be, before anything is started.

        Raises:
            ConfigError: an address, a title, a file, or a library that is missing.
        """
        for text in self.sources:
            parse_source(text)
        destination = parse_destination(self.to) if self.to else None
        if self.sources or isinstance(destination, WebPlace):
            check_installed("--from and --to dicomweb://", "requests")
        if destination is not None and not isinstance(destination, WebPlace):
            check_installed("--to dicom://", "pynetdicom")
        check_title(self.title, "--aet")
        self.tls.check()
        read_credentials(self.credentials)

    @property
    def patience(self) -> Patience:
        """With which requests are tried again."""
        return Patience(self.tries)


def fetch_all(exchange: Exchange, spool: Path) -> Fetched:
    """Fetch every source into `spool`; see `fetch`.

    Raises:
        DataError, ConfigError: as `fetch`.
    """
    fetched = Fetched({}, [])
    for text in exchange.sources:
        place = parse_source(text)
        web = Web(place, read_credentials(exchange.credentials), exchange.tls)
        with contextlib.closing(web):
            some = fetch(web, place, spool, exchange.patience)
        fetched.origins.update(some.origins)
        fetched.missing.extend(some.missing)
    hold_back(spool, fetched)
    return fetched


@contextlib.contextmanager
def courier_to(exchange: Exchange, out: Path, patience: Patience) -> Iterator[Courier | None]:
    """Whoever sends results, None where they are sent nowhere; the destination is tried before.

    Raises:
        DataError: the destination lets nobody in.
        ConfigError: the outbox cannot be written.
    """
    if not exchange.to:
        yield None
        return
    destination = parse_destination(exchange.to)
    sender = sender_to(destination, exchange.title, read_credentials(exchange.credentials), exchange.tls)
    try:
        sender.check()
    except LaterError as error:
        log.warning("%s; results wait for it", error)
    outbox = Outbox(out, destination.shown)
    courier = Courier(outbox, sender, out, patience, partial(check_current, out))
    try:
        yield courier
    finally:
        courier.stop()
        outbox.close()


def sender_to(destination: Destination, title: str, credentials: Credentials, tls: TlsFiles) -> Sender:
    """The one that speaks the destination's language."""
    if isinstance(destination, WebPlace):
        return Web(destination, credentials, tls)
    if credentials:
        log.debug("credentials are for DICOMweb; a DICOM node knows AE titles and certificates alone")
    return Node(destination, title, tls)
