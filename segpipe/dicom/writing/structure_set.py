"""RTSTRUCT (PS3.3 A.19): the outlines of each label in each slice, in mm of the patient."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from segpipe import __version__
from segpipe.dicom.library import pydicom
from segpipe.dicom.plane import Plane
from segpipe.dicom.terms import UNCODED, Code, SegmentLabel, colour_of
from segpipe.dicom.writing.contours import Ring, outlines
from segpipe.dicom.writing.record import MAKER, Record, clock, day, short_text
from segpipe.dicom.writing.remarks import SHORT_TEXT
from segpipe.dicom.writing.seg import reference

_STORAGE = "1.2.840.10008.5.1.4.1.1.481.3"
_STUDY = "1.2.840.10008.3.1.2.3.1"
"""A retired class, which readers of structure sets still look for."""
_CLOSED = "CLOSED_PLANAR"


def structure_set(record: Record, segments: NDArray[Any]) -> Any:
    """The object. A label that is nowhere has its name and colour, and no contour.

    Args:
        segments: (planes, rows, columns) of segment numbers, see `numbered`.
    """
    ds, words = pydicom().Dataset(), record.series("rtstruct")
    ds.SOPClassUID, ds.SOPInstanceUID = _STORAGE, words["sop_instance_uid"]
    ds.Modality, ds.SeriesInstanceUID, ds.SeriesNumber = "RTSTRUCT", words["series_instance_uid"], words["series_number"]
    ds.SeriesDescription, ds.OperatorsName = words["series_description"], ""
    ds.Manufacturer, ds.ManufacturerModelName, ds.SoftwareVersions = MAKER, words["manufacturer_model_name"], __version__
    ds.DeviceSerialNumber = words["device_serial_number"]
    ds.InstanceNumber = 1
    ds.StructureSetLabel, ds.StructureSetName = "SEGMENTATION", record.model_name
    ds.StructureSetDescription = record.remarks(SHORT_TEXT)
    ds.StructureSetDate, ds.StructureSetTime = day(record.when), clock(record.when)
    ds.ApprovalStatus = "UNAPPROVED"
    ds.FrameOfReferenceUID, ds.PositionReferenceIndicator = record.source.first.frame_of_reference, ""
    ds.ReferencedFrameOfReferenceSequence = [_frame_of_reference(record)]
    numbers = range(1, len(record.labels) + 1)
    ds.StructureSetROISequence = [_region(record, number) for number in numbers]
    ds.ROIContourSequence = [_contours(record, number, segments == number) for number in numbers]
    ds.RTROIObservationsSequence = [_observation(number, label) for number, label in enumerate(record.labels, 1)]
    return ds


def _item(**values: Any) -> Any:
    item = pydicom().Dataset()
    for name, value in values.items():
        setattr(item, name, value)
    return item


def _frame_of_reference(record: Record) -> Any:
    first = record.source.first
    planes = {plane.instance: plane for plane in record.source.planes}.values()  # a file of several frames once
    images = [_item(ReferencedSOPClassUID=plane.sop_class, ReferencedSOPInstanceUID=plane.instance) for plane in planes]
    series = _item(SeriesInstanceUID=first.series, ContourImageSequence=images)
    study = _item(ReferencedSOPClassUID=_STUDY, ReferencedSOPInstanceUID=first.study, RTReferencedSeriesSequence=[series])
    return _item(FrameOfReferenceUID=first.frame_of_reference, RTReferencedStudySequence=[study])


def _region(record: Record, number: int) -> Any:
    label = record.labels[number - 1]
    return _item(
        ROINumber=number,
        ReferencedFrameOfReferenceUID=record.source.first.frame_of_reference,
        ROIName=short_text(label.name) or f"label {label.value}",
        ROIDescription=record.remarks(SHORT_TEXT),
        ROIGenerationAlgorithm="AUTOMATIC",
        ROIGenerationDescription=record.model_name,
    )


def _observation(number: int, label: SegmentLabel) -> Any:
    term = label.term or UNCODED
    identification = _coded(term.type)
    if term.modifier is not None:
        identification.SegmentedPropertyTypeModifierCodeSequence = [_coded(term.modifier)]
    item = _item(ObservationNumber=number, ReferencedROINumber=number, RTROIInterpretedType="", ROIInterpreter="")
    item.RTROIIdentificationCodeSequence = [identification]
    return item


def _coded(code: Code) -> Any:
    return _item(CodeValue=code.value, CodingSchemeDesignator=code.scheme, CodeMeaning=code.meaning)


def _contours(record: Record, number: int, mask: NDArray[np.bool_]) -> Any:
    item = _item(ROIDisplayColor=list(colour_of(number - 1, record.labels[number - 1])), ReferencedROINumber=number)
    rings = [(plane, ring) for plane, own in zip(record.source.planes, mask, strict=True) for ring in outlines(own)]
    if rings:
        item.ContourSequence = [_contour(order, plane, ring) for order, (plane, ring) in enumerate(rings, 1)]
    return item


def _contour(number: int, plane: Plane, ring: Ring) -> Any:
    return _item(
        ContourImageSequence=[reference(plane)],
        ContourGeometricType=_CLOSED,
        NumberOfContourPoints=len(ring),
        ContourNumber=number,
        ContourData=[f"{value:.4f}" for value in in_patient(plane, ring).ravel()],
    )


def in_patient(plane: Plane, ring: Ring) -> NDArray[np.float64]:
    """(N, 3) mm, LPS+, of points of a slice (PS3.3 equation C.7.6.2.1-1)."""
    orientation, spacing = np.array(plane.orientation, dtype=np.float64), np.array(plane.spacing, dtype=np.float64)
    along_row, along_column = orientation[:3] * spacing[1], orientation[3:] * spacing[0]
    place: NDArray[np.float64] = np.array(plane.position) + ring[:, :1] * along_row + ring[:, 1:] * along_column
    return place
