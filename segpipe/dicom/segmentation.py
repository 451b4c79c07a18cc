"""A DICOM segmentation (PS3.3 C.8.20) painted onto the slices of the series that it was drawn on.

A frame whose pixels are pixels of the series, to 0.01 mm and the rounding of its header, is put where it belongs, whatever its
orientation, its place among the frames, or its size. What lies between them is refused, or the nearest voxel is taken.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segpipe.dicom.annotation import frames_of, segment_of, segments_of
from segpipe.dicom.canvas import Canvas
from segpipe.dicom.files import open_file
from segpipe.dicom.header import read_object
from segpipe.dicom.pixels import NATIVE, decoded
from segpipe.dicom.place_frame import Spot, locate
from segpipe.dicom.places import Places
from segpipe.dicom.plane import Plane
from segpipe.dicom.put_nearest import paint_nearest
from segpipe.errors import DataError, GeometryError

_DEFLATED = "1.2.840.10008.1.2.1.99"
_AFTER_PIXELS = (b"\xfa\xff", b"\xfc\xff")
"""Groups of digital signatures and of padding (PS3.5 7.1, PS3.10 7.2), as a file holds them."""
_HALF = 0.5
"""Share from which on a voxel of a fractional segmentation belongs to the segment."""


@dataclass(frozen=True, eq=False)
class Segments:
    """A segmentation, opened.

    Attributes:
        file: with its pixels.
        planes: where each frame lies.
        numbers: segment of each frame; None in a label map, whose pixels tell it.
        known: numbers of all segments.
        highest: value of a fractional segmentation that means all; 0 of any other.
        between_mm: stated distance of its slices; 0 where it is not stated.
    """

    file: Any
    planes: tuple[Plane, ...]
    numbers: tuple[int | None, ...]
    known: tuple[int, ...]
    highest: float
    between_mm: float

    def labels(self, frame: int, values: Mapping[int, int]) -> NDArray[Any] | None:
        """Label values (rows, columns) of a frame; None where it shows none of the structures that are wanted.

        Raises:
            DataError: it cannot be decoded, or holds values that no segment has.
        """
        number = self.numbers[frame]
        if number is not None and number not in values:
            return None
        plane = self.planes[frame]
        stored = _bits(self.file, plane) if plane.bits_allocated == 1 and plane.syntax in NATIVE else decoded(self.file, plane)
        if number is None:
            return self._by_table(stored, values)
        if not self.highest and stored.max() > 1:
            raise DataError(f"holds the value {stored.max()} in a binary segmentation; must be 0 and 1: it is damaged, export it again")
        inside = stored > 0 if not self.highest else stored >= _HALF * self.highest
        return np.where(inside, np.uint16(values[number]), np.uint16(0))

    def _by_table(self, stored: NDArray[Any], values: Mapping[int, int]) -> NDArray[Any]:
        present = np.unique(stored)
        strange = [int(value) for value in present if value and value not in self.known]
        if strange:
            raise DataError(f"holds the value {strange[0]}, which is no segment's number; it is damaged, export it again")
        table = np.zeros(int(present.max()) + 1, dtype=np.uint16)
        for value in present:
            table[value] = values.get(int(value), 0)
        labels: NDArray[Any] = table[stored]
        return labels


def _bits(file: Any, plane: Plane) -> NDArray[Any]:
    """Pixels (rows, columns) of one bit, the lowest bit of a byte first; frames follow each other without a gap (PS3.5 8.1.1, annex D).

    Raises:
        DataError: the file ends before the frame does.
    """
    count = plane.rows * plane.columns
    first = plane.frame * count
    stored = np.frombuffer(file.get("PixelData") or b"", dtype=np.uint8)[first // 8 : -(-(first + count) // 8)]
    found = np.unpackbits(stored, bitorder="little")[first % 8 :][:count]
    if len(found) < count:
        raise DataError("ends before its last frame does; it is cut short: copy or export it again")
    return found.reshape(plane.rows, plane.columns)


def open_segments(path: Path) -> Segments:
    """Read a segmentation.

    Raises:
        DataError: it is damaged; without the file's name.
    """
    file, planes = read_object(path, whole=True)
    kind = str(file.get("SegmentationType", "")).upper()
    known = tuple(one.number for one in segments_of(file))
    numbers = tuple(map(segment_of, frames_of(file)))
    if kind not in ("BINARY", "FRACTIONAL", "LABELMAP"):
        raise DataError(f"has the SegmentationType {kind!r}; must be BINARY, FRACTIONAL or LABELMAP: export it again")
    if kind == "LABELMAP":
        numbers = (None,) * len(planes)
    elif any(number not in known for number in numbers):
        raise DataError("has a frame that names no segment of it; must name one: it is damaged, export it again")
    highest = float(file.get("MaximumFractionalValue") or 0)
    if kind == "FRACTIONAL" and highest <= 0:
        raise DataError("is fractional and states no MaximumFractionalValue; must state it: export it again")
    _check_length(path, file, planes[0])
    return Segments(file, tuple(planes), numbers, known, highest if kind == "FRACTIONAL" else 0.0, _between_mm(file))


def _check_length(path: Path, file: Any, plane: Plane) -> None:
    """Refuse pixels that are more or fewer than those of the frames, and what follows them: lost or added bytes shift all others.

    Raises:
        DataError: there are such.
    """
    if plane.syntax not in NATIVE or plane.syntax == _DEFLATED or "PixelData" not in file:  # positions in a deflated file are not its own
        return
    needed = -(-plane.rows * plane.columns * plane.frames * plane.bits_allocated // 8)
    held = len(file.PixelData)
    with open_file(path) as opened:
        opened.seek((file["PixelData"].file_tell or 0) + held)
        group = opened.read(2)
    if held not in (needed, needed + needed % 2) or (group and group not in _AFTER_PIXELS):
        told = "and something after them" if group else f"for {needed}"
        raise DataError(f"holds {held} bytes of pixels {told}; must hold its frames and end: it is damaged, copy or export it again")


def _between_mm(file: Any) -> float:
    """[Spacing Between Slices] of the first frame."""
    for item in next(iter(frames_of(file)), ()):
        for measures in item.get("PixelMeasuresSequence") or []:
            return abs(float(measures.get("SpacingBetweenSlices") or 0))
    return 0.0


def paint_segments(path: Path, values: Mapping[int, int], places: Places, canvas: Canvas, off_grid: str) -> list[str]:
    """Paint the segments that are wanted.

    Args:
        values: segment number -> label value.
        off_grid: refuse; or nearest: where frames are not on the slices, the nearest voxel of the segmentation is taken.

    Returns:
        What is to be told, one phrase each.

    Raises:
        DataError: it is damaged; without the file's name.
        GeometryError: frames are not on the slices, and `off_grid` is refuse.
    """
    segments = open_segments(path)
    spots = [locate(plane, places) if wanted(segments, n, values) else None for n, plane in enumerate(segments.planes)]
    lost = next((spot for spot in spots if isinstance(spot, str)), "")
    if not lost:
        for spot, labels in _frames(segments, spots, values):
            spot.paint(canvas, labels)
        return []
    if off_grid != "nearest":
        raise GeometryError(
            f"{lost}; must lie on the pixels of the series: export it on that series, or take the nearest voxel "
            "(dataset.dicom.off_grid=nearest)"
        )
    how = paint_nearest(segments.planes, segments.between_mm, lambda n: segments.labels(n, values), places, canvas)
    return [f"{lost}; {how}"]


def wanted(segments: Segments, frame: int, values: Mapping[int, int]) -> bool:
    """Whether a frame may show a structure that is wanted."""
    number = segments.numbers[frame]
    return number is None or number in values


def _frames(segments: Segments, spots: Sequence[Spot | str | None], values: Mapping[int, int]) -> Iterator[tuple[Spot, NDArray[Any]]]:
    for number, spot in enumerate(spots):
        labels = segments.labels(number, values) if isinstance(spot, Spot) else None
        if isinstance(spot, Spot) and labels is not None:
            yield spot, labels
