"""A DICOM file that is to be sent, known by its UIDs."""

from __future__ import annotations

import hashlib
import io
import re
from dataclasses import dataclass
from pathlib import Path

from segpipe.dicom.files import HEAD_BYTES, has_preamble
from segpipe.dicom.library import pydicom
from segpipe.errors import DataError

_TAGS = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
_HEAD = 8
"""Bytes of an element before its value: tag, VR, length."""
_DATES = re.compile(
    rb"\x08\x00[\x12\x21\x23]\x00DA\x08\x00.{8}|\x08\x00[\x13\x31\x33]\x00TM\x06\x00.{6}"  # of creation, series, content
    rb"|\x06\x30\x08\x00DA\x08\x00.{8}|\x06\x30\x09\x00TM\x06\x00.{6}|\x18\x00\x02\xa0DT\x0e\x00.{14}",  # structure set, contribution
    re.DOTALL,
)
"""As our own objects have them, in explicit little endian; of others nothing need be found."""


@dataclass(frozen=True)
class Parcel:
    """Attributes:
    kind, instance, study, series: UIDs; `kind` that of the SOP class.
    syntax: UID of the transfer syntax.
    sha256: of the file, 64 hexadecimal digits; empty where it was not asked for.
    content: likewise without the date of its making, which is no part of what it says; of an object of ours that was made again.
    """

    kind: str
    instance: str
    study: str
    series: str
    syntax: str
    sha256: str = ""
    content: str = ""

    @staticmethod
    def of_file(path: Path) -> Parcel:
        """From a file's header.

        Raises:
            DataError: it is no whole DICOM file with these UIDs.
        """
        with path.open("rb") as file:
            return _parsed(file, str(path))

    @staticmethod
    def of_bytes(data: bytes, name: str) -> Parcel:
        """Of a whole file in memory, with its hash.

        Raises:
            DataError: as `of_file`.
        """
        found = _parsed(io.BytesIO(data), name)
        hashes = (hashlib.sha256(one).hexdigest() for one in (data, _DATES.sub(_undated, data)))
        return Parcel(found.kind, found.instance, found.study, found.series, found.syntax, *hashes)


def _undated(found: re.Match[bytes]) -> bytes:
    return found[0][:_HEAD]


def _parsed(file: io.BufferedReader | io.BytesIO, name: str) -> Parcel:
    library = pydicom()
    if not has_preamble(file.read(HEAD_BYTES)):
        raise DataError(f"{name}: is no DICOM file; must begin with a preamble and DICM")
    file.seek(0)
    try:
        header = library.dcmread(file, stop_before_pixels=True, specific_tags=list(_TAGS))
        kind, instance, study, series = (str(header.get(tag, "") or "") for tag in _TAGS)
        syntax = str(header.file_meta.get("TransferSyntaxUID", "") or "")
    except Exception as error:  # over damaged bytes pydicom raises almost anything
        raise DataError(f"{name}: is no whole DICOM file ({type(error).__name__})") from error
    if not all((kind, instance, study, series, syntax)):
        raise DataError(f"{name}: lacks a UID of study, series, instance, kind or transfer syntax")
    return Parcel(kind, instance, study, series, syntax)
