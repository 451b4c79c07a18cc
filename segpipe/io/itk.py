"""NRRD and MetaImage (.nrrd, .mha, .mhd) through SimpleITK. Messages name the fault; `io.read` and `io.write` add the file.

ITK's world is LPS+ (DICOM's); ours is RAS+: x and y change sign. Both formats hold any invertible matrix of directions, sheared ones
too, in 17 digits, and ITK hands it on, so that grids come back exactly.
"""
# mypy: allow-untyped-calls

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segpipe.errors import DataError
from segpipe.geometry.grid import Grid, Volume
from segpipe.io import metaimage
from segpipe.io.dimensions import space_and_channels
from segpipe.io.find import split_name

log = logging.getLogger(__name__)

_READERS = {".nrrd": "NrrdImageIO", ".mha": "MetaImageIO", ".mhd": "MetaImageIO"}
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_SPACE = 3


def simple_itk() -> Any:
    """SimpleITK, loaded when the first file needs it: it takes 0.1 GB and a third of a second, and most scans are NIfTI."""
    import SimpleITK

    return SimpleITK


def read(path: Path) -> Volume:
    """The whole file: (C, I, J, K), integers in the file's own type, else float32."""
    with _SILENCE:
        reader = _opened(path)
        grid, channels = _grid(reader, path)
        if _is_meta(path):
            metaimage.check_voxels(path)
        array = _real(simple_itk().GetArrayFromImage(reader.Execute()))
    if reader.GetNumberOfComponents() > 1:
        array = np.moveaxis(array, -1, 0)  # (C, [T,] K, J, I)
    array = array.reshape(channels, *reversed(grid.shape))
    return Volume(array.transpose(0, 3, 2, 1), grid)  # (C, I, J, K)


def _real(array: NDArray[Any]) -> NDArray[Any]:
    """Integers as they are, floats as float32."""
    if array.dtype.kind in "iu":
        return array
    if array.dtype.kind != "f":
        raise DataError(f"its voxels are of type {array.dtype}; must be real numbers: save magnitude or real part")
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and the audit reports that
        return array.astype(np.float32, copy=False)


def read_grids(path: Path) -> list[Grid]:
    """The one grid that the header states."""
    with _SILENCE:
        return [_grid(_opened(path), path)[0]]


def count_channels(path: Path) -> int:
    """Channels that `read` gives, from the header alone."""
    with _SILENCE:
        return _grid(_opened(path), path)[1]


def _opened(path: Path) -> Any:
    if _is_meta(path):
        metaimage.check_header(path)
    reader = simple_itk().ImageFileReader()
    reader.SetImageIO(_READERS[split_name(path)[1]])
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    return reader


def _is_meta(path: Path) -> bool:
    return _READERS[split_name(path)[1]] == "MetaImageIO"


def _grid(reader: Any, path: Path) -> tuple[Grid, int]:
    """Grid and number of channels."""
    sizes = list(reader.GetSize())
    components = reader.GetNumberOfComponents()
    if components > 1:
        sizes = [*sizes, *[1] * (4 - len(sizes)), components]
    shape, channels = space_and_channels(sizes)
    if split_name(path)[1] == ".nrrd" and not reader.HasMetaDataKey("NRRD_space"):
        log.warning("%s: its header does not say how it lies in the patient (no `space`), left and right are a guess", path)
    n = reader.GetDimension()
    used = min(n, _SPACE)
    affine = np.eye(4)
    direction = np.array(reader.GetDirection()).reshape(n, n)[:used, :used]
    affine[:used, :used] = direction * np.array(reader.GetSpacing())[:used]
    affine[:used, 3] = np.array(reader.GetOrigin())[:used]
    return Grid(shape, _LPS_TO_RAS @ affine), channels


def write(path: Path, volume: Volume) -> None:
    """Write compressed, except .mhd, whose voxels go uncompressed into a .raw file beside it."""
    array: NDArray[Any] = volume.array.transpose(0, 3, 2, 1)  # (C, K, J, I)
    sitk = simple_itk()
    image = sitk.GetImageFromArray(array[0]) if volume.channels == 1 else sitk.GetImageFromArray(np.moveaxis(array, 0, -1), isVector=True)
    affine = _LPS_TO_RAS @ volume.grid.affine
    spacing = volume.grid.spacing_mm
    image.SetSpacing(spacing)
    image.SetOrigin(affine[:3, 3].tolist())
    image.SetDirection((affine[:3, :3] / spacing).ravel().tolist())
    with _SILENCE:
        try:
            sitk.WriteImage(image, str(path), useCompression=path.suffix != ".mhd")
        except RuntimeError as error:
            raise OSError(reason(error)) from error


def reason(error: Exception) -> str:
    """An exception's text on one line, without the source positions, addresses and call stack that ITK puts before it."""
    text = " ".join(str(error).split())
    itk = text.rpartition("ITK ERROR: ")[2].partition("): ")[2].rpartition("[nrrd] ")[2]
    return itk or text or type(error).__name__


class _Silence:
    """Keeps ITK's warnings from the terminal; what matters is checked here. They are one switch for all threads: the last one to leave
    puts it back.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside, self._shown = 0, True

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._shown = simple_itk().ProcessObject.GetGlobalWarningDisplay()
                simple_itk().ProcessObject.SetGlobalWarningDisplay(False)
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                simple_itk().ProcessObject.SetGlobalWarningDisplay(self._shown)


_SILENCE = _Silence()
