"""Write a volume or a label map in the format that the file's ending names, whole or not at all, and every voxel where it was."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from segpipe.errors import DataError, GeometryError, SegpipeError
from segpipe.geometry.grid import CORNER_TOLERANCE_MM, Grid, Volume
from segpipe.imports import without
from segpipe.io import itk, nifti, picture
from segpipe.io.atomic import replacing, replacing_all
from segpipe.io.dimensions import CHANNELS_AT_MOST
from segpipe.io.find import ITK, NIFTI, PICTURES, split_name, supported

with without("pydicom"):  # which takes a quarter of a second of each prediction, for extensions of headers that are passed over here
    import nibabel as nib


class _Format(Protocol):
    def write(self, path: Path, volume: Volume) -> None: ...

    def read_grids(self, path: Path) -> list[Grid]: ...


_FORMATS: dict[str, _Format] = {**dict.fromkeys(NIFTI, nifti), **dict.fromkeys(ITK, itk), **dict.fromkeys(PICTURES, picture)}
_LABEL_TYPES = (np.uint8, np.uint16, np.int16, np.int32, np.int64)
_INTEGER_TYPES = (np.uint8, np.int8, np.int16, np.uint16, np.int32, np.uint32)
_LOSSY = (".jpg", ".jpeg")
_WIDEST_BYTES = 4


def label_suffix(suffix: str) -> str:
    """The ending for a label map beside a scan with `suffix`: the same, but `.png` for JPEG, which would change its values."""
    return ".png" if suffix.lower() in _LOSSY else suffix.lower()


def write_volume(path: Path, volume: Volume) -> None:
    """Write `volume`, unscaled and without loss, and check that its grid reads back within `CORNER_TOLERANCE_MM`.

    NIfTI gets the affine as sform, and as qform unless it is sheared; .mhd gets a .raw file beside it. bool is stored as uint8, float16
    as float32, 64-bit integers in 32 bits where they fit. Folders are made as needed.

    Raises:
        ConfigError: the place cannot be written to.
        DataError: the ending is unknown, or the format cannot hold these values.
        GeometryError: the format cannot hold this grid.
    """
    suffix = split_name(path)[1]
    if suffix not in _FORMATS:
        raise DataError(f"{path}: cannot be written, its ending is unknown; must be one of {supported()}: choose another format")
    with _named(path):
        volume = Volume(_storable(volume.array), volume.grid)
        if suffix == ".mhd":
            with replacing_all(path.with_suffix(".raw"), path) as folder:
                _write_checked(_FORMATS[suffix], folder / path.name, volume)
        else:
            with replacing(path) as temporary:
                _write_checked(_FORMATS[suffix], temporary, volume)


def write_label_map(path: Path, array: NDArray[Any], grid: Grid) -> None:
    """Write label values (I, J, K), integers or bool, in the smallest integer type that holds them (uint8 where possible).

    Raises:
        As `write_volume`; DataError also for floats, and for JPEG, which would change the values.
    """
    if array.dtype.kind not in "iub":
        raise DataError(f"{path}: a label map of {array.dtype} was to be written; must be integers: round it first")
    low, high = int(array.min()), int(array.max())
    smallest = next((t for t in _LABEL_TYPES if np.iinfo(t).min <= low and high <= np.iinfo(t).max), np.uint64)
    write_volume(path, Volume(array.astype(smallest, copy=False)[None], grid))


def _storable(array: NDArray[Any]) -> NDArray[Any]:
    """The array in a type that every format knows."""
    if array.dtype.kind == "b":
        return array.astype(np.uint8)
    if array.dtype == np.float16:
        return array.astype(np.float32)
    if array.dtype.kind in "iu" and array.dtype.itemsize > _WIDEST_BYTES:
        low, high = int(array.min()), int(array.max())
        for kind in _INTEGER_TYPES:
            if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max:
                return array.astype(kind)
        raise DataError(f"values from {low} to {high} do not fit into 32 bits; must do: renumber them")
    native = array.dtype.newbyteorder("=")
    if native not in (np.float32, np.float64) and native.kind not in "iu":
        raise DataError(f"values of type {native} cannot be stored; must be integers or floats: convert them")
    return array.astype(native, copy=False)


def _write_checked(kind: _Format, path: Path, volume: Volume) -> None:
    kind.write(path, volume)
    apart = _grid_back(kind, path, volume.channels).distance_mm(volume.grid)
    if apart > CORNER_TOLERANCE_MM:
        ending = split_name(path)[1]
        raise GeometryError(f"the {ending} file would move voxels by {apart:.3g} mm; must be less than {CORNER_TOLERANCE_MM}: write .nrrd")


def _grid_back(kind: _Format, path: Path, channels: int) -> Grid:
    """The grid as the file states it; of many NIfTI volumes nibabel tells it, since our own reader refuses them as a time series."""
    if kind is nifti and channels > CHANNELS_AT_MOST:
        image: Any = nib.load(path)
        i, j, k, _ = image.shape
        return Grid((i, j, k), image.affine)
    return kind.read_grids(path)[0]


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """Put the file before messages that do not name it yet."""
    try:
        yield
    except SegpipeError as error:
        if str(error).startswith(str(path)):
            raise
        raise type(error)(f"{path}: {error}") from error
