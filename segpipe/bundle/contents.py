"""The files of a package, in a folder or a zip archive, listed and judged by their names and sizes before one of them is read."""

from __future__ import annotations

import hashlib
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from segpipe.bundle.layout import ALLOWED, DOCUMENT, FOLDERS, MOST_BYTES, MOST_FILES, SMALL, most_bytes, most_ratio
from segpipe.errors import ModelError

_DAMAGE = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, ValueError, RuntimeError)
"""What zipfile raises over damaged or forged archives: RuntimeError of encrypted records, NotImplementedError of unknown kinds."""
_START, _END, _END_BYTES = b"PK\x03\x04", b"PK\x05\x06", 22
"""How archives begin, and how their last record does, which is the last thing in a file without a comment."""
_ENCRYPTED = 0x1
_PLAIN_KINDS = (0, stat.S_IFREG, stat.S_IFDIR)
_CHUNK = 1 << 20
_HEADER_BYTES = 30


@dataclass(frozen=True)
class Contents:
    """What a package holds.

    Attributes:
        path: the folder or archive.
        sizes: bytes of each file, by its name within the package.
        prefix: folder within an archive in which all of it lies, with its slash; or empty.
    """

    path: Path
    sizes: dict[str, int]
    prefix: str = ""

    @property
    def archive(self) -> bool:
        return not self.path.is_dir()

    @contextmanager
    def open(self, name: str) -> Iterator[IO[bytes]]:
        """One file of the list, to be read from its beginning.

        Raises:
            ModelError: damaged, or changed since it was listed.
        """
        try:
            if self.archive:
                with zipfile.ZipFile(self.path) as archive, archive.open(self.prefix + name) as file:
                    yield file
            else:
                with _open_plain(self.path / name) as file:
                    yield file
        except (*_DAMAGE, OSError) as error:
            raise refusal(self.path, f"{name} cannot be read ({_reason(error)})", "copy the package again") from error

    def read(self, name: str) -> bytes:
        """The whole of one file, of not more bytes than were listed."""
        return b"".join(self.chunks(name))

    def chunks(self, name: str) -> Iterator[bytes]:
        """One file in pieces.

        Raises:
            ModelError: see `open`; or it holds more bytes, or fewer, than were listed.
        """
        left = self.sizes[name]
        with self.open(name) as file:
            while left and (piece := file.read(min(_CHUNK, left))):
                left -= len(piece)
                yield piece
            if left or file.read(1):
                raise refusal(self.path, f"{name} is not as long as it was listed", "copy the package again")

    def sha256(self, name: str) -> str:
        """Of one file, 64 hexadecimal digits."""
        digest = hashlib.sha256()
        for piece in self.chunks(name):
            digest.update(piece)
        return digest.hexdigest()


def is_package(path: Path) -> bool:
    """Whether it is taken for a package: a folder with a `segpipe.json`, or a `.zip`."""
    return (path / DOCUMENT).is_file() if path.is_dir() else path.suffix.lower() == ".zip" and path.is_file()


def list_contents(path: Path) -> Contents:
    """The files of a package; nothing is unpacked, and no file is read.

    Raises:
        ModelError: no package; a name that leads out of it or that no package has, a link, an encrypted or overlapping record, too many
            or too large files.
    """
    if not path.exists():
        raise ModelError(f"{path}: no such file or folder; give a package that `segpipe package` made")
    found = list_folder(path) if path.is_dir() else _of_archive(path)
    if DOCUMENT not in found.sizes:
        raise refusal(path, f"it holds no {DOCUMENT}", "give a package that `segpipe package` made")
    for name, size in found.sizes.items():
        if ALLOWED.fullmatch(name) is None:
            raise refusal(path, f"it holds {shown(name)}, which is no part of a package", "remove the file, or ask who made it")
        if size > most_bytes(name):
            raise refusal(path, f"{name} has {size} bytes; at most {most_bytes(name)}")
    if sum(found.sizes.values()) > MOST_BYTES:
        raise refusal(path, f"it unpacks to more than {MOST_BYTES} bytes")
    return found


def refusal(path: Path, what: str, cure: str = "do not use it, ask who made it") -> ModelError:
    """A package is not used: which, why, and what to do."""
    return ModelError(f"{path}: refused: {what}: {cure}")


def shown(name: str) -> str:
    """A name out of a package as a message may hold it: on one line, without control characters, and not long."""
    return ascii(name[:80])


def list_folder(path: Path) -> Contents:
    """The files of a folder; raises as `list_contents`, but of a package that is being made, and has no document yet."""
    sizes: dict[str, int] = {}
    waiting = [path]
    while waiting:
        folder = waiting.pop()
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
            for entry in entries:
                name = Path(entry.path).relative_to(path).as_posix()
                kind = entry.stat(follow_symlinks=False)
                if stat.S_ISDIR(kind.st_mode):
                    _check_folder(name, path)
                    waiting.append(Path(entry.path))
                elif stat.S_ISREG(kind.st_mode):
                    sizes[name] = kind.st_size
                else:
                    raise refusal(path, f"{shown(name)} is a link or a device, not a file")
        except OSError as error:
            raise refusal(path, f"it cannot be listed ({error.strerror})", "check its permissions") from error
        if len(sizes) + len(waiting) > MOST_FILES:
            raise refusal(path, f"it holds more than {MOST_FILES} files")
    return Contents(path, sizes)


def _check_folder(name: str, path: Path) -> None:
    if name not in FOLDERS:
        raise refusal(path, f"it holds the folder {shown(name)}, which is no part of a package", "remove it, or ask who made it")


def _of_archive(path: Path) -> Contents:
    try:
        with path.open("rb") as file:
            start = file.read(len(_START))
            file.seek(max(0, path.stat().st_size - _END_BYTES))
            end = file.read(len(_END))
        if start != _START or end != _END:
            raise refusal(
                path,
                "it is no zip archive, cut off, or something follows its end",
                "give a package that `segpipe package` made, or copy it again",
            )
        with zipfile.ZipFile(path) as archive:
            records = archive.infolist()
            _check_records(records, path, archive.start_dir)
    except ModelError:
        raise
    except (*_DAMAGE, OSError) as error:
        raise refusal(path, f"the archive cannot be read ({_reason(error)})", "copy it again") from error
    files = {record.filename: record.file_size for record in records if not record.is_dir()}
    prefix = _prefix(list(files))
    return Contents(path, {name.removeprefix(prefix): size for name, size in files.items()}, prefix)


def _check_records(records: list[zipfile.ZipInfo], path: Path, directory: int) -> None:
    """Refuse what an archive of plain files does not need.

    Args:
        directory: where the archive's table begins: no record may reach it.
    """
    if len(records) > MOST_FILES:
        raise refusal(path, f"it holds more than {MOST_FILES} files")
    seen: set[str] = set()
    end = 0
    for record in sorted(records, key=lambda record: record.header_offset):
        name = record.orig_filename  # zipfile cuts `filename` at a zero byte
        _check_name(name, path)
        if name.lower() in seen:
            raise refusal(path, f"it holds {shown(name)} twice")
        seen.add(name.lower())
        if record.flag_bits & _ENCRYPTED:
            raise refusal(path, f"{shown(name)} is encrypted")
        if record.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise refusal(path, f"{shown(name)} is packed by a method that packages do not use")
        if stat.S_IFMT(record.external_attr >> 16) not in _PLAIN_KINDS:
            raise refusal(path, f"{shown(name)} is a link or a device, not a file")
        if record.is_dir() and record.file_size:
            raise refusal(path, f"{shown(name)} is a folder with content")
        if record.file_size > max(SMALL, most_ratio(name) * record.compress_size):
            raise refusal(path, f"{shown(name)} unpacks to {record.file_size} bytes from {record.compress_size}")
        if record.header_offset < end or (not end and record.header_offset):
            raise refusal(path, f"{shown(name)} lies over another record, or after hidden bytes")
        end = record.header_offset + _HEADER_BYTES + len(name.encode()) + record.compress_size
    if end > directory:
        raise refusal(path, "a record lies over the archive's table")


def _check_name(name: str, path: Path) -> None:
    """Refuse a name that is not a plain relative path in plain letters."""
    parts = PurePosixPath(name.removesuffix("/")).parts
    plain = name.isascii() and name.isprintable() and not set(name) & set('\\:*?"<>|')
    if not plain or not parts or name.startswith("/") or "//" in name or any(part in (".", "..") for part in name.split("/")):
        raise refusal(path, f"the name {shown(name)} leads out of the package, or is no plain name")


def _prefix(names: list[str]) -> str:
    """The one folder in which everything lies, where somebody packed a whole folder."""
    first = names[0].partition("/")[0] + "/" if names else ""
    return first if DOCUMENT not in names and all(name.startswith(first) for name in names) else ""


def _open_plain(path: Path) -> IO[bytes]:
    """A file that is no link, also where it has become one since it was listed."""
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError("it is no file")
    return os.fdopen(handle, "rb")


def _reason(error: Exception) -> str:
    return shown(str(error)) if not isinstance(error, OSError) or error.strerror is None else error.strerror
