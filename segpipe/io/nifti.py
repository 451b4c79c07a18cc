"""NIfTI-1 and NIfTI-2 in one file (.nii, .nii.gz). Messages name the fault; `io.read` and `io.write` add the file.

Fields are those of nifti1.h and nifti2.h (NIfTI Data Format Working Group, 2004 and 2011); nibabel parses them. The header is
taken as it is in the file: nibabel's own loading repairs some faults silently (a zero spacing becomes 1 mm).
"""
# mypy: allow-untyped-calls

from __future__ import annotations

import contextlib
import gzip
import logging
import struct
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from segpipe.errors import DataError, GeometryError
from segpipe.geometry.grid import Grid, Shape, Volume
from segpipe.imports import without
from segpipe.io.dimensions import space_and_channels

with without("pydicom"):  # which takes a quarter of a second of each prediction, for extensions of headers that are passed over here
    import nibabel as nib

log = logging.getLogger(__name__)

_KINDS = {348: nib.Nifti1Header, 540: nib.Nifti2Header}
_MAGIC = {348: (slice(344, 348), b"n+1\0"), 540: (slice(4, 8), b"n+2\0")}
_UNIT_MM = {1: 1000.0, 3: 0.001}
"""Millimetres in one unit of `xyzt_units` bits 0-2: metre, micrometre; anything else is taken as millimetre."""

_QFORM_OFF_MM = 0.1
_QFORM_OFF_SHARE = 0.25
"""A qform counts as the sform's equal when no corner lies farther off than this, nor than this share of the smallest spacing: a quaternion
cannot hold the slight shear that rounded direction cosines leave in an sform (0.06 mm in scans that are about). More is a shift."""

_SCANNER = 1
_COLOURS = 3
_LONGEST_NIFTI1_AXIS = 32767
_CHUNK = 1 << 20
_GZIP_RATIO = 1100
"""Deflate shrinks nothing by more (its limit is 1032:1): a header that promises more than this is wrong or its file truncated."""

_GZIP_MAGIC = b"\x1f\x8b"
_GZIP_LEVEL = 4
"""Label maps take half the room of level 1; level 6 saves a tenth more on scans and takes twice as long."""

_DOUBLE_ABOVE_BYTES = 2
_COPY_AGAIN = "it is truncated: copy or export it again"


def read(path: Path) -> Volume:
    """The whole file: (C, I, J, K), in the file's own type when that is an unscaled integer, else float32."""
    with _opened(path) as stream:
        header = _header(stream)
        grid = _grids(header, path)[0]
        array = _array(header, stream, path)
        while stream.read(_CHUNK):  # gzip keeps its checksum behind the last byte and compares only there
            pass
    return Volume(array, grid)


def read_grids(path: Path) -> list[Grid]:
    """The grid that `read` uses; behind it that of the qform, where sform and qform say nearly the same."""
    with _opened(path) as stream:
        return _grids(_header(stream), path)


def count_channels(path: Path) -> int:
    """Channels that `read` gives, from the header alone."""
    with _opened(path) as stream:
        header = _header(stream)
    _, channels = space_and_channels(_sizes(header))
    return _COLOURS if header.get_data_dtype().names else channels


def _opened(path: Path) -> Any:
    if not _is_packed(path):
        return path.open("rb")
    with path.open("rb") as file:
        if file.read(len(_GZIP_MAGIC)) != _GZIP_MAGIC:
            raise DataError("is not compressed by gzip; .nii.gz must be: rename it to .nii if it is plain NIfTI, else export it again")
    return gzip.open(path, "rb")


def _is_packed(path: Path) -> bool:
    return path.name.lower().endswith(".gz")


def _header(stream: BinaryIO | gzip.GzipFile) -> Any:
    """The header as it stands in the file, after its first four bytes have told byte order and version."""
    block = stream.read(max(_KINDS))
    for order in "<>":
        size = struct.unpack(order + "i", block[:4])[0] if len(block) >= min(_KINDS) else 0
        if size in _KINDS and len(block) >= size:
            where, magic = _MAGIC[size]
            if block[where] != magic:
                raise DataError("is an Analyze or two-file NIfTI header; must be NIfTI in one file: convert it to .nii.gz")
            return _KINDS[size](block[:size], order, check=False)
    if block.startswith(_GZIP_MAGIC):
        raise DataError("is compressed by gzip; .nii must not be: rename it to .nii.gz")
    raise DataError("is no NIfTI file; must begin with a NIfTI header: it is another kind of file with this name, export it again")


def _sizes(header: Any) -> list[int]:
    count = int(header["dim"][0])
    if not 1 <= count < len(header["dim"]):
        raise DataError(f"its header counts {count} dimensions; must be 1 to 7: it is damaged, export the scan again")
    return [int(n) for n in header["dim"][1 : count + 1]]


def _grids(header: Any, path: Path) -> list[Grid]:
    """The grid of the sform where its code is set, else of the qform; then that of the qform where both are set and usable."""
    sizes = _sizes(header)
    shape, _ = space_and_channels(sizes)
    pixdim = header["pixdim"]
    pixdim[0] = -1.0 if pixdim[0] < 0 else 1.0  # qfac; 0 means 1 by the standard
    pixdim[1:4] = np.abs(pixdim[1:4])
    pixdim[1 + len(sizes) : 4] = 1.0  # the spacing of an axis that a 2D file does not have
    unit_mm = _UNIT_MM.get(int(header["xyzt_units"]) & 7, 1.0)
    if unit_mm != 1.0:
        log.warning("%s: its header states lengths in units of %g mm; they are converted to mm", path, unit_mm)
    to_mm = np.array([[unit_mm], [unit_mm], [unit_mm], [1.0]])
    if header["sform_code"] <= 0:
        affine = _qform(header) if header["qform_code"] > 0 else _without_form(header, shape, path)
        return [Grid(shape, to_mm * affine)]
    grid = Grid(shape, to_mm * header.get_sform())
    if header["qform_code"] > 0:
        try:
            other = Grid(shape, to_mm * _qform(header))
        except GeometryError:
            return [grid]  # an unusable qform does not matter beside a good sform
        apart = grid.distance_mm(other)
        if apart > _most_off_mm(grid):
            log.warning("%s: its sform and qform differ by %.2g mm; the sform is used", path, apart)
            return [grid]
        return [grid, other]
    return [grid]


def _most_off_mm(grid: Grid) -> float:
    return min(_QFORM_OFF_MM, min(grid.spacing_mm) * _QFORM_OFF_SHARE)


def _qform(header: Any) -> NDArray[Any]:
    try:
        affine: NDArray[Any] = header.get_qform()
    except ValueError as error:
        raise GeometryError(f"its qform is no rotation ({error}); must be a unit quaternion: repair the header") from error
    return affine


def _without_form(header: Any, shape: Shape, path: Path) -> NDArray[Any]:
    """nibabel's convention for files that do not say how they lie: x runs to the left, the origin is the centre."""
    log.warning("%s: its header does not say how it lies in the patient (sform and qform codes are 0), left and right are a guess", path)
    spacing: NDArray[Any] = header["pixdim"][1:4].astype(np.float64)
    affine = np.diag([-spacing[0], spacing[1], spacing[2], 1.0])
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return affine


def _array(header: Any, stream: BinaryIO | gzip.GzipFile, path: Path) -> NDArray[Any]:
    (i, j, k), channels = space_and_channels(_sizes(header))
    dtype = header.get_data_dtype()
    slope, inter = header.get_slope_inter()  # (None, None) where the header asks for no scaling
    offset = int(header.get_data_offset())
    if offset < int(header["sizeof_hdr"]):
        raise DataError(f"its voxels begin at byte {offset}, inside the header; the header is damaged: export the scan again")
    count = i * j * k * channels * dtype.itemsize
    buffer = _voxels(stream, offset, count, path)
    array = np.frombuffer(buffer, dtype=dtype).reshape((i, j, k, channels), order="F")
    array = _colours(array) if dtype.names else np.moveaxis(array, -1, 0)  # (C, I, J, K)
    return _plain_numbers(array, 1.0 if slope is None else slope, 0.0 if inter is None else inter)


def _voxels(stream: BinaryIO | gzip.GzipFile, offset: int, count: int, path: Path) -> bytearray:
    """Exactly `count` bytes from `offset` on, read in pieces so that memory holds them once."""
    size = path.stat().st_size
    if offset + count > size * (_GZIP_RATIO if isinstance(stream, gzip.GzipFile) else 1):
        raise DataError(f"has {size} bytes, too few for the {count} bytes of voxels that its header promises; {_COPY_AGAIN}")
    stream.seek(offset)
    buffer = bytearray(count)
    view = memoryview(buffer)
    filled = 0
    while filled < count:
        piece = stream.read(min(_CHUNK, count - filled))
        if not piece:
            raise DataError(f"holds {filled} of the {count} bytes of voxels that its header promises; {_COPY_AGAIN}")
        view[filled : filled + len(piece)] = piece
        filled += len(piece)
    return buffer


def _colours(array: NDArray[Any]) -> NDArray[Any]:
    """RGB24 and RGBA32 voxels (I, J, K, 1) as (3, I, J, K); opacity is left out."""
    if array.shape[-1] > 1:
        raise DataError(f"it is a series of {array.shape[-1]} colour volumes; must be one scan: split it into one file a volume")
    return np.stack([array[..., 0][name] for name in ("R", "G", "B")])


def _plain_numbers(array: NDArray[Any], slope: float, inter: float) -> NDArray[Any]:
    """Scale where the header says so; unscaled integers keep their type, all else becomes float32."""
    if array.dtype.kind not in "iuf":
        raise DataError(f"its voxels are of type {array.dtype}; must be real numbers: save magnitude or real part")
    scaled = slope != 1 or inter != 0
    if array.dtype.kind in "iu" and not scaled:
        return array.astype(array.dtype.newbyteorder("="), copy=False)
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and the audit reports that
        if not scaled:
            return array.astype(np.float32, copy=False)
        work = np.dtype(np.float64 if array.dtype.itemsize > _DOUBLE_ABOVE_BYTES else np.float32)
        values: NDArray[Any] = np.multiply(array, slope, dtype=work)
        values = np.add(values, inter, out=values)
        return values.astype(np.float32, copy=False)


def write(path: Path, volume: Volume) -> None:
    """Write with the affine as sform; also as qform when that comes close (see `_QFORM_OFF_MM`), so that no reader is told a wrong place.

    A qform cannot hold shear; where that matters its code is 0. Several channels become a fourth dimension. Voxels are never scaled.
    """
    array = volume.array[0] if volume.channels == 1 else np.moveaxis(volume.array, 0, -1)
    large = max(array.shape) > _LONGEST_NIFTI1_AXIS
    image_kind, header = (nib.Nifti2Image, nib.Nifti2Header()) if large else (nib.Nifti1Image, nib.Nifti1Header())
    affine = volume.grid.affine
    header.set_data_dtype(array.dtype)
    header.set_data_shape(array.shape)
    header.set_zooms((*volume.grid.spacing_mm, 1.0)[: array.ndim])
    header.set_xyzt_units("mm")
    header.set_sform(affine, _SCANNER)
    header.set_qform(affine, _SCANNER)
    if not volume.grid.same_as(Grid(volume.grid.shape, header.get_qform()), _most_off_mm(volume.grid)):
        header["qform_code"] = 0
    image = image_kind(array, None, header)
    with path.open("wb") as raw, _packed(raw, path) as stream:
        image.file_map["image"].fileobj = stream
        image.to_file_map()


def _packed(raw: BinaryIO, path: Path) -> Any:
    """`raw`, or a gzip stream onto it without name and date, so that the same voxels give the same bytes."""
    if not _is_packed(path):
        return contextlib.nullcontext(raw)
    return gzip.GzipFile(filename="", mode="wb", compresslevel=_GZIP_LEVEL, fileobj=raw, mtime=0)
