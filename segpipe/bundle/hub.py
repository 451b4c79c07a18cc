"""A hub: a folder, or the same folder on a web server, of packages that never change, with an `index.json`.

`index.json` lists name, version, SHA-256 and size of each; a package lies at `packages/NAME-VERSION.zip`, so that no path is ever taken
from an index. What is fetched is checked by size and SHA-256, then looked through as any other package.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from segpipe.bundle.layout import LONGEST_NAME, MOST_BYTES, MOST_OF_TEXT, NAME, VERSION
from segpipe.bundle.open import Package, open_package
from segpipe.bundle.pack import write_archive
from segpipe.bundle.plain import Fields, ListOf, Number, Text, check, read_json
from segpipe.bundle.unpack import cache_folder
from segpipe.errors import ConfigError, ModelError
from segpipe.io.atomic import check_folder, replacing, write_text

INDEX = "index.json"
_FORMAT = "segpipe-hub"
_WEB = ("http://", "https://")
_SECONDS = 30.0
"""Without an answer."""
_CHUNK = 1 << 20
_WORD = Text(longest=300)
_ENTRY = Fields(
    {
        "name": Text(NAME, LONGEST_NAME),
        "version": Text(VERSION),
        "title": _WORD,
        "modality": _WORD,
        "body_part": _WORD,
        "licence": _WORD,
        "sha256": Text(re.compile(r"[0-9a-f]{64}")),
        "bytes": Number(1, MOST_BYTES, whole=True),
    }
)
_SCHEMA = Fields({"format": Text(re.compile(_FORMAT)), "format_version": Number(1, 1, whole=True), "packages": ListOf(_ENTRY)})


@dataclass(frozen=True)
class Entry:
    """One package of a hub.

    Attributes:
        licence: of its weights.
        sha256, bytes: of its archive.
    """

    name: str
    version: str
    title: str
    modality: str
    body_part: str
    licence: str
    sha256: str
    bytes: int

    @property
    def label(self) -> str:
        return f"{self.name}@{self.version}"

    @property
    def file(self) -> str:
        """Its place in the hub."""
        return f"packages/{self.name}-{self.version}.zip"

    @property
    def order(self) -> tuple[int, ...]:
        """Of versions: 1.10 is later than 1.9, and 1 the same as 1.0."""
        numbers = [int(part) for part in self.version.split(".")]
        return tuple(numbers + [0] * (3 - len(numbers)))


def entries(hub: str) -> list[Entry]:
    """What a hub holds, by name and version.

    Args:
        hub: folder, or http(s) address.

    Raises:
        ConfigError: there is no hub.
        ModelError: its index cannot be understood.
    """
    data = b"".join(_pieces(hub, INDEX, MOST_OF_TEXT))
    try:
        index = read_json(data, INDEX)
        check(index, _SCHEMA, INDEX)
    except ModelError as error:
        raise ModelError(f"{hub}: refused: {error}: ask who keeps the hub") from error
    found = sorted((Entry(**entry) for entry in index["packages"]), key=lambda entry: (entry.name, entry.order))
    if len({(entry.name, entry.order) for entry in found}) != len(found):
        raise ModelError(f"{hub}: refused: its {INDEX} has one version of a package twice: ask who keeps the hub")
    return found


def add(hub: Path, path: Path) -> Entry:
    """Put a package into a hub that is a folder, which is made where it is not there.

    Raises:
        ModelError: the package is refused.
        ConfigError: the hub has this version, which is never replaced; or cannot be written.
    """
    package = open_package(path)
    check_folder(hub)
    there = entries(str(hub)) if (hub / INDEX).exists() else []
    document = package.document
    card, version = document["card"], document["version"]
    told = {"title": card["title"][:300], "modality": card["modality"][:300], "body_part": card["body_part"][:300]}
    draft = Entry(document["name"], version, **told, licence=document["licences"]["weights"]["id"], sha256="", bytes=0)
    if any((entry.name, entry.order) == (draft.name, draft.order) for entry in there):
        raise ConfigError(f"{hub}: has {draft.label} already; must be a new version: packages that others may use are not replaced")
    place = hub / draft.file
    with replacing(place) as temporary:
        if package.contents.archive:
            shutil.copyfile(path, temporary)
        else:
            write_archive(path, temporary)
    entry = Entry(**{**asdict(draft), "sha256": _sha256(place), "bytes": place.stat().st_size})
    every = sorted([*there, entry], key=lambda entry: (entry.name, entry.order))
    index = {"format": _FORMAT, "format_version": 1, "packages": [asdict(entry) for entry in every]}
    write_text(hub / INDEX, json.dumps(index, indent=2) + "\n")
    return entry


def pull(hub: str, wanted: str) -> Package:
    """A package of a hub, from the cache where it was fetched before; checked in any case.

    Args:
        wanted: `NAME`, of which the latest version is taken, or `NAME@VERSION`.

    Raises:
        ConfigError: no such hub or package, or the cache cannot be written.
        ModelError: what the hub gives is not what its index says, or is refused.
    """
    entry = _find(entries(hub), wanted, hub)
    place = cache_folder() / "archives" / f"{entry.sha256}.zip"
    if not place.is_file() or _sha256(place) != entry.sha256:
        _fetch(hub, entry, place)
    package = open_package(place)
    if package.label != entry.label:
        raise ModelError(f"{hub}: refused: {entry.file} is {package.label}, not {entry.label}: ask who keeps the hub")
    return package


def _find(there: list[Entry], wanted: str, hub: str) -> Entry:
    name, _, version = wanted.partition("@")
    versions = [entry for entry in there if entry.name == name]
    found = [entry for entry in versions if entry.version == version] if version else versions[-1:]
    if not found:
        known = ", ".join(entry.label for entry in versions or there) or "nothing"
        raise ConfigError(f"{hub}: has no {wanted[:80]!a}; must be one of {known[:300]}")
    return found[0]


def _fetch(hub: str, entry: Entry, place: Path) -> None:
    digest, size = hashlib.sha256(), 0
    with replacing(place) as temporary, temporary.open("wb") as file:
        for piece in _pieces(hub, entry.file, entry.bytes):
            digest.update(piece)
            size += len(piece)
            file.write(piece)
        if size != entry.bytes or digest.hexdigest() != entry.sha256:
            raise ModelError(f"{hub}: refused: {entry.file} is not what its {INDEX} says: try again, or ask who keeps the hub")


def _pieces(hub: str, name: str, most: int) -> Iterator[bytes]:
    """A file of a hub.

    Raises:
        ConfigError: it cannot be had.
        ModelError: it is longer than `most` bytes.
    """
    total = 0
    try:
        with _open(hub, name) as file:
            while piece := file.read(_CHUNK):
                total += len(piece)
                if total > most:
                    raise ModelError(f"{hub}: refused: {name} is longer than the {most} bytes that it may have: ask who keeps the hub")
                yield piece
    except (OSError, urllib.error.URLError, ValueError) as error:
        reason = getattr(error, "strerror", None) or getattr(error, "reason", None) or error
        raise ConfigError(f"{hub}: {name} cannot be had ({str(reason)[:120]!a}); must be a hub: a folder or an http address") from error


def _open(hub: str, name: str) -> IO[bytes]:
    if not hub.startswith(_WEB):
        return (Path(hub) / name).open("rb")
    opener = urllib.request.OpenerDirector()  # without the handlers of files and FTP, to which an answer could lead
    for handler in (
        *(urllib.request.ProxyHandler, urllib.request.HTTPHandler, urllib.request.HTTPSHandler),
        *(urllib.request.HTTPDefaultErrorHandler, urllib.request.HTTPErrorProcessor),
    ):
        opener.add_handler(handler())
    found: IO[bytes] = opener.open(f"{hub.rstrip('/')}/{name}", timeout=_SECONDS)
    return found


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
