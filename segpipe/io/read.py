"""Read a scan or a label map: any supported format, any orientation, as a `Volume`.

Whatever is wrong with a file comes out as one line: file, fault, cure. Nothing that a library raises passes through.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from segpipe.errors import DataError, GeometryError, SegpipeError
from segpipe.geometry.grid import CORNER_TOLERANCE_MM, Grid, Volume
from segpipe.io import itk, nifti, picture
from segpipe.io.find import ITK, NIFTI, PICTURES, split_name, supported

log = logging.getLogger(__name__)

_LONGEST_REASON = 160


class _Format(Protocol):
    def read(self, path: Path) -> Volume: ...

    def read_grids(self, path: Path) -> list[Grid]: ...

    def count_channels(self, path: Path) -> int: ...


_FORMATS: dict[str, _Format] = {**dict.fromkeys(NIFTI, nifti), **dict.fromkeys(ITK, itk), **dict.fromkeys(PICTURES, picture)}


def read_volume(path: Path) -> Volume:
    """The whole file.

    Returns:
        array (C, I, J, K) in any memory order, native byte order and writable: integers in the file's own type where the header does
        not scale them, all else float32. RGB, vectors and a fourth dimension of up to `dimensions.CHANNELS_AT_MOST` become channels.
        A picture has rows as i, columns as j, and the identity as affine.

    Raises:
        DataError: missing, unreadable, damaged, of no supported kind, a time series, complex numbers.
        GeometryError: the header describes no usable grid.
    """
    with _explained(path):
        return _format(path).read(path)


def read_label(path: Path) -> Volume:
    """`read_volume` of a label map: of a picture with a palette, the indices are the label values (see `picture.read_label`).

    Raises:
        As `read_volume`.
    """
    with _explained(path):
        kind = _format(path)
        return picture.read_label(path) if kind is picture else kind.read(path)


def count_channels(path: Path) -> int:
    """Channels of `read_volume(path)`; from the header alone, but for pictures.

    Raises:
        As `read_volume`.
    """
    with _explained(path):
        kind = _format(path)
        return kind.count_channels(path)


def read_grid(path: Path) -> Grid:
    """The grid alone, from the header; raises as `read_volume`, but does not notice damaged voxels."""
    with _explained(path):
        return _format(path).read_grids(path)[0]


def apart_mm(path: Path, other: Path) -> float:
    """How far two files lie apart: largest distance between corresponding corners, infinite when their shapes differ.

    A NIfTI header may state its place twice, as sform and as qform, which round differently; tools that copy only one of them make
    masks that lie hundredths of a millimetre off the scan they were drawn on. The two statements that agree best count.

    Raises:
        As `read_grid`.
    """
    with _explained(path):
        grids = _format(path).read_grids(path)
    with _explained(other):
        others = _format(other).read_grids(other)
    return min(a.distance_mm(b) for a in grids for b in others)


def read_channels(paths: Sequence[Path]) -> Volume:
    """Several files of one examination, stacked in order: (C, I, J, K) on the first file's grid.

    Raises:
        DataError: as `read_volume`, or no path at all.
        GeometryError: as `read_volume`, or two files lie more than `CORNER_TOLERANCE_MM` apart (see `apart_mm`).
    """
    if not paths:
        raise DataError("no file was given; must be at least one scan a case: check the data set")
    volumes = [read_volume(path) for path in paths]
    first = volumes[0]
    if len(volumes) == 1:
        return first
    for path, volume in zip(paths[1:], volumes[1:], strict=True):
        _must_agree(paths[0], first.grid, path, volume.grid)
    array = np.concatenate([volume.array for volume in volumes])
    return Volume(array.astype(np.float32, copy=False) if array.dtype.kind == "f" else array, first.grid)


def read_beside(path: Path, other: Path) -> Volume:
    """`read_label(path)`, put on the grid of `other` exactly where both headers state one place to `CORNER_TOLERANCE_MM` (see `apart_mm`).

    For a label map beside its scan and a truth beside a prediction. A file that lies elsewhere keeps its own grid.

    Raises:
        As `read_volume`, for either file.
    """
    volume = read_label(path)
    grid = read_grid(other)
    if volume.grid.same_as(grid) or apart_mm(path, other) > CORNER_TOLERANCE_MM:
        return volume
    return Volume(volume.array, grid)


def _must_agree(path: Path, grid: Grid, other_path: Path, other: Grid) -> None:
    if grid.shape != other.shape:
        raise GeometryError(
            f"{other_path}: has {other.shape} voxels, {path} has {grid.shape}; channels must share one grid: resample one onto the other"
        )
    if grid.same_as(other):
        return
    apart = apart_mm(path, other_path)
    if apart > CORNER_TOLERANCE_MM:
        raise GeometryError(
            f"{other_path}: lies {apart:.3g} mm from {path} at a corner; channels must share one grid to {CORNER_TOLERANCE_MM} mm: "
            "resample one onto the other"
        )


def _format(path: Path) -> _Format:
    """The module for the file's ending, after a look at whether there is anything to read."""
    kind = _FORMATS.get(split_name(path)[1])
    if kind is None:
        raise DataError(f"is no scan that can be read; must end in {supported()}: convert it")
    try:
        with path.open("rb") as file:
            empty = not file.read(1)
    except IsADirectoryError as error:
        raise DataError("is a folder; must be a file: give the scans inside it") from error
    except FileNotFoundError as error:
        raise DataError("does not exist; must be a scan: check the path") from error
    except OSError as error:
        raise DataError(f"cannot be opened ({error.strerror}); must be readable: check its permissions") from error
    if empty:
        raise DataError("is empty; must be a scan: copy or export it again")
    return kind


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Put the file before our own messages; turn everything that a library raises over a bad file into a DataError.

    Libraries raise almost anything over damaged bytes (EOFError, zlib.error, SyntaxError, MemoryError ...), hence the wide net.
    """
    try:
        yield
    except SegpipeError as error:
        raise type(error)(f"{path}: {error}") from error
    except Exception as error:
        log.debug("%s", path, exc_info=True)
        why = itk.reason(error)[:_LONGEST_REASON]
        ending = split_name(path)[1]
        raise DataError(f"{path}: cannot be read ({why}); must be a whole {ending} file: it is damaged, copy or export it again") from error
