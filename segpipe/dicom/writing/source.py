"""The slices that results lie on and refer to: one plane a place, and the headers that say of whom they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segpipe.dicom.files import open_file
from segpipe.dicom.header import reason
from segpipe.dicom.layout import Layout, spread
from segpipe.dicom.library import pydicom, quiet
from segpipe.dicom.plane import Plane
from segpipe.dicom.request import Slices, stack_of
from segpipe.dicom.stack import Stack
from segpipe.dicom.writing.patient import PATIENT_AND_STUDY, only, patient_of
from segpipe.errors import DataError
from segpipe.geometry.grid import Grid

GEOMETRY = (
    *("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "Modality", "ImageType"),
    *("Rows", "Columns", "NumberOfFrames", "PixelSpacing", "SliceThickness", "ImagePositionPatient", "ImageOrientationPatient"),
    *("DimensionOrganizationSequence", "DimensionIndexSequence"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
)
_CURE = "without it no object can refer to the series: export it again with its UIDs, or leave DICOM out of --format"


@dataclass(frozen=True, eq=False)
class Source:
    """A series as its results see it.

    Attributes:
        planes: one a place, by height; of copies the first.
        headers: pydicom data sets, one a file, of what tells which instance it is and how it lies.
        patient: a data set of patient and study, see `patient_of`.
        slots: for each plane, its slice k of the label map.
        grid: of the label map.
    """

    planes: tuple[Plane, ...]
    headers: tuple[Any, ...]
    patient: Any
    slots: tuple[int, ...]
    grid: Grid

    @property
    def first(self) -> Plane:
        """Stands for all where they agree."""
        return self.planes[0]

    def on_planes(self, labels: NDArray[Any]) -> NDArray[Any]:
        """A label map (I, J, K) of `grid` -> (planes, rows, columns); each plane gets the slice that lies nearest."""
        return np.moveaxis(labels[:, :, list(self.slots)], (2, 1, 0), (0, 1, 2))

    @property
    def blended(self) -> str:
        """Where the label map has slices that the series has not, blended from their neighbours: how its volumes come about; else empty."""
        slices, own = self.grid.shape[2], len(self.planes)
        if slices == own:
            return ""
        return (
            f"Volume of the label map on {slices} evenly spaced slices, where the series has {own}: slices that are missing were blended "
            "from their neighbours and count, while the segmentation shows those of the series alone"
        )

    @property
    def spacing_mm(self) -> float | None:
        """From plane to plane along the normal; None where that varies or there is one plane."""
        heights = self._heights
        apart = np.diff(heights)
        return float(apart.mean()) if len(apart) and np.ptp(apart) < 0.05 * apart.mean() else None

    @property
    def _heights(self) -> NDArray[np.float64]:
        orientation = np.array(self.first.orientation, dtype=np.float64)
        normal = np.cross(orientation[:3], orientation[3:])
        return np.array([plane.position for plane in self.planes], dtype=np.float64) @ normal


def read_source(slices: Slices) -> Source:
    """The planes and headers of a scan's files as they are now.

    Raises:
        DataError: as `check_source`, and a file cannot be read or has changed.
    """
    stack = stack_of(slices)
    layout = _referable(stack)
    planes = [stack.planes[layout.places.index(place)] for place in range(len(layout.heights))]
    paths = list(dict.fromkeys(plane.path for plane in planes))
    with quiet():
        whole = [_header(path) for path in paths]
        headers, patient = tuple(only(header, GEOMETRY) for header in whole), patient_of(whole[0])
    grid, heights = layout.grid, np.array(layout.heights)
    at = heights
    if grid is None or layout.kind == "gap":
        grid, at = spread(stack.planes, layout)
    slots = tuple(int(np.abs(at - height).argmin()) for height in heights)
    return Source(tuple(planes), headers, patient, slots, grid)


def check_source(slices: Slices) -> None:
    """Refuse, before the networks are asked, a series that no object can refer to.

    Raises:
        DataError: it has no study, series, instance or frame of reference UID, or one instance UID twice, or several multi-frame files.
    """
    _referable(stack_of(slices))


def _referable(stack: Stack) -> Layout:
    words: dict[str, Callable[[Plane], str]] = {
        "StudyInstanceUID": lambda plane: plane.study,
        "SeriesInstanceUID": lambda plane: plane.series,
        "SOPInstanceUID": lambda plane: plane.instance,
        "FrameOfReferenceUID": lambda plane: plane.frame_of_reference,
        "SOPClassUID": lambda plane: plane.sop_class,
    }
    for name, word in words.items():
        if not all(word(plane) for plane in stack.planes):
            raise DataError(f"series {stack.name}: states no {name}; {_CURE}")
    layout = stack.layout
    if stack.problem or layout is None:
        raise DataError(f"series {stack.name}: {stack.problem}")
    files = {plane.path for plane in (stack.planes[layout.places.index(place)] for place in range(len(layout.heights)))}
    if len(files) > 1 and any(plane.enhanced for plane in stack.planes):
        raise DataError(
            f"series {stack.name}: is split over {len(files)} multi-frame files, and an object can refer to one alone: export it as one "
            "multi-frame file or as single slices, or leave DICOM out of --format"
        )
    seen = _instances(stack.planes, layout.places)
    if len(seen) != len(set(seen)):
        raise DataError(f"series {stack.name}: different slices share a SOPInstanceUID; must have their own: export it again")
    return layout


def _instances(planes: Sequence[Plane], places: Sequence[int]) -> list[tuple[str, int]]:
    """Instance and frame of each place; copies, which share a place, count once."""
    return [(planes[places.index(place)].instance, planes[places.index(place)].frame) for place in range(places[-1] + 1)]


def _header(path: Path) -> Any:
    try:
        with open_file(path) as file:
            return pydicom().dcmread(file, stop_before_pixels=True, force=True, specific_tags=[*GEOMETRY, *PATIENT_AND_STUDY])
    except Exception as error:
        raise DataError(f"{path}: its header cannot be read ({reason(error)}); it has changed: export it again") from error
