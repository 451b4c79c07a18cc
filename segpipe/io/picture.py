"""2D pictures (PNG, TIFF, BMP, JPEG), grey or colour. Messages name the fault; `io.read` and `io.write` add the file.

A picture has no millimetres: axis i is its rows, j its columns, k = 1, and the affine is the identity.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segpipe.errors import DataError, GeometryError
from segpipe.geometry.grid import Grid, Volume
from segpipe.io.find import split_name
from segpipe.io.itk import simple_itk

log = logging.getLogger(__name__)

_FORMATS = ("PNG", "TIFF", "BMP", "JPEG")
_NUMBERS = ("1", "L", "I", "F", "I;16", "I;16B", "I;16L", "I;16N")
_TO_COLOUR = ("RGB", "RGBA", "RGBX", "CMYK", "YCbCr")
_EXIF_ORIENTATION = 0x0112
_COLOURS = 3
_WHITE = 255
_BITS_PER_SAMPLE, _SAMPLE_FORMAT = 258, 339
_UNSIGNED = 1
"""TIFF tags, and the sample format of unsigned integers, which is also the one of files that state none."""

_Judge = Callable[[NDArray[Any]], bool]
"""Whether a palette (n, 3) is one whose values, and not the indices, are the pixels."""


def read(path: Path) -> Volume:
    """(1, rows, columns, 1) for grey, (3, rows, columns, 1) for colour, in the file's own type (floats: float32); opacity is left out.

    A palette of nothing but greys is looked up. One with a colour is not, whether or not this picture shows it: the indices are what
    a label picture means, in each of its files.
    """
    return _read(path, _is_grey)


def read_label(path: Path) -> Volume:
    """`read`, but of a palette the indices are the label values, unless it is an even ramp from black to white: a grey picture in disguise.

    The greys of another palette are colours among others, such as white for the background and black for the structure.
    """
    return _read(path, _is_ramp)


def _read(path: Path, looked_up: _Judge) -> Volume:
    with Image.open(path, formats=_FORMATS) as image:
        grid = _grid(image)
        array = _pixels(image, path, looked_up)  # (rows, columns[, 3])
        if image.getexif().get(_EXIF_ORIENTATION, 1) != 1:
            log.warning("%s: its EXIF data ask for a rotated display; the pixels are taken as they are stored", path)
    if array.ndim == 2:
        array = array[..., None]
    return Volume(np.moveaxis(array, -1, 0)[..., None], grid)  # (C, rows, columns, 1)


def read_grids(path: Path) -> list[Grid]:
    """The one grid that the header states."""
    with Image.open(path, formats=_FORMATS) as image:
        return [_grid(image)]


def count_channels(path: Path) -> int:
    """Channels that `read` gives."""
    return read(path).channels


def _grid(image: Image.Image) -> Grid:
    pages = getattr(image, "n_frames", 1)
    if pages > 1:
        raise DataError(f"it has {pages} pages; must be one picture: split it into one file a page, or make it a NIfTI volume")
    return Grid((image.height, image.width, 1), np.eye(4))


def _pixels(image: Image.Image, path: Path, looked_up: _Judge) -> NDArray[Any]:
    if image.mode in _TO_COLOUR and _is_16_bit(image):
        return _deep_colour(path)
    if image.mode == "P":
        image = image.convert("L") if looked_up(_palette(image)) else image
    elif image.mode == "LA":
        image = image.convert("L")
    elif image.mode in _TO_COLOUR:
        image = image.convert("RGB")
    elif image.mode not in _NUMBERS:
        raise DataError(f"its pixels are of the kind {image.mode}; must be grey, RGB or a palette: save it as PNG")
    array: NDArray[Any] = np.array(image)
    if array.dtype == np.bool_:
        return array.astype(np.uint8)
    if image.mode == "I" and _is_unsigned(image):
        return array.view(np.uint32)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _is_16_bit(image: Image.Image) -> bool:
    """Whether the file holds 16 bits a colour, of which Pillow would keep 8."""
    return any("16" in str(tile.args) for tile in getattr(image, "tile", []))


def _deep_colour(path: Path) -> NDArray[Any]:
    sitk = simple_itk()
    array: NDArray[Any] = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    return array[..., :_COLOURS]


def _palette(image: Image.Image) -> NDArray[Any]:
    """The whole stored palette (n, 3): the files of a data set are read alike whatever colours each of them shows."""
    return np.array(image.getpalette("RGB")).reshape(-1, 3)


def _is_grey(palette: NDArray[Any]) -> bool:
    return bool((palette == palette[:, :1]).all())


def _is_ramp(palette: NDArray[Any]) -> bool:
    return len(palette) > 1 and _is_grey(palette) and np.array_equal(palette[:, 0], np.rint(np.linspace(0, _WHITE, len(palette))))


def _is_unsigned(image: Image.Image) -> bool:
    """Whether the pixels are unsigned 32-bit integers, which Pillow takes for signed ones (TIFF 6.0, section 19: SampleFormat 1)."""
    tags = getattr(image, "tag_v2", {})
    return tags.get(_BITS_PER_SAMPLE) == (32,) and tags.get(_SAMPLE_FORMAT, (_UNSIGNED,)) == (_UNSIGNED,)


def write(path: Path, volume: Volume) -> None:
    """Write without loss: 8 or 16 bit grey, 8 bit RGB; TIFF also 32 bit integers and floats."""
    suffix = split_name(path)[1]
    if volume.grid.shape[2] != 1 or not volume.grid.same_as(Grid(volume.grid.shape, np.eye(4))):
        raise GeometryError("a picture holds one slice and no position in millimetres; the volume has more: write .nii.gz")
    array = np.moveaxis(volume.array[..., 0], 0, -1)  # (rows, columns, C)
    if volume.channels == 1:
        array = array[..., 0]
    kinds = {".png": ("uint8", "uint16"), ".bmp": ("uint8",), ".tif": ("uint8", "uint16", "int32", "float32")}
    allowed = kinds.get(suffix.replace(".tiff", ".tif"), ())
    if not allowed:
        raise DataError(f"a {suffix} picture would change the values; must be kept without loss: write .png")
    if array.dtype.name not in allowed or (volume.channels != 1 and (volume.channels != _COLOURS or array.dtype != np.uint8)):
        raise DataError(f"{volume.channels} channels of {array.dtype} do not fit into {suffix} ({', '.join(allowed)}): write .nii.gz")
    encoded = io.BytesIO()  # written below by Python, since Pillow does not notice a full disk
    Image.fromarray(np.ascontiguousarray(array)).save(encoded, format="TIFF" if suffix.startswith(".tif") else suffix[1:])
    path.write_bytes(encoded.getbuffer())
