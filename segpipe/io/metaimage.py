"""Whether a MetaImage file (.mha, .mhd) is whole and undamaged.

ITK reads a damaged compressed block and odd numbers without an error, and tells at most the terminal; here they are refused.
"""

from __future__ import annotations

import math
import zlib
from pathlib import Path
from typing import BinaryIO

from segpipe.errors import DataError, GeometryError

_LONGEST_HEADER = 1 << 16
_CHUNK = 1 << 22
_GEOMETRY = ("Offset", "Position", "Origin", "TransformMatrix", "Rotation", "Orientation", "ElementSpacing", "ElementSize")
_BYTES = {
    "MET_CHAR": 1,
    "MET_UCHAR": 1,
    "MET_SHORT": 2,
    "MET_USHORT": 2,
    "MET_INT": 4,
    "MET_UINT": 4,
    "MET_LONG": 4,
    "MET_ULONG": 4,
    "MET_LONG_LONG": 8,
    "MET_ULONG_LONG": 8,
    "MET_FLOAT": 4,
    "MET_DOUBLE": 8,
}


def check_header(path: Path) -> None:
    """Refuse a header that ITK would misread in silence, as it does with numbers that are none (an Offset of NaN becomes 0).

    Raises:
        DataError: no MetaImage header, or its sizes are missing.
        GeometryError: a position, direction or spacing is not made of finite numbers.
    """
    with path.open("rb") as file:
        fields, _ = _fields(file)
    dims = fields.get("NDims", "")
    if not dims.isdigit() or len(fields.get("DimSize", "").split()) != int(dims):
        raise DataError("has a MetaImage header without sizes; must give NDims and DimSize: it is damaged, export the scan again")
    for name in _GEOMETRY:
        if name in fields and not _all_finite(fields[name]):
            raise GeometryError(f"its header gives {name} = {fields[name][:40]}; must be finite numbers: repair the header")


def check_voxels(path: Path) -> None:
    """Compare the voxels with what the header promises.

    Headers that name several data files or an unknown element type are left to ITK.

    Raises:
        DataError: no MetaImage header, data file missing, truncated or damaged.
    """
    with path.open("rb") as file:
        fields, offset = _fields(file)
    name = fields["ElementDataFile"]
    if name.upper() == "LIST" or "%" in name:
        return
    data = path if name.upper() == "LOCAL" else path.parent / name
    if not data.is_file():
        raise DataError(f"its data file {name} is missing; must lie beside the header: copy both files")
    kind = _BYTES.get(fields.get("ElementType", ""))
    if kind is None:
        return
    sizes = [int(n) for n in fields["DimSize"].split()]
    expected = math.prod(sizes) * kind * int(fields.get("ElementNumberOfChannels", "1"))
    start = offset if data == path else 0
    found = _inflated(data, start) if fields.get("CompressedData", "").lower() == "true" else data.stat().st_size - start
    if found < expected:
        raise DataError(f"holds {found} of the {expected} bytes of voxels that its header promises; it is truncated: copy it again")


def _all_finite(text: str) -> bool:
    try:
        return all(math.isfinite(float(word)) for word in text.split())
    except ValueError:
        return False


def _fields(file: BinaryIO) -> tuple[dict[str, str], int]:
    """The header's `key = value` lines, and where the byte after them lies."""
    fields: dict[str, str] = {}
    while "ElementDataFile" not in fields and file.tell() < _LONGEST_HEADER:
        line = file.readline(_LONGEST_HEADER)
        key, equals, value = line.decode("latin-1").partition("=")
        if not equals:
            break
        fields[key.strip()] = value.strip()
    if not fields.get("ElementDataFile"):
        raise DataError("has no MetaImage header; must be text lines `key = value` up to ElementDataFile: export the scan again")
    return fields, file.tell()


def _inflated(data: Path, offset: int) -> int:
    """Number of bytes that the zlib stream at `offset` unpacks to; its checksum is compared on the way."""
    unpack = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)  # zlib or gzip, as its first bytes say
    found = 0
    with data.open("rb") as file:
        file.seek(offset)
        while not unpack.eof:
            packed = file.read(_CHUNK)
            if not packed:
                break
            found += len(unpack.decompress(packed))
    return found
