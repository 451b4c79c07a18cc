"""A hub: a folder, or the same folder on a web server, of packages that never change, with an `index.json`.

`index.json` lists name, version, SHA-256 and size of each; a package lies at `packages/NAME-VERSION.zip`, so that no path is ever taken
from an index, and its signature, where there is one, beside it. What is fetched is checked by size and SHA-256, then looked through as any
other package.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from segpipe.bundle.cache import own_folder
from segpipe.bundle.fetch import MissingError, hub_name, pieces
from segpipe.bundle.layout import LONGEST_NAME, MOST_BYTES, MOST_OF_TEXT, NAME, VERSION
from segpipe.bundle.minisign import ENDING, MOST_OF_SIGNATURE, PublicKey, SecretKey, check_signature, sign
from segpipe.bundle.open import Package, open_package
from segpipe.bundle.pack import write_archive
from segpipe.bundle.plain import Fields, ListOf, Number, Text, check, read_json
from segpipe.bundle.shelf import Pulled, note, notes, order_of
from segpipe.errors import ConfigError, ModelError
from segpipe.inference.lock import locked
from segpipe.io.atomic import check_folder, replacing, sweep, write_bytes, write_text
from segpipe.progress import board

log = logging.getLogger(__name__)

INDEX = "index.json"
_FORMAT = "segpipe-hub"
_PACKAGES = "packages"
_MB = 1_000_000
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
        return f"{_PACKAGES}/{self.name}-{self.version}.zip"

    @property
    def order(self) -> tuple[int, ...]:
        """See `order_of`."""
        return order_of(self.version)


def entries(hub: str) -> list[Entry]:
    """What a hub holds, by name and version.

    Args:
        hub: folder, or http(s) address.

    Raises:
        ConfigError: there is no hub.
        ModelError: its index cannot be understood.
    """
    data = b"".join(pieces(hub, INDEX, MOST_OF_TEXT))
    try:
        index = read_json(data, INDEX)
        check(index, _SCHEMA, INDEX)
    except ModelError as error:
        raise ModelError(f"{hub}: refused: {error}: ask who keeps the hub") from error
    found = sorted((Entry(**entry) for entry in index["packages"]), key=lambda entry: (entry.name, entry.order))
    if len({(entry.name, entry.order) for entry in found}) != len(found):
        raise ModelError(f"{hub}: refused: its {INDEX} has one version of a package twice: ask who keeps the hub")
    return found


def add(hub: Path, path: Path, key: SecretKey | None = None) -> Entry:
    """Put a package into a hub that is a folder, which is made where it is not there; several may at once.

    Its index is written last: a package that is not in it yet is not there.

    Args:
        key: signs the archive; None: a signature that lies beside `path` goes with it.

    Raises:
        ModelError: the package is refused.
        ConfigError: the hub has this version, which is never replaced; is an address; or cannot be written.
    """
    if "://" in str(hub) or str(hub).startswith(("http:/", "https:/", "s3:/")):
        raise ConfigError(f"{hub}: is an address, to which nothing can be added; must be the folder behind it: add there, then copy it")
    package = open_package(path)
    check_folder(hub)
    (hub / _PACKAGES).mkdir(parents=True, exist_ok=True)
    with locked(hub):
        sweep([hub, hub / _PACKAGES])
        there = entries(str(hub)) if (hub / INDEX).exists() else []
        entry = _put(hub, package, there, key)
        every = sorted([*there, entry], key=lambda entry: (entry.name, entry.order))
        index = {"format": _FORMAT, "format_version": 1, "packages": [asdict(entry) for entry in every]}
        write_text(hub / INDEX, json.dumps(index, indent=2) + "\n")
    return entry


def _put(hub: Path, package: Package, there: list[Entry], key: SecretKey | None) -> Entry:
    """Copy a package to its place. What is judged is the copy, which nobody else changes any more."""
    document, path = package.document, package.path
    card, version = document["card"], document["version"]
    told = {"title": card["title"][:300], "modality": card["modality"][:300], "body_part": card["body_part"][:300]}
    draft = Entry(document["name"], version, **told, licence=document["licences"]["weights"]["id"], sha256="", bytes=0)
    if any((entry.name, entry.order) == (draft.name, draft.order) for entry in there):
        raise ConfigError(f"{hub}: has {draft.label} already; must be a new version: packages that others may use are not replaced")
    place = hub / draft.file
    signature = _signature_beside(path) if key is None else None
    with replacing(place) as temporary:
        if package.contents.archive:
            shutil.copyfile(path, temporary)
        else:
            write_archive(path, temporary)
        if open_package(temporary).sha256 != package.sha256:
            raise ModelError(f"{path}: refused: it has changed while it was copied: try again")
        if key is not None:
            signature = sign(temporary, key, f"segpipe {draft.label}").encode()
        entry = Entry(**{**asdict(draft), "sha256": sha256_of(temporary), "bytes": temporary.stat().st_size})
    beside = place.with_name(place.name + ENDING)
    if signature is None:
        beside.unlink(missing_ok=True)  # of another archive, whose adding was cut off
    else:
        write_bytes(beside, signature)
    return entry


def _signature_beside(path: Path) -> bytes | None:
    """Of an archive; taken as it is, because only those who pull know by which key it must be."""
    place = path.with_name(path.name + ENDING)
    if path.is_dir() or not place.is_file():
        return None
    if place.stat().st_size > MOST_OF_SIGNATURE:
        raise ConfigError(f"{place}: is too long for a signature; must be one of minisign: remove it, or sign again")
    return place.read_bytes()


def pull(hub: str, wanted: str, key: PublicKey | None = None) -> Package:
    """A package of a hub, from the cache where it was fetched before; checked in any case.

    Args:
        wanted: `NAME`, of which the latest version is taken, or `NAME@VERSION`.
        key: by which it must be signed; None: signatures are not looked at.

    Raises:
        ConfigError: no such hub or package, `wanted` is no name, or the cache cannot be written.
        ModelError: what the hub gives is not what its index says, is not signed by `key`, is another content than was pulled under this
            version before, is older than the latest that was, or is refused; or a key was asked for before.
    """
    if hub.startswith("http://") and key is None:
        log.warning("%s: anybody on the way can change what plain http brings: give an https address, or --key", hub)
    name, at, version = wanted.partition("@")
    if NAME.fullmatch(name) is None or (at and VERSION.fullmatch(version) is None):
        raise ConfigError(f"{wanted[:80]!a}: names no package; must be NAME or NAME@VERSION, such as prostate-zones@1.0")
    entry = _find(entries(hub), name, version, hub)
    pulled = Pulled(hub_name(hub), entry.name, entry.version, entry.sha256, key.name if key else None)
    _check_before(pulled, latest=not version)
    archives = own_folder("archives")
    place = archives / pulled.archive.name
    if not place.is_file() or sha256_of(place) != entry.sha256:
        _fetch(hub, entry, place)
    package = open_package(place)
    if package.label != entry.label:
        raise ModelError(f"{hub}: refused: {entry.file} is {package.label}, not {entry.label}: ask who keeps the hub")
    if key is not None:
        _check_signed(hub, entry, place, key)
    note(pulled)
    return package


def _check_before(offered: Pulled, latest: bool) -> None:
    """Refuse what a hub gave otherwise before.

    Args:
        latest: the user named no version, and gets what the hub says is the latest.
    """
    _check_key_before(offered)
    before = [pulled for pulled in notes(offered.name) if pulled.hub == offered.hub]
    label = f"{offered.name}@{offered.version}"
    for pulled in before:
        if order_of(pulled.version) == order_of(offered.version) and pulled.sha256 != offered.sha256:
            what = f"{label} is not what it was when it was pulled before (SHA-256 {offered.sha256[:12]}, before {pulled.sha256[:12]})"
            cure = f"do not use it, ask who keeps the hub; if you made it anew yourself, remove {pulled.note}"
            raise ModelError(f"{offered.hub}: refused: {what}, and versions never change: {cure}")
        if latest and order_of(pulled.version) > order_of(offered.version):
            what = f"its latest is {label}, though {pulled.name}@{pulled.version} was pulled before"
            raise ModelError(f"{offered.hub}: refused: {what}: ask who keeps the hub, or name the version that you want")


def _check_key_before(offered: Pulled) -> None:
    """Refuse to leave out the key that was asked for before: a forgotten `--key` would let in what it was to keep out."""
    asked = next((pulled for pulled in notes(offered.name) if pulled.hub == offered.hub and pulled.key), None)
    if asked is not None and offered.key is None:
        what = f"{asked.name}@{asked.version} was pulled with the key {asked.key} before, and now no key is asked for"
        raise ModelError(f"{offered.hub}: refused: {what}: give --key or SEGPIPE_HUB_KEY, or remove {asked.note}")


def _check_signed(hub: str, entry: Entry, place: Path, key: PublicKey) -> None:
    """Fetch the signature of an archive each time, as it is small, and refuse the archive where it is none of `key`."""
    try:
        signature = b"".join(pieces(hub, entry.file + ENDING, MOST_OF_SIGNATURE))
    except MissingError as error:
        if not error.absent:
            raise
        raise ModelError(
            f"{hub}: refused: {entry.label} is not signed: do not use it, ask who keeps the hub, or leave out --key and SEGPIPE_HUB_KEY"
        ) from error
    try:
        check_signature(place, signature, key)
    except ModelError as error:
        raise ModelError(f"{hub}: {entry.label}{str(error).removeprefix(str(place))}") from error
    write_bytes(place.with_name(place.name + ENDING), signature)


def _find(there: list[Entry], name: str, version: str, hub: str) -> Entry:
    """The package of a version, of which 1 and 1.0 are one, or of the latest."""
    versions = [entry for entry in there if entry.name == name]
    found = [entry for entry in versions if entry.order == order_of(version)] if version else versions[-1:]
    if not found:
        known = ", ".join(entry.label for entry in versions or there) or "nothing"
        raise ConfigError(f"{hub}: has no {f'{name}@{version}'.rstrip('@')}; must be one of {known[:300]}")
    return found[0]


def _fetch(hub: str, entry: Entry, place: Path) -> None:
    """Into the cache, once it is what the index says and no package that is refused."""
    digest, size = hashlib.sha256(), 0
    with replacing(place) as temporary:
        with temporary.open("wb") as file, board(f"fetching {entry.label}", 1) as shown:
            told = shown.parts(f"MB of {entry.label}")
            for piece in pieces(hub, entry.file, entry.bytes):
                digest.update(piece)
                size += len(piece)
                file.write(piece)
                told(size // _MB, -(-entry.bytes // _MB))
        if size != entry.bytes or digest.hexdigest() != entry.sha256:
            raise ModelError(f"{hub}: refused: {entry.file} is not what its {INDEX} says: try again, or ask who keeps the hub")
        try:
            open_package(temporary)
        except ModelError as error:
            raise ModelError(f"{hub}: {entry.file}{str(error).removeprefix(str(temporary))}") from error


def sha256_of(path: Path) -> str:
    """Of a file, 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
