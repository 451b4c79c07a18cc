"""Makes DICOM segmentations and structure sets with pydicom alone, from arrays over the pixels of a `series.Series`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels import pack_bits

from tests.dicom.series import Series, save

SEGMENTATION, LABEL_MAP = "1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7"
STRUCTURE_SET = "1.2.840.10008.5.1.4.1.1.481.3"
Names = Sequence[str | tuple[str, str]]
"""Of the structures, from number 1; with a SNOMED code where it is a pair."""


def head(series: Series, kind: str, modality: str, number: int) -> Dataset:
    ds = series.head(kind)
    for name in (
        "ImageType",
        "SamplesPerPixel",
        "PhotometricInterpretation",
        "BitsAllocated",
        "BitsStored",
        "HighBit",
        "PixelRepresentation",
    ):
        delattr(ds, name)
    ds.Modality, ds.SeriesInstanceUID, ds.SOPInstanceUID = modality, f"1.2.3.{series.seed}.80.{number}", f"1.2.3.{series.seed}.81.{number}"
    ds.SeriesNumber, ds.ContentDate, ds.ContentTime = 100 + number, "20240101", f"{number:06d}"
    for name in ("PatientID", "StudyInstanceUID", "FrameOfReferenceUID"):
        if name in series.more:
            setattr(ds, name, series.more[name])
    return ds


def item(**values: Any) -> Dataset:
    ds = Dataset()
    for name, value in values.items():
        setattr(ds, name, value)
    return ds


def references(series: Series) -> list[Dataset]:
    instances = [
        item(ReferencedSOPClassUID="1.2.840.10008.5.1.4.1.1.2", ReferencedSOPInstanceUID=f"1.2.3.{series.seed}.1.{n + 1}")
        for n in range(len(series.heights))
    ]
    return [item(SeriesInstanceUID=f"1.2.3.{series.seed}", ReferencedInstanceSequence=instances)]


def segment(number: int, name: str | tuple[str, str]) -> Dataset:
    label, code = name if isinstance(name, tuple) else (name, "85756007")
    coded = item(CodeValue=code, CodingSchemeDesignator="SCT", CodeMeaning=label)
    return item(SegmentNumber=number, SegmentLabel=label, SegmentAlgorithmType="MANUAL", SegmentedPropertyTypeCodeSequence=[coded])


def segmentation(
    series: Series,
    path: Path,
    masks: NDArray[Any],
    names: Names = ("a", "b", "c"),
    kind: str = "BINARY",
    order: NDArray[Any] | None = None,
    frames_of: Series | None = None,
    number: int = 1,
    empty_frames: bool = False,
    **more: Any,
) -> Path:
    """Args:
    masks: (S, K, rows, columns) of the segments, 0 and 1 (or shares); for LABELMAP (1, K, rows, columns) of numbers.
    order: of the frames, a permutation seed; None: segment by segment.
    frames_of: the geometry of the frames, where it is not that of the series.
    """
    grid = frames_of or series
    ds = head(series, LABEL_MAP if kind == "LABELMAP" else SEGMENTATION, "SEG", number)
    ds.Rows, ds.Columns = masks.shape[2:]
    ds.SegmentationType, ds.SegmentSequence = kind, [segment(n, name) for n, name in enumerate(names, 1)]
    ds.ReferencedSeriesSequence = references(series)
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PixelRepresentation = 1, "MONOCHROME2", 0
    bits = 1 if kind == "BINARY" else 8
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = bits, bits, bits - 1
    if kind == "FRACTIONAL":
        ds.MaximumFractionalValue, ds.SegmentationFractionalType = 200, "PROBABILITY"
    wanted = [(s, k) for s in range(len(masks)) for k in range(masks.shape[1]) if empty_frames or masks[s, k].any()]
    if order is not None:
        wanted = [wanted[n] for n in np.random.default_rng(int(order)).permutation(len(wanted))]
    measures = item(PixelSpacing=[repr(x) for x in grid.spacing], SliceThickness="2.5")
    ds.SharedFunctionalGroupsSequence = [
        item(
            PlaneOrientationSequence=[item(ImageOrientationPatient=[grid._text(x) for axis in grid.axes for x in axis])],
            PixelMeasuresSequence=[measures],
        )
    ]
    each = []
    for s, k in wanted:
        groups = item(PlanePositionSequence=[item(ImagePositionPatient=[grid._text(x) for x in grid.positions()[k]])])
        if kind != "LABELMAP":
            groups.SegmentIdentificationSequence = [item(ReferencedSegmentNumber=s + 1)]
        each.append(groups)
    ds.PerFrameFunctionalGroupsSequence, ds.NumberOfFrames = each, len(wanted)
    scale = 200 if kind == "FRACTIONAL" else 1
    stored = np.array([np.rint(masks[s, k] * scale) for s, k in wanted]).astype(np.uint8).reshape(-1, *masks.shape[2:])
    ds.PixelData = pack_bits(stored.ravel()) if kind == "BINARY" else stored.tobytes() + bytes(stored.size % 2)
    for name, value in more.items():
        setattr(ds, name, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    save(ds, path)
    return path


Contour = tuple[str, NDArray[np.float64]]
"""Geometric type, and (N, 3) LPS mm."""


def structure_set(series: Series, path: Path, regions: Sequence[tuple[str, Sequence[Contour]]], number: int = 1, **more: Any) -> Path:
    ds = head(series, STRUCTURE_SET, "RTSTRUCT", number)
    del ds.Rows, ds.Columns, ds.FrameOfReferenceUID
    place = series.more.get("FrameOfReferenceUID", "1.2.3.78")
    ds.StructureSetLabel, ds.StructureSetDate, ds.StructureSetTime = "set", "20240101", f"{number:06d}"
    study = item(RTReferencedSeriesSequence=[item(SeriesInstanceUID=f"1.2.3.{series.seed}")])
    ds.ReferencedFrameOfReferenceSequence = [item(FrameOfReferenceUID=place, RTReferencedStudySequence=[study])]
    ds.StructureSetROISequence = [
        item(ROINumber=n, ReferencedFrameOfReferenceUID=place, ROIName=name) for n, (name, _) in enumerate(regions, 1)
    ]
    ds.ROIContourSequence = [
        item(
            ReferencedROINumber=n,
            ContourSequence=[
                item(
                    ContourGeometricType=kind,
                    NumberOfContourPoints=len(points),
                    ContourData=[f"{value:.6f}" for value in np.asarray(points).ravel()],
                )
                for kind, points in contours
            ],
        )
        for n, (_, contours) in enumerate(regions, 1)
    ]
    ds.RTROIObservationsSequence = [
        item(ObservationNumber=n, ReferencedROINumber=n, RTROIInterpretedType="ORGAN", ROIInterpreter="")
        for n in range(1, len(regions) + 1)
    ]
    for name, value in more.items():
        setattr(ds, name, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    save(ds, path)
    return path


def contour(series: Series, k: int, pixels: Sequence[Sequence[float]], kind: str = "CLOSED_PLANAR", lift: float = 0.0) -> Contour:
    """A contour on slice `k` through (column, row) positions in pixels, `lift` mm above it."""
    row, column = np.array(series.axes)
    at = np.asarray(pixels, dtype=np.float64)
    start = series.positions()[k] + lift * np.cross(row, column)
    return kind, start + at[:, :1] * series.spacing[1] * row + at[:, 1:] * series.spacing[0] * column
