"""The one scan in a zip archive of DICOM, which is never unpacked to the disk."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from segpipe.dicom.channels import Wanted
from segpipe.dicom.files import HEAD_BYTES, candidates, has_preamble, looks_like_dicom, open_file
from segpipe.dicom.header import read_planes
from segpipe.dicom.policy import Policy
from segpipe.dicom.request import Slices
from segpipe.errors import DataError
from segpipe.inference.examination import Examination
from segpipe.inference.series import gather_series

log = logging.getLogger(__name__)

_DEFLATED = "1.2.840.10008.1.2.1.99"
_META_GROUP = 0x0002
_CHUNK = 1 << 16
_BYTES = 4
"""Of a voxel in float32."""


def series_in(path: Path, channels: Sequence[str], series: Sequence[Wanted]) -> Examination:
    """The scan, refused ones with the reason as their problem.

    Args:
        channels: of the model.
        series: which series is which channel; none: the model takes one.

    Raises:
        DataError: the archive holds none, or several.
    """
    found = gather_series([path], path.parent, channels, (Policy(), series), tell=False)
    whole = [scan for scan in found if not scan.problem]
    if not found:
        raise DataError(f"{path}: holds no DICOM that is a scan; must hold the slices of one series: zip the folder of the series")
    if len(whole) > 1:
        raise DataError(f"{path}: holds {len(whole)} series that could be the scan; must hold one: zip the folder of that series alone")
    return (whole or found)[0]


def check_deflated(path: Path, most: int) -> None:
    """Refuse an archive whose slices are deflated once more inside, and inflate to more than `most` bytes together.

    The archive's own table tells nothing of them (transfer syntax Deflated Explicit VR Little Endian, PS3.5 A.5), and they are inflated
    whole as soon as their header is asked for.

    Raises:
        DataError: they do.
    """
    total = 0
    for member in candidates([path]):
        total += _inflated(member, most - total)
        if total > most:
            raise DataError(
                f"{path}: holds DICOM that inflates to more than {most / 2**20:.0f} MB: "
                "send a part of it, or export it without the deflated transfer syntax"
            )


def check_pixels(scan: Examination, path: Path, most: int) -> None:
    """Refuse a scan whose headers promise more than `most` bytes in float32; compressed pixels may be few bytes of many.

    Raises:
        DataError: they do; or a header cannot be read.
    """
    total = sum(map(_bytes_of, _channels(scan.slices)))
    if total > most:
        raise DataError(
            f"{path}: unpacks to {total / 2**20:.0f} MB; at most {most / 2**20:.0f}: send a part of it, or ask who runs the server"
        )


def _channels(slices: Slices | None) -> tuple[Slices, ...]:
    return () if slices is None else (slices, *slices.others)


def _bytes_of(slices: Slices) -> int:
    """By the first header: the slices of a stack are all of one size."""
    if not slices.planes:
        return 0
    first = read_planes(slices.planes[0][0])[0]
    return _BYTES * first.rows * first.columns * first.samples * len(slices.planes)


def _inflated(member: Path, most: int) -> int:
    """Bytes that a deflated file inflates to, counted until they are more than `most`; 0 of any other."""
    try:
        with open_file(member) as file:
            return _count(file, most) if _is_deflated(file) else 0
    except Exception:  # damaged before it could be inflated, which whoever reads it next tells of
        log.debug("%s", member, exc_info=True)
        return 0


def _is_deflated(file: BinaryIO) -> bool:
    """Whether it says so itself; the file then stands where the deflated part begins."""
    from pydicom.filereader import read_dataset

    head = file.read(HEAD_BYTES)
    if not looks_like_dicom(head):
        return False
    file.seek(HEAD_BYTES if has_preamble(head) else 0)
    meta = read_dataset(file, False, True, stop_when=lambda tag, representation, length: tag.group != _META_GROUP)
    return str(meta.get("TransferSyntaxUID", "")) == _DEFLATED


def _count(file: BinaryIO, most: int) -> int:
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    found = 0
    while found <= most and not inflate.eof:
        packed = inflate.unconsumed_tail or file.read(_CHUNK)
        if not packed:
            break
        found += len(inflate.decompress(packed, _CHUNK))
    return found
