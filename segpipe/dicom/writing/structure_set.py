"""RTSTRUCT (PS3.3 A.19): the outlines of each label in each slice, in mm of the patient."""

from __future__ import annotations

import logging
from typing import Any

from numpy.typing import NDArray

from segpipe import __version__
from segpipe.dicom.identity import series_name
from segpipe.dicom.library import pydicom
from segpipe.dicom.plane import Plane
from segpipe.dicom.terms import UNCODED, Code, SegmentLabel, colour_of
from segpipe.dicom.writing.contour_items import contour_items
from segpipe.dicom.writing.contours import Ring, outlines
from segpipe.dicom.writing.record import MAKER, Record, clock, day, short_text
from segpipe.dicom.writing.remarks import SHORT_TEXT
from segpipe.errors import DataError

log = logging.getLogger(__name__)

_STORAGE = "1.2.840.10008.5.1.4.1.1.481.3"
_STUDY = "1.2.840.10008.3.1.2.3.1"
"""A retired class, which readers of structure sets still look for."""
_MANY = 10_000
_MOST_POINTS = 20_000_000
"""Of 30 bytes each."""
_Outlined = list[tuple[Plane, list[Ring]]]
"""Each slice and the outlines in it."""


def structure_set(record: Record, segments: NDArray[Any]) -> Any:
    """The object. A label that is nowhere has its name and colour, and no contour.

    Args:
        segments: (planes, rows, columns) of segment numbers, see `numbered`.

    Raises:
        DataError: there are more outlines than such a file can be worked with.
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
    ds.StructureSetROISequence = [_region(record, number) for number in _numbers(record)]
    regions = enumerate(zip(record.labels, _outlined(record, segments), strict=True), 1)
    ds.ROIContourSequence = [_contours(number, label, slices) for number, (label, slices) in regions]
    ds.RTROIObservationsSequence = [_observation(number, label) for number, label in enumerate(record.labels, 1)]
    ds.file_meta = pydicom().dataset.FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = pydicom().uid.ImplicitVRLittleEndian  # where VRs are told, a contour ends at 64 KiB (PS3.5 7.1.2)
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


def _outlined(record: Record, segments: NDArray[Any]) -> list[_Outlined]:
    """The outlines of each label, slice by slice.

    Raises:
        DataError: there are more points than such a file can be worked with.
    """
    planes = record.source.planes
    each = [[(plane, outlines(own == number)) for plane, own in zip(planes, segments, strict=True)] for number in _numbers(record)]
    rings = [ring for slices in each for _, found in slices for ring in found]
    points = sum(map(len, rings))
    what = f"its label map has {len(rings)} outlines of {points} points, as noise has"
    if points > _MOST_POINTS:
        raise DataError(f"{what}; must be at most {_MOST_POINTS} points: look at the label map, or leave rtstruct out of --format")
    if len(rings) > _MANY:
        log.warning("%s: %s; programs may take minutes to open the structure set", series_name(record.source.first), what)
    return each


def _numbers(record: Record) -> range:
    """Of the regions, from 1."""
    return range(1, len(record.labels) + 1)


def _contours(number: int, label: SegmentLabel, slices: _Outlined) -> Any:
    item = _item(ROIDisplayColor=list(colour_of(number - 1, label)), ReferencedROINumber=number)
    value = contour_items(slices)
    if value:
        tag = pydicom().tag.Tag("ContourSequence")
        item[tag] = pydicom().dataelem.DataElement(tag, "OB", value)  # bytes, which are written as they are; implicit VR tells no kind
    return item
