"""The contours of a region as the bytes that a file holds (PS3.5 7.5, implicit VR): objects of pydicom took 80 s for 50,000 of them."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from segpipe.dicom.plane import Plane
from segpipe.dicom.writing.contours import Ring

_CLOSED = b"CLOSED_PLANAR"
_SOP_CLASS, _INSTANCE, _FRAME = 0x00081150, 0x00081155, 0x00081160
_IMAGES, _KIND, _POINTS, _NUMBER, _DATA = 0x30060016, 0x30060042, 0x30060046, 0x30060048, 0x30060050
_ITEM = 0xFFFEE000


def contour_items(slices: Iterable[tuple[Plane, Sequence[Ring]]]) -> bytes:
    """The value of a Contour Sequence (PS3.3 C.8.8.6).

    Args:
        slices: each with the outlines in it, in pixels.
    """
    return b"".join(_items(slices))


def _items(slices: Iterable[tuple[Plane, Sequence[Ring]]]) -> Iterable[bytes]:
    number = 0
    for plane, rings in slices:
        image = _element(_IMAGES, _element(_ITEM, _image(plane)))
        texts = _texts(in_patient(plane, np.concatenate(rings))) if rings else []
        begin = 0
        for ring in rings:
            number, end = number + 1, begin + len(ring)
            data = "\\".join(texts[3 * begin : 3 * end]).encode()
            told = (_element(_KIND, _CLOSED), _element(_POINTS, b"%d" % len(ring)), _element(_NUMBER, b"%d" % number))
            yield _element(_ITEM, b"".join((image, *told, _element(_DATA, data))))
            begin = end


def _texts(places: NDArray[np.float64]) -> list[str]:
    return [f"{value:.4f}" for value in places.ravel().tolist()]


def _image(plane: Plane) -> bytes:
    """As `seg.reference`."""
    frame = _element(_FRAME, b"%d" % (plane.frame + 1)) if plane.enhanced else b""
    return _element(_SOP_CLASS, plane.sop_class.encode(), b"\0") + _element(_INSTANCE, plane.instance.encode(), b"\0") + frame


def _element(tag: int, value: bytes, filled: bytes = b" ") -> bytes:
    """Of even length."""
    value += filled * (len(value) % 2)
    return struct.pack("<HHL", tag >> 16, tag & 0xFFFF, len(value)) + value


def in_patient(plane: Plane, ring: Ring) -> NDArray[np.float64]:
    """(N, 3) mm, LPS+, of points of a slice (PS3.3 equation C.7.6.2.1-1)."""
    orientation, spacing = np.array(plane.orientation, dtype=np.float64), np.array(plane.spacing, dtype=np.float64)
    along_row, along_column = orientation[:3] * spacing[1], orientation[3:] * spacing[0]
    place: NDArray[np.float64] = np.array(plane.position) + ring[:, :1] * along_row + ring[:, 1:] * along_column
    return place
