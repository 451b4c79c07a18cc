"""An overview picture as secondary capture (PS3.3 A.8.1), for those whose viewer shows no segmentation."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segpipe import __version__
from segpipe.dicom.library import pydicom
from segpipe.dicom.pixels import read_values
from segpipe.dicom.plane import Plane
from segpipe.dicom.terms import colour_of
from segpipe.dicom.writing.picture import Picture, Tile, sheet
from segpipe.dicom.writing.record import MAKER, Record, clock, day, short_text
from segpipe.dicom.writing.remarks import LONG_TEXT
from segpipe.dicom.writing.seg import reference
from segpipe.dicom.writing.source import Source

_STORAGE = "1.2.840.10008.5.1.4.1.1.7"
_SHOWN, _COLUMNS = 6, 3
_NAME_LONGEST = 24
_MOST_DRAWN = 800
"""Characters of remarks in the picture; all of them stand in its comments."""
_LETTERS = (("R", "L"), ("A", "P"), ("F", "H"))
"""Where each axis of the patient begins and ends, LPS+ (PS3.3 C.7.6.1.1.1)."""


def overview(record: Record, segments: NDArray[Any], volumes_ml: dict[int, float]) -> Any:
    """The object.

    Args:
        segments: (planes, rows, columns) of segment numbers, see `numbered`.
        volumes_ml: by segment number.

    Raises:
        DataError: the pixels of a slice cannot be read.
    """
    chosen = _chosen(segments)
    picture = _picture(record, segments, volumes_ml, chosen)
    ds, words = pydicom().Dataset(), record.series("sc")
    ds.SOPClassUID, ds.SOPInstanceUID = _STORAGE, words["sop_instance_uid"]
    ds.Modality, ds.SeriesInstanceUID, ds.SeriesNumber = "OT", words["series_instance_uid"], words["series_number"]
    ds.SeriesDescription, ds.ConversionType = words["series_description"], "WSD"
    ds.Manufacturer, ds.ManufacturerModelName, ds.SoftwareVersions = MAKER, words["manufacturer_model_name"], __version__
    ds.SecondaryCaptureDeviceManufacturer = MAKER
    ds.ImageType = ["DERIVED", "SECONDARY"]
    ds.InstanceNumber, ds.PatientOrientation, ds.Laterality = 1, "", ""  # of several slices
    ds.ContentDate, ds.ContentTime = day(record.when), clock(record.when)
    ds.BurnedInAnnotation, ds.LossyImageCompression = "NO", "00"
    ds.ImageComments = record.remarks(LONG_TEXT)
    ds.DerivationDescription = f"Slices with the labels of {record.model_name}"
    ds.SourceImageSequence = [reference(record.source.planes[number]) for number in chosen]
    ds.Rows, ds.Columns = picture.shape[:2]
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PlanarConfiguration = 3, "RGB", 0
    ds.BitsAllocated = ds.BitsStored = 8
    ds.HighBit, ds.PixelRepresentation = 7, 0
    data = picture.tobytes()
    ds.PixelData = data + b"\0" * (len(data) % 2)
    return ds


def digest_of_pictures(source: Source, segments: NDArray[Any]) -> str:
    """Hash of the pixels that `overview` shows, and of how they are laid out in the file.

    Args:
        segments: as `overview`.

    Raises:
        DataError: the pixels of a slice cannot be read.
    """
    total = hashlib.sha256()
    for order, values in sorted(dict(read_values([source.planes[number] for number in _chosen(segments)])).items()):
        total.update(f"{order} {values.shape} {values.dtype.str} ".encode())
        total.update(np.ascontiguousarray(values).data)
    return total.hexdigest()


def _chosen(segments: NDArray[Any]) -> list[int]:
    """Up to six planes spread over those that hold a label; over all where none does."""
    found = np.flatnonzero(segments.any(axis=(1, 2)))
    found = found if len(found) else np.arange(len(segments))
    at = np.linspace(0, len(found) - 1, min(_SHOWN, len(found)) + 2)[1:-1] if len(found) > _SHOWN else np.arange(len(found))
    return [int(found[round(float(place))]) for place in at]


def _picture(record: Record, segments: NDArray[Any], volumes_ml: dict[int, float], chosen: list[int]) -> Picture:
    planes = [record.source.planes[number] for number in chosen]
    values = dict(read_values(planes))
    tiles = [
        Tile(
            values[order].astype(np.float64),
            segments[number],
            plane.spacing or (1.0, 1.0),
            ends_of(plane),
            f"slice {number + 1} of {len(segments)}",
        )
        for order, (number, plane) in enumerate(zip(chosen, planes, strict=True))
    ]
    numbered = enumerate(record.labels, 1)
    legend = [
        (f"{_clipped(short_text(label.name))}  {volumes_ml[number]:.4g} ml", colour_of(number - 1, label)) for number, label in numbered
    ]
    found = [entry for number, entry in enumerate(legend, 1) if volumes_ml[number]]
    lines = [f"{record.model_name}, version {record.maker.version}", record.remarks(_MOST_DRAWN)]
    if record.source.blended:
        lines.insert(0, "Volumes count slices that were blended in.")
    if not found:
        lines.insert(0, "No label was found.")
    return sheet(tiles, legend, lines, _COLUMNS)


def _clipped(name: str) -> str:
    return name if len(name) <= _NAME_LONGEST else f"{name[: _NAME_LONGEST - 3]}..."


def ends_of(plane: Plane) -> tuple[str, str, str, str]:
    """To which side of the patient the left, top, right and bottom of a slice lie: the axis that is nearest."""
    orientation = np.array(plane.orientation, dtype=np.float64)
    left, right = _side(-orientation[:3]), _side(orientation[:3])
    top, bottom = _side(-orientation[3:]), _side(orientation[3:])
    return left, top, right, bottom


def _side(direction: NDArray[np.float64]) -> str:
    axis = int(np.abs(direction).argmax())
    return _LETTERS[axis][int(direction[axis] > 0)]
