"""Files that may be DICOM, whatever they are called: in folders, and in zip archives, whose members have paths as if they were folders."""

from __future__ import annotations

import functools
import logging
import os
import struct
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO, cast

log = logging.getLogger(__name__)

ARCHIVE = ".zip"
DICOMDIR = "dicomdir"
_PREAMBLE = 128
_MAGIC = b"DICM"
HEAD_BYTES = _PREAMBLE + len(_MAGIC)
_FIRST_GROUPS = (0x0002, 0x0008)
_LARGEST_FIRST_ELEMENT = 0x0100
_LONGEST_FIRST_VALUE = 1 << 10
_ARCHIVES_OPEN = 4


def is_archive(path: Path) -> bool:
    """Whether the name is that of a zip archive."""
    return path.suffix.lower() == ARCHIVE


def members(archive: Path) -> list[Path]:
    """The files in a zip archive, as `archive.zip/folder/file`; hidden ones, what macOS adds and paths that lead out of
    it are passed over.

    Raises:
        OSError, zipfile.BadZipFile: it cannot be read.
    """
    with zipfile.ZipFile(archive) as opened:
        names = [entry.filename for entry in opened.infolist() if not entry.is_dir()]
    return [archive / name for name in names if not any(part.startswith((".", "__MACOSX", "/")) for part in Path(name).parts)]


def candidates(paths: Iterable[Path]) -> list[Path]:
    """`paths` with each archive replaced by its members, without index files (DICOMDIR); sorted.

    An archive that cannot be read is logged and passed over.
    """
    found: list[Path] = []
    for path in paths:
        if path.name.lower() == DICOMDIR:
            continue
        if not is_archive(path):
            found.append(path)
            continue
        try:
            found += [member for member in members(path) if member.name.lower() != DICOMDIR]
        except (OSError, zipfile.BadZipFile, NotImplementedError) as error:
            log.warning("%s: passed over, the archive cannot be read (%s): copy or export it again", path, error)
    return sorted(found)


def open_file(path: Path) -> BinaryIO:
    """Open a file, or a member of an archive, for reading.

    Raises:
        OSError, zipfile.BadZipFile, KeyError, RuntimeError, NotImplementedError: it is not there, damaged or encrypted.
    """
    archive = archive_of(path)
    if archive is None:
        return path.open("rb")
    found = archive.stat()
    return cast(BinaryIO, _opened(archive, found.st_mtime_ns, found.st_size, os.getpid()).open(path.relative_to(archive).as_posix()))


def archive_of(path: Path) -> Path | None:
    """The archive that a member lies in; None for an ordinary file."""
    return next((one for one in path.parents if is_archive(one) and one.is_file()), None)


def place_of(path: Path) -> Path:
    """The file on disk: the archive of a member, else the path itself."""
    return archive_of(path) or path


@functools.lru_cache(maxsize=_ARCHIVES_OPEN)
def _opened(archive: Path, changed: int, size: int, process: int) -> zipfile.ZipFile:
    """Kept open, because a list of contents with thousands of names is long; the arguments tell when it is another archive."""
    return zipfile.ZipFile(archive)


def looks_like_dicom(head: bytes) -> bool:
    """Whether a file that begins so may be DICOM: the preamble and `DICM` (PS3.10 7.1), or at once a first element of group 2 or 8."""
    return has_preamble(head) or _begins_with_element(head, "<") or _begins_with_element(head, ">")


def has_preamble(head: bytes) -> bool:
    """Whether the file says of itself that it is DICOM."""
    return head[_PREAMBLE:HEAD_BYTES] == _MAGIC


def _begins_with_element(head: bytes, order: str) -> bool:
    """Group, element, and a known way to say a length: two capital letters, or a small number."""
    if len(head) < HEAD_BYTES:
        return False
    group, element = struct.unpack_from(order + "HH", head)
    if group not in _FIRST_GROUPS or element > _LARGEST_FIRST_ELEMENT:
        return False
    representation = head[4:6]
    explicit = representation.isalpha() and representation.isupper()
    return bool(explicit or struct.unpack_from(order + "I", head, 4)[0] <= _LONGEST_FIRST_VALUE)
