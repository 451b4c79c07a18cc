"""A DICOM segmentation of a real series from a label map in another file, by the world position of every pixel."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pydicom
from pydicom.pixels import pack_bits

from segpipe.dicom.stack import Stack
from segpipe.geometry.grid import Volume
from tests.dicom.annotations import SEGMENTATION, item, segment
from tests.dicom.series import save


def write_real_segmentation(stack: Stack, labels: Volume, path: Path, names: Sequence[str]) -> None:
    """BINARY, a frame a slice and label value, in the order of the files' names, which is not that of the slices."""
    inverse = np.linalg.inv(labels.grid.affine)
    frames, places = [], []
    for value in range(1, len(names) + 1):
        for file in sorted(stack.paths):
            ds = pydicom.dcmread(file, stop_before_pixels=True)
            row, column = np.array(ds.ImageOrientationPatient[:3], float), np.array(ds.ImageOrientationPatient[3:], float)
            r, c = np.meshgrid(np.arange(ds.Rows), np.arange(ds.Columns), indexing="ij")
            down, across = map(float, ds.PixelSpacing)
            lps = np.array(ds.ImagePositionPatient, float) + r[..., None] * down * column + c[..., None] * across * row
            voxels = np.rint((lps * (-1, -1, 1)) @ inverse[:3, :3].T + inverse[:3, 3]).astype(int)
            frames.append(labels.array[0][tuple(np.moveaxis(voxels, -1, 0))] == value)
            places.append((value, ds.ImagePositionPatient, ds.SOPInstanceUID))
    ds = pydicom.dcmread(stack.paths[0], stop_before_pixels=True)
    made = item(
        **{name: ds.get(name) for name in ("StudyInstanceUID", "FrameOfReferenceUID", "PatientID", "PatientName", "Rows", "Columns")}
    )
    made.SOPClassUID, made.SOPInstanceUID, made.SeriesInstanceUID = (
        SEGMENTATION,
        f"{ds.SeriesInstanceUID}.1"[:64],
        f"{ds.SeriesInstanceUID}.2"[:64],
    )
    made.Modality, made.SegmentationType, made.SegmentSequence = "SEG", "BINARY", [segment(n, name) for n, name in enumerate(names, 1)]
    made.ReferencedSeriesSequence = [item(SeriesInstanceUID=ds.SeriesInstanceUID)]
    made.SamplesPerPixel, made.PhotometricInterpretation, made.PixelRepresentation = 1, "MONOCHROME2", 0
    made.BitsAllocated, made.BitsStored, made.HighBit, made.NumberOfFrames = 1, 1, 0, len(frames)
    orientation = item(ImageOrientationPatient=ds.ImageOrientationPatient)
    measures = item(PixelSpacing=ds.PixelSpacing, SliceThickness=ds.SliceThickness)
    made.SharedFunctionalGroupsSequence = [item(PlaneOrientationSequence=[orientation], PixelMeasuresSequence=[measures])]
    made.PerFrameFunctionalGroupsSequence = [
        item(
            PlanePositionSequence=[item(ImagePositionPatient=position)],
            SegmentIdentificationSequence=[item(ReferencedSegmentNumber=value)],
        )
        for value, position, _ in places
    ]
    made.PixelData = pack_bits(np.array(frames).astype(np.uint8).ravel())
    save(made, path)
