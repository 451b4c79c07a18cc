"""Files of a hub, in pieces: from a folder, or from a web server that is given no way to lead elsewhere, to send more or never to end."""

from __future__ import annotations

import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path
from typing import IO

from segpipe.errors import ConfigError, ModelError

WEB = ("http://", "https://")
_BUCKET = "s3://"
_SECONDS = 30.0
"""Without an answer."""
_GRACE_SECONDS, _LEAST_PACE = 60.0, 1000.0
"""After so long a server must have sent so many bytes a second: one that sends a byte now and then would never end."""
_CHUNK = 1 << 20


_GONE = (404, 410)
"""Answers of a web server that has no such file; after others it may have it."""
_REDIRECTS = range(300, 400)


class MissingError(ConfigError):
    """A file of a hub cannot be had.

    Attributes:
        absent: the hub said that it has none; False where it cannot be asked, or does not answer that.
    """

    absent = False


def hub_name(hub: str) -> str:
    """One spelling for a hub: its address without a last slash, or its folder from the root.

    Raises:
        ConfigError: an address of a kind that is not read, or one that holds a password.
    """
    if hub.startswith(_BUCKET):
        bucket, _, prefix = hub.removeprefix(_BUCKET).partition("/")
        cure = f"https://{bucket}.s3.REGION.amazonaws.com/{prefix}".rstrip("/")
        raise ConfigError(f"{hub}: buckets are read by their https address; must be one that may be read without a key: give {cure}")
    if not hub.startswith(WEB):
        if "://" in hub:
            raise ConfigError(
                f"{hub.partition('://')[0]}://: is no hub; must be a folder, or an address that begins with https:// or http://"
            )
        return str(Path(hub).absolute())
    if "@" in urllib.parse.urlsplit(hub).netloc:
        raise ConfigError("the address of the hub holds a user or password; must be one without: hubs are read as anybody can read them")
    return hub.rstrip("/")


def pieces(hub: str, name: str, most: int) -> Iterator[bytes]:
    """A file of a hub.

    Raises:
        MissingError: it cannot be had.
        ModelError: it is longer than `most` bytes, or comes too slowly ever to end.
    """
    total, began = 0, time.monotonic()
    try:
        with _open(hub, name) as file:
            while piece := file.read1(_CHUNK):  # type: ignore[attr-defined]  # of both kinds: what has come, not a whole chunk
                total += len(piece)
                if total > most:
                    raise ModelError(f"{hub}: refused: {name} is longer than the {most} bytes that it may have: ask who keeps the hub")
                seconds = time.monotonic() - began
                if seconds > _GRACE_SECONDS and total < _LEAST_PACE * seconds:
                    raise ModelError(f"{hub}: refused: {name} comes too slowly, {total} bytes in {seconds:.0f} s: try again later")
                yield piece
    except (OSError, HTTPException, ValueError) as error:
        missing = MissingError(f"{hub}: {name} cannot be had ({_reason(error)}")
        missing.absent = isinstance(error, FileNotFoundError) or getattr(error, "code", 0) in _GONE
        if isinstance(error, urllib.error.HTTPError):  # which holds the connection
            error.close()
        raise missing from error


def _reason(error: Exception) -> str:
    """What is the matter, and what to do."""
    code = getattr(error, "code", 0)
    if code in _REDIRECTS:
        target = str(error.headers.get("Location"))[:200]  # type: ignore[attr-defined]  # an answer has headers
        return f"it answers that it lies elsewhere, which is not followed); must be where it lies: give the address before {target!a}"
    reason = getattr(error, "strerror", None) or getattr(error, "reason", None) or error
    return f"{str(reason)[:120]!a}); must be a hub, a folder or an http address: `segpipe hub add` makes one"


def _open(hub: str, name: str) -> IO[bytes]:
    where = hub_name(hub)
    if not where.startswith(WEB):
        return (Path(where) / name).open("rb")
    opener = urllib.request.OpenerDirector()  # without the handlers of files, FTP and redirects, to which an answer could lead
    for handler in (
        *(urllib.request.ProxyHandler, urllib.request.HTTPHandler, urllib.request.HTTPSHandler),
        *(urllib.request.HTTPDefaultErrorHandler, urllib.request.HTTPErrorProcessor),
    ):
        opener.add_handler(handler())
    found: IO[bytes] = opener.open(f"{where}/{name}", timeout=_SECONDS)
    return found
