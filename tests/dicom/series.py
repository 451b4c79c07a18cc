"""Makes DICOM series whose every pixel knows where it lies: its stored value is its number, and its place is worked out here from the
definition of Image Position and Image Orientation (PS3.3 C.7.6.2.1.1), a pixel at a time, without any code of the package."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

CT, MR, PET = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.128"
ENHANCED_CT, ENHANCED_MR = "1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.4.1"
CLASSES = {"CT": CT, "MR": MR, "PT": PET}


def signed_axes() -> list[tuple[tuple[float, ...], tuple[float, ...]]]:
    """The 24 pairs of directions along a row and along a column that axes of the patient make."""
    units = [tuple(sign * float(n == axis) for n in range(3)) for axis in range(3) for sign in (1.0, -1.0)]
    return [(row, column) for row, column in itertools.product(units, units) if abs(np.dot(row, column)) < 0.5]


def turned(*degrees: float) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Row and column of an axial slice after turns about x, y and z."""
    matrix = np.eye(3)
    for axis, angle in enumerate(np.radians(degrees)):
        c, s = np.cos(angle), np.sin(angle)
        a, b = [n for n in range(3) if n != axis]
        turn = np.eye(3)
        turn[a, a], turn[a, b], turn[b, a], turn[b, b] = c, -s, s, c
        matrix = turn @ matrix
    return tuple(matrix[:, 0]), tuple(matrix[:, 1])


@dataclass
class Made:
    """A series on disk.

    Attributes:
        paths: one a slice, in the order of `heights`.
        world: (K, rows, columns, 3) RAS+ mm of each pixel.
        stored: (K, rows, columns).
    """

    paths: list[Path]
    world: NDArray[np.float64]
    stored: NDArray[Any]


@dataclass
class Series:
    """What to make.

    Attributes:
        axes: directions along a row and along a column, LPS.
        heights: of the slices along the normal, mm.
        spacing: from row to row, and from column to column, mm.
        tilt: degrees by which the stack leans along a column; `lean`: along a row.
        more: further attributes of all slices; `each` of one, by its number.
        digits: after the point, of positions and directions.
    """

    axes: tuple[Sequence[float], Sequence[float]] = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))
    heights: Sequence[float] = tuple(2.5 * n for n in range(8))
    spacing: tuple[float, float] = (0.8, 0.7)
    size: tuple[int, int] = (7, 9)
    origin: Sequence[float] = (-31.7, 12.3, -88.1)
    tilt: float = 0.0
    lean: float = 0.0
    modality: str = "CT"
    seed: int = 0
    number: int = 3
    more: dict[str, Any] = field(default_factory=dict)
    each: Callable[[int], dict[str, Any]] = lambda _: {}
    stored: NDArray[Any] | None = None
    reversed_numbers: bool = False
    preamble: bool = True
    digits: int = 9
    without: Sequence[str] = ()
    names: Callable[[int], str] = lambda n: f"IM{n:04d}"

    def positions(self) -> NDArray[np.float64]:
        """(K, 3) LPS mm of the first pixel of each slice."""
        row, column = np.array(self.axes)
        normal = np.cross(row, column)
        heights = np.array(self.heights, dtype=np.float64)[:, None]
        sideways = np.tan(np.radians(self.tilt)) * column + np.tan(np.radians(self.lean)) * row
        return np.array(self.origin) + heights * (normal + sideways)

    def values(self) -> NDArray[Any]:
        """(K, rows, columns), each its own."""
        if self.stored is not None:
            return self.stored
        return np.arange(len(self.heights) * self.size[0] * self.size[1], dtype=np.uint16).reshape(-1, *self.size)

    def world(self) -> NDArray[np.float64]:
        """(K, rows, columns, 3) RAS+ mm."""
        row, column = np.array(self.axes)
        r, c = np.meshgrid(np.arange(self.size[0]), np.arange(self.size[1]), indexing="ij")
        plane = r[..., None] * self.spacing[0] * column + c[..., None] * self.spacing[1] * row
        return (self.positions()[:, None, None] + plane) * (-1, -1, 1)

    def write(self, folder: Path) -> Made:
        """One file a slice."""
        folder.mkdir(parents=True, exist_ok=True)
        paths, stored = [], self.values()
        for n, position in enumerate(self.positions()):
            ds = self._slice(n, position)
            ds.PixelData = stored[n].astype("<u2" if stored.dtype.kind == "u" else "<i2").tobytes()
            path = folder / self.names(n)
            save(ds, path, self.preamble)
            paths.append(path)
        return Made(paths, self.world(), stored)

    def _slice(self, n: int, position: NDArray[np.float64]) -> Dataset:
        ds = self.head(CLASSES[self.modality])
        ds.SOPInstanceUID = f"1.2.3.{self.seed}.1.{n + 1}"
        ds.InstanceNumber = len(self.heights) - n if self.reversed_numbers else n + 1
        ds.ImagePositionPatient = [self._text(x) for x in position]
        ds.ImageOrientationPatient = [self._text(x) for axis in self.axes for x in axis]
        ds.PixelSpacing = [repr(x) for x in self.spacing]
        ds.SliceThickness = "2.5"
        for name, value in {**self.more, **self.each(n)}.items():
            setattr(ds, name, value)
        for name in self.without:
            del ds[name]
        return ds

    def head(self, kind: str) -> Dataset:
        """What one-frame and multi-frame objects share."""
        ds = Dataset()
        ds.SOPClassUID, ds.Modality, ds.ImageType = kind, self.modality, ["ORIGINAL", "PRIMARY", "AXIAL"]
        ds.StudyInstanceUID, ds.SeriesInstanceUID = "1.2.3.77", f"1.2.3.{self.seed}"
        ds.FrameOfReferenceUID, ds.SeriesNumber, ds.PatientName = "1.2.3.78", self.number, "Secret^Name"
        ds.SeriesDescription, ds.PatientID = "of Mr Secret", "SECRET7"
        ds.Rows, ds.Columns = self.size
        ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
        ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, 16, 15
        ds.PixelRepresentation = int(self.values().dtype.kind == "i")
        return ds

    def _text(self, value: float) -> str:
        return f"{value:.{self.digits}f}"[:16]


def enhanced(series: Series, path: Path, shared_orientation: bool = True, each: Callable[[int], Dataset] | None = None) -> Made:
    """The same as one multi-frame object; frames in the order of `heights`.

    Args:
        each: further functional groups of a frame, as a data set that holds their sequences.
    """
    ds = series.head(ENHANCED_MR if series.modality == "MR" else ENHANCED_CT)
    ds.SOPInstanceUID, ds.NumberOfFrames = f"1.2.3.{series.seed}.9", len(series.heights)
    orientation, measures, shared = Dataset(), Dataset(), Dataset()
    orientation.ImageOrientationPatient = [series._text(x) for axis in series.axes for x in axis]
    measures.PixelSpacing, measures.SliceThickness = [repr(x) for x in series.spacing], "2.5"
    shared.PixelMeasuresSequence = [measures]
    if shared_orientation:
        shared.PlaneOrientationSequence = [orientation]
    frames = []
    for n, position in enumerate(series.positions()):
        place, frame = Dataset(), each(n) if each else Dataset()
        place.ImagePositionPatient = [series._text(x) for x in position]
        frame.PlanePositionSequence = [place]
        if not shared_orientation:
            frame.PlaneOrientationSequence = [orientation]
        frames.append(frame)
    ds.SharedFunctionalGroupsSequence, ds.PerFrameFunctionalGroupsSequence = [shared], frames
    for name, value in series.more.items():
        setattr(ds, name, value)
    stored = series.values()
    ds.PixelData = stored.astype("<u2").tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    save(ds, path)
    return Made([path], series.world(), stored)


def save(ds: Dataset, path: Path, preamble: bool = True, syntax: str = ExplicitVRLittleEndian) -> None:
    """Write a file, with the preamble of PS3.10 or as some scanners export it, the data set alone."""
    if not preamble:
        pydicom.dcmwrite(path, ds, implicit_vr=True, little_endian=True, enforce_file_format=False)
        return
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = ds.SOPClassUID, ds.SOPInstanceUID
    meta.TransferSyntaxUID = syntax
    pydicom.dcmwrite(path, FileDataset(str(path), ds, file_meta=meta, preamble=bytes(128)), enforce_file_format=True)


def furthest_mm(array: NDArray[Any], grid: Any, made: Made) -> float:
    """How far the voxel that lies farthest from its pixel's place lies from it; every voxel is looked at.

    Args:
        array: (1, I, J, K) of stored values.
    """
    number = {int(value): place for value, place in zip(made.stored.ravel(), made.world.reshape(-1, 3), strict=True)}
    index = np.stack(np.meshgrid(*(np.arange(n) for n in array.shape[1:]), indexing="ij"), axis=-1)
    places = np.array([number[int(value)] for value in array[0].ravel()])
    return float(np.linalg.norm(grid.world(index.reshape(-1, 3)) - places, axis=1).max())
