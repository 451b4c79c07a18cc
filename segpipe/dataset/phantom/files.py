"""NIfTI and PNG files as bytes that are the same on every machine.

Compressors differ (zlib, zlib-ng, their versions and levels), so the deflate streams here hold stored blocks only: any reader
opens them, and no library decides about a byte. Quaternions of the NIfTI header come from arithmetic and square roots, not from an
eigenvalue solver.
"""

from __future__ import annotations

import math
import struct
import zlib

import numpy as np
from numpy.typing import NDArray

from segpipe.errors import DataError
from segpipe.geometry.grid import Grid, Volume

_BLOCK = 65535
_GZIP_HEADER = b"\x1f\x8b\x08\x00" + bytes(4) + b"\x00\xff"
"""Deflate, no flags (no file name), time 0, unknown system."""
_NIFTI_FORMAT = "<i10s18sihcB8h3f4h8f3fhBB4f2i80s24s2h6f12f16s4s"
_NIFTI_TYPES = {"uint8": (2, 8), "int16": (4, 16)}
_SQUARE = 1e-4
"""Cosine up to which two axes count as being at right angles."""
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def nifti_gz(volume: Volume) -> bytes:
    """A one-channel uint8 or int16 volume as `.nii.gz`, its affine in sform and qform; exact where the affine holds float32 numbers."""
    data = np.asarray(volume.array[0], dtype=volume.array.dtype.newbyteorder("<")).tobytes(order="F")
    return gzip_stored(_nifti_header(volume) + bytes(4) + data)


def gzip_stored(data: bytes) -> bytes:
    """The data in gzip's wrapper, not compressed (RFC 1952)."""
    return _GZIP_HEADER + _stored(data) + struct.pack("<II", zlib.crc32(data), len(data) & 0xFFFFFFFF)


def png_grey(picture: NDArray[np.uint8]) -> bytes:
    """An 8-bit grey picture (rows, columns) as PNG."""
    rows, columns = picture.shape
    lines = b"".join(b"\x00" + line.tobytes() for line in picture)
    stream = b"\x78\x01" + _stored(lines) + struct.pack(">I", zlib.adler32(lines))
    head = struct.pack(">IIBBBBB", columns, rows, 8, 0, 0, 0, 0)
    return _PNG_SIGNATURE + _chunk(b"IHDR", head) + _chunk(b"IDAT", stream) + _chunk(b"IEND", b"")


def _stored(data: bytes) -> bytes:
    """A deflate stream of stored blocks (RFC 1951, 3.2.4)."""
    starts = range(0, max(len(data), 1), _BLOCK)
    blocks = []
    for start in starts:
        piece = data[start : start + _BLOCK]
        last = start + _BLOCK >= len(data)
        blocks.append(struct.pack("<BHH", last, len(piece), len(piece) ^ 0xFFFF) + piece)
    return b"".join(blocks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _nifti_header(volume: Volume) -> bytes:
    """The 348 bytes of a NIfTI-1 header (nifti1.h), sform and qform of code 1 (scanner), units mm."""
    a = volume.grid.affine
    spacing = [_length(a[0, n], a[1, n], a[2, n]) for n in range(3)]
    turn = [[float(a[row, n]) / spacing[n] for n in range(3)] for row in range(3)]
    handed = 1.0 if _determinant(turn) > 0.0 else -1.0
    for row in turn:
        row[2] *= handed
    code, bits = _NIFTI_TYPES[volume.array.dtype.name]
    return struct.pack(
        _NIFTI_FORMAT,
        *(348, b"", b"", 0, 0, b"r", 0),  # sizeof_hdr to dim_info
        *(3, *volume.grid.shape, 1, 1, 1, 1),  # dim
        *(0.0, 0.0, 0.0, 0, code, bits, 0),  # intent, datatype, bitpix, slice_start
        *(handed, *spacing, 1.0, 1.0, 1.0, 1.0),  # pixdim
        *(352.0, 1.0, 0.0, 0, 0, 2),  # vox_offset, scl_slope, scl_inter, slice_end, slice_code, xyzt_units
        *(0.0, 0.0, 0.0, 0.0, 0, 0, b"", b"", 1, 1),  # cal_max to aux_file, qform_code, sform_code
        *quaternion(turn),
        *(float(a[row, 3]) for row in range(3)),
        *(float(number) for number in a[:3].ravel()),
        *(b"", b"n+1\x00"),
    )


def quaternion(turn: list[list[float]]) -> tuple[float, float, float]:
    """(b, c, d) of the unit quaternion, with a at least 0, of a proper 3x3 rotation matrix (NIfTI-1 header, nifti1.h)."""
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = turn
    squares = (1.0 + xx + yy + zz, 1.0 + xx - yy - zz, 1.0 + yy - xx - zz, 1.0 + zz - xx - yy)
    largest = squares.index(max(squares))
    s = math.sqrt(squares[largest])
    parts = (
        (s * s, zy - yz, xz - zx, yx - xy),
        (zy - yz, s * s, yx + xy, xz + zx),
        (xz - zx, yx + xy, s * s, zy + yz),
        (yx - xy, xz + zx, zy + yz, s * s),
    )[largest]
    a, b, c, d = (part / (2.0 * s) for part in parts)
    return (-b, -c, -d) if a < 0.0 else (b, c, d)


def _length(x: float, y: float, z: float) -> float:
    return math.sqrt(float(x) * float(x) + float(y) * float(y) + float(z) * float(z))


def _determinant(m: list[list[float]]) -> float:
    (a, b, c), (d, e, f), (g, h, i) = m
    return a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)


def unit_axes(grid: Grid) -> tuple[list[tuple[float, float, float]], tuple[float, float, float]]:
    """Unit vectors (RAS) along i, j, k and the spacing in mm.

    Raises:
        DataError: when the axes are not at right angles, which DICOM's image plane cannot say.
    """
    a = grid.affine
    lengths = [_length(a[0, n], a[1, n], a[2, n]) for n in range(3)]
    i, j, k = ((float(a[0, n]) / lengths[n], float(a[1, n]) / lengths[n], float(a[2, n]) / lengths[n]) for n in range(3))
    for one, other in ((i, j), (i, k), (j, k)):
        if abs(one[0] * other[0] + one[1] * other[1] + one[2] * other[2]) > _SQUARE:
            raise DataError("the volume's axes are not at right angles; a DICOM series needs them so: resample it first")
    return [i, j, k], (lengths[0], lengths[1], lengths[2])
