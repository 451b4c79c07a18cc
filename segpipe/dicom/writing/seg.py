"""DICOM-SEG (PS3.3 A.51): a frame for each slice that holds something of a label, on the series' own planes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from segpipe.dicom.library import pydicom, quiet
from segpipe.dicom.plane import Plane
from segpipe.dicom.terms import UNCODED, SegmentLabel, colour_of
from segpipe.dicom.writing.highdicom_library import coded, highdicom
from segpipe.dicom.writing.patient import adopt, only
from segpipe.dicom.writing.record import MAKER, Record, short_text
from segpipe.dicom.writing.remarks import LONG_TEXT, SHORT_TEXT, headline
from segpipe.dicom.writing.source import GEOMETRY, Source

_RLE = "1.2.840.10008.1.2.5"
_NATIVE = "1.2.840.10008.1.2.1"

_FEW = 256
_SAME_PLACE_MM = 1e-3


def numbered(labels: NDArray[Any], table: tuple[SegmentLabel, ...]) -> NDArray[Any]:
    """Label values -> segment numbers from 1 in the order of the table; all other values become 0. The smallest type."""
    values = np.array([label.value for label in table])
    order = np.argsort(values, kind="stable")
    result = np.empty(labels.shape, dtype=np.uint8 if len(table) < _FEW else np.uint16)
    for plane, there in zip(labels, result, strict=True):  # so that a large volume needs no copy in a wider type
        at = np.searchsorted(values[order], plane).clip(max=len(values) - 1)
        there[...] = np.where(values[order][at] == plane, order[at] + 1, 0)
    return result


def segmentation(record: Record, segments: NDArray[Any]) -> Any:
    """The object.

    A label map without any label has no frame, and the standard wants one: then the first slice is written, without any label
    in it, for each segment.

    Args:
        segments: (planes, rows, columns) of segment numbers, see `numbered`.
    """
    library, source = highdicom(), record.source
    labelmap = record.wanted.seg_type == "labelmap"
    planes = list(source.planes)
    if not segments.any():
        planes, segments = planes[:1], segments[:1]
    thickness = source.first.thickness or source.spacing_mm or 0.0
    with quiet():
        ds = library.seg.Segmentation(
            source_images=[lean(header) for header in source.headers],
            pixel_array=segments,
            segmentation_type="LABELMAP" if labelmap else "BINARY",
            segment_descriptions=[_described(record, number, label) for number, label in enumerate(record.labels, 1)],
            transfer_syntax_uid=_NATIVE,
            pixel_measures=library.PixelMeasuresSequence(source.first.spacing, thickness, source.spacing_mm),
            plane_orientation=library.PlaneOrientationSequence("PATIENT", source.first.orientation),
            plane_positions=[library.PlanePositionSequence("PATIENT", plane.position) for plane in planes],
            content_label="SEGMENTATION",
            content_description=short_text(f"{headline(record.maker.warnings)}; {record.model_name}"),
            content_creator_name=f"{MAKER}^",
            **record.series("dicom-seg"),
        )
    ds.DimensionOrganizationSequence[0].DimensionOrganizationUID = record.uid("dicom-seg", "dimensions")
    for item in ds.DimensionIndexSequence:
        item.DimensionOrganizationUID = record.uid("dicom-seg", "dimensions")
    ds.ImageComments = record.remarks(LONG_TEXT)
    _refer(ds, source)
    if labelmap:
        ds.compress(_RLE, encoding_plugin="pydicom", generate_instance_uid=False)  # GDCM's encoder ends the process on small frames
    return ds


def lean(header: Any) -> Any:
    """A header as highdicom wants it, the patient left empty: `Record.finish` adds who it is."""
    found = pydicom().Dataset()
    adopt(found, found)
    found.update(only(header, GEOMETRY))
    return found


def _described(record: Record, number: int, label: SegmentLabel) -> Any:
    library = highdicom()
    term = label.term or UNCODED
    name = short_text(label.name) or f"label {label.value}"
    item = library.seg.SegmentDescription(
        segment_number=number,
        segment_label=name,
        segmented_property_category=coded(term.category),
        segmented_property_type=coded(term.type),
        algorithm_type="AUTOMATIC",
        algorithm_identification=algorithm(record),
        tracking_uid=record.uid("segment", str(number)),
        tracking_id=name,
        display_color=library.color.CIELabColor.from_rgb(*colour_of(number - 1, label)),
    )
    if term.modifier is not None:
        modifier = library.sr.CodedConcept.from_code(coded(term.modifier))
        item.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = [modifier]
    item.SegmentAlgorithmName = record.model_name
    item.SegmentDescription = record.remarks(SHORT_TEXT)
    return item


def algorithm(record: Record) -> Any:
    """Which model, of which version: its hash."""
    from pydicom.sr.codedict import codes

    return highdicom().AlgorithmIdentificationSequence(
        name=record.model_name,
        family=codes.DCM.ArtificialIntelligence,
        version=record.maker.version,
        source=MAKER,
    )


def _refer(ds: Any, source: Source) -> None:
    """Each frame refers to the very slice that it lies on, found by its place."""
    places = np.array([plane.position for plane in source.planes], dtype=np.float64)
    for groups in ds.PerFrameFunctionalGroupsSequence:
        position = np.array(groups.PlanePositionSequence[0].ImagePositionPatient, dtype=np.float64)
        apart = np.linalg.norm(places - position, axis=1)
        at = int(apart.argmin())
        if apart[at] > _SAME_PLACE_MM:
            raise ValueError("a frame lies on no slice")
        groups.DerivationImageSequence = [_derived_from(source.planes[at])]


def _derived_from(plane: Plane) -> Any:
    from pydicom.sr.codedict import codes

    concept = highdicom().sr.CodedConcept.from_code
    image = reference(plane)
    image.PurposeOfReferenceCodeSequence = [concept(codes.DCM.SourceImageForImageProcessingOperation)]
    image.SpatialLocationsPreserved = "YES"
    item = pydicom().Dataset()
    item.SourceImageSequence = [image]
    item.DerivationCodeSequence = [concept(codes.DCM.Segmentation)]
    return item


def reference(plane: Plane) -> Any:
    """A slice, and its frame where the file holds several (PS3.3 table 10-3)."""
    item = pydicom().Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = plane.sop_class, plane.instance
    if plane.enhanced:
        item.ReferencedFrameNumber = plane.frame + 1
    return item
