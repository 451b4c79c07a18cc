"""A package that was looked through: everything that can be known of it without computing anything."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segpipe.bundle.contents import Contents, list_contents, refusal
from segpipe.bundle.document import read_document
from segpipe.bundle.layout import (
    CARD,
    DOCUMENT,
    INFERENCE,
    LICENCES,
    METADATA,
    MODEL,
    MODELHUB,
    MOST_BYTES,
    MOST_OF_SAMPLE,
    MOST_OF_TEXT,
    PAGE,
    is_text,
)
from segpipe.bundle.monai import inference_text
from segpipe.bundle.page_check import check_markdown, check_page
from segpipe.bundle.plain import read_json
from segpipe.errors import ModelError

_CHUNK = 1 << 20
_MUST = (METADATA, INFERENCE, MODELHUB, CARD, PAGE)


@dataclass(frozen=True)
class Package:
    """A package whose files are what its document says, and hold nothing that a package does not.

    Attributes:
        contents: its files.
        document: its `segpipe.json`.
        sha256: of the bytes of that document, which holds the SHA-256 of every other file: the package's identity.
    """

    contents: Contents
    document: dict[str, Any]
    sha256: str

    @property
    def label(self) -> str:
        """`NAME@VERSION`."""
        return f"{self.document['name']}@{self.document['version']}"

    @property
    def path(self) -> Path:
        return self.contents.path

    @property
    def model_sha256(self) -> str:
        """Of its model file."""
        digest: str = self.document["files"][MODEL]["sha256"]
        return digest


def open_package(path: Path) -> Package:
    """Look a package through: names, sizes, document, checksums, licences, pages; nothing is unpacked to disk and nothing loaded.

    Raises:
        ModelError: in one line, why it is refused.
    """
    contents = list_contents(path)
    try:
        text = contents.read(DOCUMENT)
        document = read_document(text)
        _check_files(contents, document)
        left = MOST_BYTES
        for name in document["files"]:
            if name.endswith(".nii.gz"):
                left -= _check_gzip(contents, name, left)
    except ModelError as error:
        raise error if str(path) in str(error) else refusal(path, str(error)) from error
    return Package(contents, document, hashlib.sha256(text).hexdigest())


def _check_files(contents: Contents, document: dict[str, Any]) -> None:
    """Refuse files that are not listed, are missing, or are not what their checksum says, and texts that hold what none may."""
    listed = document["files"]
    for name in contents.sizes:
        if name not in listed and name != DOCUMENT:
            raise ModelError(f"it holds {name}, which its {DOCUMENT} does not list")
    for name in _MUST:
        if name not in listed:
            raise ModelError(f"{DOCUMENT}.files lacks {name}")
    for name, told in listed.items():
        if name not in contents.sizes:
            raise ModelError(f"{name} is missing")
        if contents.sizes[name] != told["bytes"]:
            raise ModelError(f"{name} is not what its checksum says: it has another size")
        data = contents.read(name) if is_text(name) else None  # read once: what is judged is what was hashed
        digest = contents.sha256(name) if data is None else hashlib.sha256(data).hexdigest()
        if digest != told["sha256"]:
            raise ModelError(f"{name} is not what its checksum says")
        if data is not None:
            _check_text(name, data)


def _check_text(name: str, data: bytes) -> None:
    if name == PAGE:
        check_page(_decoded(name, data))
    elif name in LICENCES.values():
        _check_licence(name, data)
    elif name == CARD:
        check_markdown(_decoded(name, data))
    elif name == INFERENCE:
        if data != inference_text().encode():
            raise ModelError(f"{INFERENCE} is not the one that segpipe writes, and would run code in MONAI")
    else:
        read_json(data, name)


def _check_licence(name: str, data: bytes) -> None:
    if not _decoded(name, data).strip():
        raise ModelError(f"the licence {name} is empty")


def _decoded(name: str, data: bytes) -> str:
    if len(data) > MOST_OF_TEXT:
        raise ModelError(f"{name} is longer than {MOST_OF_TEXT} bytes")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ModelError(f"{name} is no text in UTF-8") from error
    if any(ord(letter) < ord(" ") and letter not in "\n\r\t" for letter in text):
        raise ModelError(f"{name} holds control characters")
    return text


def _check_gzip(contents: Contents, name: str, left: int) -> int:
    """Refuse a sample that unpacks to more than one may have, or all together may: read in pieces, kept nowhere; returns its bytes."""
    total = 0
    try:
        with contents.open(name) as packed, gzip.GzipFile(fileobj=packed) as file:
            while piece := file.read(_CHUNK):
                total += len(piece)
                if total > MOST_OF_SAMPLE:
                    raise ModelError(f"{name} unpacks to more than {MOST_OF_SAMPLE} bytes")
                if total > left:
                    raise ModelError(f"its samples unpack to more than {MOST_BYTES} bytes")
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ModelError(f"{name} is damaged") from error
    return total
