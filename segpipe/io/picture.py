"""2D pictures (PNG, TIFF, BMP, JPEG), grey or colour. Messages name the fault; `io.read` and `io.write` add the file.

A picture has no millimetres: axis i is its rows, j its columns, k = 1, and the affine is the identity.
"""

from __future__ import annotations

import io
import logging
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk  # noqa: N813 - the name of SimpleITK's own documentation
from numpy.typing import NDArray
from PIL import Image

from segpipe.errors import DataError, GeometryError
from segpipe.geometry.grid import Grid, Volume
from segpipe.io.find import split_name

log = logging.getLogger(__name__)

_FORMATS = ("PNG", "TIFF", "BMP", "JPEG")
_NUMBERS = ("1", "L", "I", "F", "I;16", "I;16B", "I;16L", "I;16N")
_TO_COLOUR = ("RGB", "RGBA", "RGBX", "CMYK", "YCbCr")
_EXIF_ORIENTATION = 0x0112
_COLOURS = 3


def read(path: Path) -> Volume:
    """(1, rows, columns, 1) for grey, (3, rows, columns, 1) for colour, in the file's own type (floats: float32); opacity is left out.

    A palette of greys is looked up. One of colours is not: the indices are what a label picture means.
    """
    with Image.open(path, formats=_FORMATS) as image:
        grid = _grid(image)
        array = _pixels(image, path)  # (rows, columns[, 3])
        if image.getexif().get(_EXIF_ORIENTATION, 1) != 1:
            log.warning("%s: its EXIF data ask for a rotated display; the pixels are taken as they are stored", path)
    if array.ndim == 2:
        array = array[..., None]
    return Volume(np.moveaxis(array, -1, 0)[..., None], grid)  # (C, rows, columns, 1)


def read_grids(path: Path) -> list[Grid]:
    """The one grid that the header states."""
    with Image.open(path, formats=_FORMATS) as image:
        return [_grid(image)]


def _grid(image: Image.Image) -> Grid:
    pages = getattr(image, "n_frames", 1)
    if pages > 1:
        raise DataError(f"it has {pages} pages; must be one picture: split it into one file a page, or make it a NIfTI volume")
    return Grid((image.height, image.width, 1), np.eye(4))


def _pixels(image: Image.Image, path: Path) -> NDArray[Any]:
    if image.mode in _TO_COLOUR and _is_16_bit(image):
        return _deep_colour(path)
    if image.mode == "P":
        image = image.convert("L") if _has_grey_palette(image) else image
    elif image.mode == "LA":
        image = image.convert("L")
    elif image.mode in _TO_COLOUR:
        image = image.convert("RGB")
    elif image.mode not in _NUMBERS:
        raise DataError(f"its pixels are of the kind {image.mode}; must be grey, RGB or a palette: save it as PNG")
    array: NDArray[Any] = np.array(image)
    if array.dtype == np.bool_:
        return array.astype(np.uint8)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _is_16_bit(image: Image.Image) -> bool:
    """Whether the file holds 16 bits a colour, of which Pillow would keep 8."""
    return any("16" in str(tile.args) for tile in getattr(image, "tile", []))


def _deep_colour(path: Path) -> NDArray[Any]:
    array: NDArray[Any] = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    return array[..., :_COLOURS]


def _has_grey_palette(image: Image.Image) -> bool:
    palette = np.array(image.getpalette("RGB")).reshape(-1, 3)
    used = palette[[index for _, index in image.getcolors() or [] if isinstance(index, int) and index < len(palette)]]
    return bool((used == used[:, :1]).all())


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
