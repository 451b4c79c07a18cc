"""The zip archives that torch writes: records read with their checksums, and written again without what tells of a machine."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

from segpipe.errors import ModelError

ZIP_START = b"PK\x03\x04"
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""What torch writes; the unpackers of the others raise errors of their own."""
_DAMAGE = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, ValueError, RuntimeError)
"""What zipfile raises over damaged bytes: ValueError for names that are no text and places before the file, RuntimeError for records that
claim to be encrypted or (NotImplementedError) of an unknown kind."""

_MOST_GROWTH, _SMALL = 4, 64 << 20
"""Bytes that an archive may unpack to: so many times its own, and so many more; weights hardly shrink, and torch does not pack them."""
_ZIP_HEADER_BYTES = 30
_ALIGNMENT = 64
"""Tensors begin at multiples of it in the file, as torch writes them."""
_PADDING = b"FB\0\0"
"""A zip extra field: its name, as torch calls it, and its length."""


def checked_records(data: bytes, path: Path) -> dict[str, bytes]:
    """Every record of an archive by its name, all of whose checksums are verified.

    Raises:
        ModelError: not a zip archive, cut off, or damaged.
    """
    damaged = ModelError(f"{path} is damaged: copy it again, or export the run again")
    try:
        if not zipfile.is_zipfile(io.BytesIO(data)):
            if data.startswith(ZIP_START):
                raise ModelError(f"{path} is cut off: copy it again, or export the run again")
            raise ModelError(f"{path} is not a model file: give one that `segpipe export` wrote, such as RUN/model.ts")
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if any(record.compress_type not in _COMPRESSIONS for record in archive.infolist()):
                raise damaged
            if sum(record.file_size for record in archive.infolist()) > _MOST_GROWTH * len(data) + _SMALL:
                raise damaged
            if len(set(archive.namelist())) != len(archive.namelist()):
                raise damaged
            if archive.testzip() is not None:
                raise ModelError(f"{path} is damaged (a checksum is wrong): copy it again, or export the run again")
            return {name: archive.read(name) for name in archive.namelist()}
    except _DAMAGE as error:
        raise damaged from error


def rewritten(data: bytes, change: Callable[[str, bytes], bytes | None]) -> bytes:
    """The archive with every record as `change` (name, content) gives it, without those of which it gives None."""
    with zipfile.ZipFile(io.BytesIO(data)) as source:
        found = {name: change(name, source.read(name)) for name in source.namelist()}
    return packed({name: content for name, content in found.items() if content is not None})


def packed(records: Mapping[str, bytes]) -> bytes:
    """An archive of these records, uncompressed as torch writes them."""
    result = io.BytesIO()
    with zipfile.ZipFile(result, "w") as target:
        for name, content in records.items():
            record = zipfile.ZipInfo(name)  # dated 1980, so that the same model gives the same bytes
            start = result.tell() + _ZIP_HEADER_BYTES + len(name.encode()) + len(_PADDING)
            record.extra = _PADDING[:2] + struct.pack("<H", -start % _ALIGNMENT) + bytes(-start % _ALIGNMENT)
            target.writestr(record, content)
    return result.getvalue()
