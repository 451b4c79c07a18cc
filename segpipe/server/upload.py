"""What a client sends, written to disk as it comes, and refused as soon as it is too much; nothing of a client's names becomes a path.

A file lies in the folder of its request as `0000.nii.gz`, `0001.zip` and so on: a number, and an ending out of a short list.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PureWindowsPath
from typing import Any, BinaryIO

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from segpipe.io.find import SUFFIXES, split_name
from segpipe.server.faults import RequestError, is_no_room, no_room, refused, too_large
from segpipe.server.settings import Limits

ARCHIVE = ".zip"
TAKEN = (*(suffix for suffix in SUFFIXES if suffix != ".mhd"), ARCHIVE)
"""Endings that are taken; a `.mhd` is a header alone, whose voxels lie in another file."""
FREE_BYTES = 1 << 29
"""Left on the disk for results and for everybody else."""
_LOOK_BYTES = 16 << 20
"""Between looks at the disk's free space."""
_IDLE_SECONDS, _LEAST_BYTES = 60.0, 1 << 14
"""In which a sender must send so much: its folder is not kept for longer."""
_MOST_FIELDS = 32
_LONGEST_FIELD = 1 << 14
_LONGEST_NAME = 120


@dataclass(frozen=True)
class Sent:
    """One file.

    Attributes:
        field: of the form.
        name: as the client calls it, cleaned; for people alone.
        path: where it lies.
    """

    field: str
    name: str
    path: Path


@dataclass
class Form:
    """What came with one request.

    Attributes:
        fields: values that are no files, by name; of one that is there twice the last.
    """

    fields: dict[str, str] = field(default_factory=dict)
    files: list[Sent] = field(default_factory=list)

    def flag(self, name: str) -> bool:
        """A yes or no; absent is no.

        Raises:
            RequestError: it is another word.
        """
        word = self.fields.get(name, "").strip().lower()
        if word not in ("", "0", "1", "true", "false", "yes", "no", "on", "off"):
            raise refused(f"{name}: is no yes or no; must be true or false")
        return word in ("1", "true", "yes", "on")


def cleaned(name: str) -> str:
    """A client's file name as people and pages may see it: no folders, no control characters, not long."""
    last = PureWindowsPath(name).name  # takes / and \\ for separators
    kept = "".join(letter if letter.isprintable() and letter not in "<>&\"'`" else "_" for letter in last).strip(" .")
    return kept[-_LONGEST_NAME:] or "scan"  # with its ending


def ending(name: str) -> str:
    """The ending of a file that is taken.

    Raises:
        RequestError: none of them.
    """
    suffix = split_name(Path(cleaned(name)))[1]
    if suffix not in TAKEN:
        raise refused(f"{cleaned(name)}: is no scan that is taken; its name must end in {', '.join(TAKEN)} (a zip of one DICOM series)")
    return suffix


async def receive(request: Request, folder: Path, limits: Limits) -> Form:
    """The fields and files of a multipart request, the files in `folder`, which is there.

    Raises:
        RequestError: no multipart, cut off, damaged, too much of anything, or the disk is full.
    """
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not 1 <= len(boundary) <= 70:
        raise refused("the body must be multipart/form-data: curl -F files=@scan.nii.gz ADDRESS")
    with contextlib.closing(_Reader(folder, limits)) as reader:
        parser = MultipartParser(boundary, reader.callbacks())
        async for chunk in _chunks(request, folder, limits):
            reader.take(parser, chunk)
        reader.finish(parser)
        return reader.form


async def receive_body(request: Request, path: Path, limits: Limits) -> None:
    """The body of a request as the file `path`, whose folder is there.

    Raises:
        RequestError: as `receive`; or it is empty.
    """
    size = 0
    with _room(), path.open("xb") as file:
        async for chunk in _chunks(request, path.parent, limits):
            size += file.write(chunk)
    if not size:
        raise refused("the body is empty; must be the file: curl -T labels.nii.gz ADDRESS")


def named_nifti(path: Path) -> Path:
    """A file without a name, that is to be NIfTI, with the ending that its content has."""
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    return path.rename(path.with_name(f"{path.name}.nii{'.gz' * packed}"))


class _Counter:
    """Bytes of a request, and the room for them."""

    def __init__(self, folder: Path, limits: Limits, declared: int) -> None:
        self._folder, self._most = folder, limits.upload_bytes
        self._told = limits.upload_mb
        self._size, self._looked = 0, 0
        self._check(declared)
        if shutil.disk_usage(folder).free < FREE_BYTES + declared:
            raise no_room()

    def add(self, size: int) -> None:
        """Take so many more."""
        self._size += size
        self._check(self._size)
        if self._size - self._looked >= _LOOK_BYTES:
            self._looked = self._size
            if shutil.disk_usage(self._folder).free < FREE_BYTES:
                raise no_room()

    def _check(self, size: int) -> None:
        if size > self._most:
            raise too_large(f"the request is larger than {self._told:g} MB, the most that this server takes (--max-upload-mb): send less")


async def _chunks(request: Request, folder: Path, limits: Limits) -> AsyncIterator[bytes]:
    declared = request.headers.get("content-length", "0")
    counter = _Counter(folder, limits, int(declared) if declared.isdecimal() else 0)
    stream, clock = aiter(request.stream()), asyncio.get_running_loop().time
    waited, came = 0.0, 0  # for the client alone: what a slow disk takes is no fault of it
    try:
        while True:
            began = clock()
            chunk = await asyncio.wait_for(anext(stream, None), _IDLE_SECONDS - waited)
            if chunk is None:
                return
            waited, came = waited + clock() - began, came + len(chunk)
            counter.add(len(chunk))
            if came >= _LEAST_BYTES:
                waited, came = 0.0, 0
            yield chunk
    except ClientDisconnect as error:
        raise refused("the request was cut off") from error
    except TimeoutError as error:
        raise RequestError(408, f"less than {_LEAST_BYTES} bytes came in {_IDLE_SECONDS:g} s: send it again") from error


@contextlib.contextmanager
def _room() -> Iterator[None]:
    """A disk that is full is told as such."""
    try:
        yield
    except OSError as error:
        if is_no_room(error):
            raise no_room() from error
        raise


class _Reader:
    """Hears what the parser finds, and keeps it."""

    def __init__(self, folder: Path, limits: Limits) -> None:
        self.form = Form()
        self._folder, self._most = folder, limits.files
        self._headers: dict[bytes, bytes] = {}
        self._header, self._value = b"", b""
        self._name = ""
        self._text: bytearray | None = None
        self._file: BinaryIO | None = None
        self._size = 0
        self._ended = False

    def callbacks(self) -> Any:
        """By the parser's words."""
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._header_field,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_finished,
            "on_part_data": self._data,
            "on_part_end": self._end,
            "on_end": self._all,
        }

    def take(self, parser: MultipartParser, chunk: bytes) -> None:
        """Read on."""
        try:
            with _room():
                parser.write(chunk)
        except FormParserError as error:
            raise refused("the multipart body is damaged: send it again") from error

    def finish(self, parser: MultipartParser) -> None:
        """Raises:
        RequestError: the end is missing.
        """
        if not self._ended:
            raise refused("the multipart body is cut off: send it again")

    def close(self) -> None:
        """Whatever ended it."""
        if self._file is not None:
            self._file.close()

    def _begin(self) -> None:
        self._headers = {}
        self._header = self._value = b""

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        self._headers[self._header.lower()] = self._value
        self._header = self._value = b""

    def _headers_finished(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        self._name = options.get(b"name", b"").decode("utf-8", "replace")
        self._size = 0
        if b"filename" not in options:
            if len(self.form.fields) >= _MOST_FIELDS:
                raise too_large(f"the form has more than {_MOST_FIELDS} fields")
            self._text = bytearray()
            return
        name = options[b"filename"].decode("utf-8", "replace")
        if len(self.form.files) >= self._most:
            raise too_large(f"the request has more than {self._most} files; zip the slices of a DICOM series into one")
        path = self._folder / f"{len(self.form.files):04d}{ending(name)}"
        self._file = path.open("xb")
        self.form.files.append(Sent(self._name, cleaned(name), path))

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._file is not None:
            self._size += self._file.write(data[start:end])
        elif self._text is not None:
            self._text += data[start:end]
            if len(self._text) > _LONGEST_FIELD:
                raise too_large(f"a field of the form is longer than {_LONGEST_FIELD} bytes")

    def _end(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
            if not self._size:
                raise refused(f"{self.form.files[-1].name}: is empty; must be a scan: send it again")
        elif self._text is not None:
            self.form.fields[self._name] = self._text.decode("utf-8", "replace")
            self._text = None

    def _all(self) -> None:
        self._ended = True
