"""The pixels of a stack's files -> values: HU, Bq/ml or whatever the header's rescaling makes of them.

Stored values are decoded by pydicom's plugins and checked here; each slice is rescaled by its own slope and intercept (PS3.3 C.7.6.16.2.9,
C.11.1.1.2), as PET needs it. Values that pad a picture (PS3.3 C.7.5.1.1.2) are rescaled like all others: that is what converters to
NIfTI do, and so what models were trained on. MONOCHROME1 says that low values are shown white. Where values have a unit (CT, PET, a
rescaling, a table) it is about display alone; a radiograph or an MR without one would be a negative, and is turned over.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segpipe.dicom.decoding import why_undecodable
from segpipe.dicom.files import open_file
from segpipe.dicom.header import reason
from segpipe.dicom.library import pydicom, quiet
from segpipe.dicom.plane import Plane
from segpipe.errors import DataError

log = logging.getLogger(__name__)

_WITH_UNIT = frozenset({"CT", "PT", "NM", "RTDOSE"})
_UNSPECIFIED = frozenset({"", "US"})
NATIVE = frozenset({"1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2"})
"""Transfer syntaxes whose pixels are not compressed one by one."""
_INTEGERS = (np.int16, np.uint16, np.int32)


def value_type(planes: Sequence[Plane]) -> Any:
    """The type that holds every value of the planes: the smallest integer where rescaling only adds whole numbers, else float32."""
    exact = all(plane.slope == 1 and plane.intercept == int(plane.intercept) and not plane.table for plane in planes)
    if not exact:
        return np.dtype(np.float32)
    bounds = [bound + int(plane.intercept) for plane in planes for bound in _bounds(plane)]
    fits = (kind for kind in _INTEGERS if np.iinfo(kind).min <= min(bounds) and max(bounds) <= np.iinfo(kind).max)
    return np.dtype(next(fits, np.float32))


def is_turned_over(plane: Plane) -> bool:
    """Whether low stored values become high ones."""
    rescaled = plane.table or (plane.slope, plane.intercept) != (1, 0)
    has_unit = rescaled or plane.modality in _WITH_UNIT or plane.units.upper() not in _UNSPECIFIED
    return plane.photometric == "MONOCHROME1" and not has_unit


def read_values(planes: Sequence[Plane]) -> Iterator[tuple[int, NDArray[Any]]]:
    """The values of each plane, (rows, columns), with its index in `planes`; file by file, so that each is opened once.

    Raises:
        DataError: a file cannot be decoded, or holds less or other pixels than it says; with its name.
    """
    files: dict[Path, list[int]] = {}
    for number, plane in enumerate(planes):
        files.setdefault(plane.path, []).append(number)
    for path, numbers in files.items():
        with _named(path):
            file = _whole_file(path)
        for number in numbers:
            with _named(path):
                values = _values(file, planes[number])
            yield number, values


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """Put the file before what is wrong with it, and silence the library."""
    try:
        with quiet():
            yield
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def _whole_file(path: Path) -> Any:
    try:
        with open_file(path) as file:
            return pydicom().dcmread(file, force=True)
    except Exception as error:
        log.debug("%s", path, exc_info=True)
        raise DataError(f"cannot be read ({reason(error)}); must be a whole DICOM file: it is damaged, copy or export it again") from error


def _values(file: Any, plane: Plane) -> NDArray[Any]:
    stored = decoded(file, plane)
    if stored.shape != (plane.rows, plane.columns):
        raise DataError(f"decodes to {stored.shape} pixels; must be ({plane.rows}, {plane.columns}): it is damaged, export it again")
    if stored.dtype.kind in "iu":
        stored = _in_bits(stored, plane)
        if is_turned_over(plane):
            stored = _turned_over(stored, plane)
    if plane.table:
        return _by_table(stored, file)
    if (plane.slope, plane.intercept) == (1, 0):
        return stored
    return stored.astype(np.float64) * plane.slope + plane.intercept


def decoded(file: Any, plane: Plane) -> NDArray[Any]:
    """Stored values of a frame as they are, (rows, columns).

    Args:
        file: read whole.

    Raises:
        DataError: it has no pixels, or they cannot be decoded; without the file's name.
    """
    from pydicom.pixels import pixel_array

    if not any(name in file for name in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        raise DataError("has no pixels; must hold a picture: it is cut short, copy or export it again")
    if not getattr(file, "file_meta", None) or not file.file_meta.get("TransferSyntaxUID"):
        file.ensure_file_meta()
        file.file_meta.TransferSyntaxUID = plane.syntax
    if why := why_undecodable({plane.syntax}):
        raise DataError(why)
    try:
        found: NDArray[Any] = pixel_array(file, index=plane.frame, raw=True, correct_unused_bits=plane.syntax not in NATIVE)
    except Exception as error:
        log.debug("%s", plane.path, exc_info=True)
        name = pydicom().uid.UID(plane.syntax).name
        raise DataError(f"its pixels cannot be decoded as {name} ({reason(error)}); it is damaged: copy or export it again") from error
    return found


def _bounds(plane: Plane) -> tuple[int, int]:
    """Smallest and largest stored value."""
    bits = plane.bits_stored
    return (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if plane.signed else (0, (1 << bits) - 1)


def _in_bits(stored: NDArray[Any], plane: Plane) -> NDArray[Any]:
    """Stored values in the bits that the header gives them: signs extended, old drawings in the bits above taken off.

    Raises:
        DataError: values that do not fit; one of the numbers must be wrong, and which cannot be told.
    """
    spare = plane.bits_allocated - plane.bits_stored
    low, high = _bounds(plane)
    if not spare or (stored.min() >= low and stored.max() <= high):
        return stored
    unsigned_high = (1 << plane.bits_stored) - 1
    plain: NDArray[Any] = stored.astype(np.int64) & unsigned_high
    above = plain != stored
    if above.any() and not plane.overlay:
        raise DataError(
            f"holds values from {stored.min()} to {stored.max()}, and states {plane.bits_stored} bits; one is wrong: export it again"
        )
    if plane.signed:
        plain = np.where(plain > high, plain - unsigned_high - 1, plain)
    return plain.astype(stored.dtype)


def _turned_over(stored: NDArray[Any], plane: Plane) -> NDArray[Any]:
    """Highest for lowest; what pads the picture becomes the lowest value."""
    low, high = _bounds(plane)
    turned = (low + high) - stored.astype(np.int64)
    if plane.padding is not None:
        turned = np.where((stored >= plane.padding[0]) & (stored <= plane.padding[1]), low, turned)
    return turned.astype(stored.dtype)


def _by_table(stored: NDArray[Any], file: Any) -> NDArray[Any]:
    from pydicom.pixels import apply_modality_lut

    try:
        return np.asarray(apply_modality_lut(stored, file), dtype=np.float64)
    except Exception as error:
        raise DataError(f"its Modality LUT cannot be used ({reason(error)}); must be a table of values: export it again") from error
