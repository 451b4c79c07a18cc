"""What a file holds, as a short hash: whether a scan or a label map is still the one that the table knows.

Size and modification time do not tell: archives set both alike for uncompressed scans of one protocol, and a copy changes the time.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from segpipe.dicom.request import Slices, hash_of
from segpipe.errors import DataError
from segpipe.io.find import ITK, split_name
from segpipe.io.read import read_volume

_HASH_BYTES = 16
_HEADER_BYTES = 1 << 16
_VOXELS_ELSEWHERE = re.compile(rb"(?im)^(?:ElementDataFile[ \t]*=(?![ \t]*LOCAL\s*$)|data ?file[ \t]*:)")
"""The line of a MetaImage or NRRD header that names other files."""


def file_hash(path: Path) -> str:
    """BLAKE2b of the file's bytes, 32 hexadecimal digits; a gigabyte takes about a second.

    Raises:
        DataError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=_HASH_BYTES)).hexdigest()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error


def scan_hash(images: Sequence[Path], slices: Slices | None = None) -> str:
    """The hash of each file of a scan, joined by `;`; for a header alone (.mhd) also that of the voxels, wherever they lie.

    Args:
        slices: of a DICOM scan, instead of `images`: one hash of all.

    Raises:
        DataError, GeometryError: a file cannot be read.
    """
    if slices is not None:
        return hash_of(slices)
    return ";".join(file_hash(path) + _hash_elsewhere(path) for path in images)


def _hash_elsewhere(path: Path) -> str:
    if split_name(path)[1] not in ITK:
        return ""
    with path.open("rb") as file:
        header = file.read(_HEADER_BYTES).partition(b"\n\n")[0]  # NRRD ends its header so
    if not _VOXELS_ELSEWHERE.search(header):
        return ""
    voxels = np.ascontiguousarray(read_volume(path).array)
    return "+" + hashlib.blake2b(voxels.data, digest_size=_HASH_BYTES).hexdigest()
