"""`multipart/related` (RFC 2387), in which DICOMweb wraps files; read as it comes, so that no file need fit the memory."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from typing import BinaryIO

from segpipe.pacs.faults import LaterError, RefusedError

DICOM = "application/dicom"
_BOUNDARY = re.compile(r'boundary="?([^";]+)"?', re.IGNORECASE)
_LONGEST_HEAD = 1 << 14


def boundary_of(content_type: str) -> bytes:
    """What lies between the parts; empty where it is no multipart message."""
    if not content_type.lower().startswith("multipart/"):
        return b""
    match = _BOUNDARY.search(content_type)
    return match[1].encode("ascii", "replace") if match else b""


def write_only_part(chunks: Iterator[bytes], boundary: bytes, target: BinaryIO) -> None:
    """Write the body of a message that holds one file.

    Raises:
        RefusedError: it holds none, several, or is no such message.
        LaterError: it ends before its end.
    """
    end = b"\r\n--" + boundary
    held = _after_head(chunks, boundary)
    while (at := held.find(end)) < 0:
        target.write(held[: -len(end)] if len(held) > len(end) else b"")  # what is kept may be the beginning of the end
        held = held[-len(end) :]
        held += _next(chunks)
    target.write(held[:at])
    rest = held[at + len(end) :]
    while len(rest) < 2:
        rest += _next(chunks)
    if not rest.startswith(b"--"):
        raise RefusedError("the server has sent several files for one")


def wrap(data: bytes) -> tuple[str, bytes]:
    """Content type and body of a message with one DICOM file."""
    boundary = secrets.token_hex(16)  # 128 random bits: never in the data
    head = f"--{boundary}\r\nContent-Type: {DICOM}\r\n\r\n".encode()
    return f'multipart/related; type="{DICOM}"; boundary={boundary}', b"".join((head, data, f"\r\n--{boundary}--\r\n".encode()))


def _after_head(chunks: Iterator[bytes], boundary: bytes) -> bytes:
    """What has come of the first part's body."""
    start, held = b"--" + boundary, b""
    while True:
        at = held.find(start)
        head = held.find(b"\r\n\r\n", at) if at >= 0 else -1
        if head >= 0:
            return held[head + 4 :]
        if at >= 0 and held[at + len(start) :].startswith(b"--"):
            raise RefusedError("the server has sent no file")
        if len(held) > _LONGEST_HEAD:
            raise RefusedError("the server has sent something else than a file")
        held += _next(chunks)


def _next(chunks: Iterator[bytes]) -> bytes:
    chunk = next(chunks, None)
    if chunk is None:
        raise LaterError("the answer was cut off")
    return chunk
