"""A package that was looked through: everything that can be known of it without computing anything."""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segpipe.bundle.contents import Contents, list_contents, refusal
from segpipe.bundle.document import read_document
from segpipe.bundle.layout import CARD, DOCUMENT, INFERENCE, METADATA, MODELHUB, MOST_OF_SAMPLE, MOST_OF_TEXT, PAGE
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
    """

    contents: Contents
    document: dict[str, Any]

    @property
    def label(self) -> str:
        """`NAME@VERSION`."""
        return f"{self.document['name']}@{self.document['version']}"

    @property
    def path(self) -> Path:
        return self.contents.path


def open_package(path: Path) -> Package:
    """Look a package through: names, sizes, document, checksums, licences, pages; nothing is unpacked to disk and nothing loaded.

    Raises:
        ModelError: in one line, why it is refused.
    """
    contents = list_contents(path)
    try:
        document = read_document(contents.read(DOCUMENT))
        _check_files(contents, document)
        for name in _MUST:
            _check_text(name, contents.read(name))
        for licence in document["licences"].values():
            _check_licence(licence["file"], contents.read(licence["file"]))
        for name in document["files"]:
            if name.endswith(".nii.gz"):
                _check_gzip(contents, name)
    except ModelError as error:
        raise error if str(path) in str(error) else refusal(path, str(error)) from error
    return Package(contents, document)


def _check_files(contents: Contents, document: dict[str, Any]) -> None:
    """Refuse files that are not listed, are missing, or are not what their checksum says."""
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
        if contents.sizes[name] != told["bytes"] or contents.sha256(name) != told["sha256"]:
            raise ModelError(f"{name} is not what its checksum says")


def _check_text(name: str, data: bytes) -> None:
    if name == PAGE:
        check_page(_decoded(name, data))
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


def _check_gzip(contents: Contents, name: str) -> None:
    """Refuse a sample that unpacks to more than one may have: read in pieces, kept nowhere."""
    total = 0
    try:
        with contents.open(name) as packed, gzip.GzipFile(fileobj=packed) as file:
            while piece := file.read(_CHUNK):
                total += len(piece)
                if total > MOST_OF_SAMPLE:
                    raise ModelError(f"{name} unpacks to more than {MOST_OF_SAMPLE} bytes")
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ModelError(f"{name} is damaged") from error
