"""What a DICOM segmentation or structure set says of itself: which series it was drawn on, of whom, and what it holds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from segpipe.dicom.files import open_file
from segpipe.dicom.header import read_object
from segpipe.dicom.meaning import colour_of_region, colour_of_segment, term_of
from segpipe.dicom.plane import Plane
from segpipe.dicom.said import texts_of
from segpipe.dicom.structures import Structure, check_numbers
from segpipe.errors import DataError

Kind = Literal["segmentation", "structure set"]

_SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
_LABEL_MAP = "1.2.840.10008.5.1.4.1.1.66.7"
_STRUCTURE_SET = "1.2.840.10008.5.1.4.1.1.481.3"
_TYPE, _ROI_TYPE = "SegmentedPropertyTypeCodeSequence", "RTROIIdentificationCodeSequence"
_FEWEST_POINTS = 3
CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")


@dataclass(frozen=True)
class Annotation:
    """Attributes:
    path: file, or member of an archive.
    instance: UID.
    person: [Patient ID].
    study: UID.
    frames_of_reference: UIDs; of a structure set those of its regions, else that of the object.
    series: UIDs of the series that it refers to.
    instances: UIDs of the pictures that it refers to.
    structures: by their number.
    written: date and time of the content, digits that sort.
    fractional: whether its values are shares, of which half and more count.
    """

    path: Path
    kind: Kind
    instance: str
    person: str
    study: str
    frames_of_reference: frozenset[str]
    series: frozenset[str]
    instances: frozenset[str]
    structures: tuple[Structure, ...]
    written: str
    fractional: bool = False


def read_annotation(path: Path) -> Annotation:
    """Headers alone of a segmentation; all of a structure set, which holds nothing else.

    Raises:
        DataError: it cannot be read, is of a kind that is not taken (surfaces, tiles of a slide), or is damaged; without the file's name.
    """
    header, planes = read_object(path)
    kind = str(header.get("SOPClassUID", ""))
    if kind == _STRUCTURE_SET:
        return _of_structure_set(path, header, planes[0])
    if kind not in (_SEGMENTATION, _LABEL_MAP):
        raise DataError(f"is a segmentation of another kind ({header.get('SOPClassUID')}); must be of frames: export it as DICOM-SEG")
    if "TotalPixelMatrixColumns" in header or (planes and not planes[0].enhanced):
        raise DataError(
            "does not say where each of its frames lies (it is tiled, or empty); must be frames with a place: export it as such"
        )
    structures = segments_of(header)
    if not structures:
        raise DataError("holds no segment; must have one at least: export it again")
    check_numbers(structures)
    return Annotation(
        path=path,
        kind="segmentation",
        instance=str(header.get("SOPInstanceUID", "")),
        person=planes[0].person,
        study=planes[0].study,
        frames_of_reference=_some([planes[0].frame_of_reference]),
        series=_all(header, "ReferencedSeriesSequence", "SeriesInstanceUID"),
        instances=_instances(header),
        structures=structures,
        written=_written(header, "Content"),
        fractional=str(header.get("SegmentationType", "")).upper() == "FRACTIONAL",
    )


def are_copies(one: Path, other: Path) -> bool:
    """Whether two files hold the same object: the same bytes, or, written in another way, the same value of every attribute.

    Raises:
        DataError: one cannot be read.
    """
    with open_file(one) as first, open_file(other) as second:
        if first.read() == second.read():
            return True
    return list(texts_of(read_object(one, whole=True)[0])) == list(texts_of(read_object(other, whole=True)[0]))


def segments_of(header: Any) -> tuple[Structure, ...]:
    """The segments; of a label map without the one numbered 0, which is its background (PS3.3 C.8.20.2)."""
    numbers = None if str(header.get("SegmentationType", "")).upper() == "LABELMAP" else {*map(segment_of, frames_of(header))}
    found = []
    for item in header.get("SegmentSequence") or []:
        number = int(item.get("SegmentNumber") or 0)
        if number or numbers is not None:
            drawn = numbers is None or number in numbers
            told = (term_of(item, _TYPE), colour_of_segment(item))
            found.append(Structure(number, _name(item, "SegmentLabel"), _codes(item, _TYPE), drawn, *told))
    return tuple(found)


def frames_of(header: Any) -> Iterable[tuple[Any, Any]]:
    """Of each frame its own functional groups, and those that all share."""
    shared = (header.get("SharedFunctionalGroupsSequence") or [{}])[0]
    return ((own, shared) for own in header.get("PerFrameFunctionalGroupsSequence") or [])


def segment_of(groups: tuple[Any, Any]) -> int | None:
    """[Referenced Segment Number] of a frame; None where it is not told, as in label maps."""
    for item in groups:
        named = item.get("SegmentIdentificationSequence")
        if named and named[0].get("ReferencedSegmentNumber") is not None:
            return int(named[0].ReferencedSegmentNumber)
    return None


def _of_structure_set(path: Path, header: Any, plane: Plane) -> Annotation:
    regions = header.get("StructureSetROISequence") or []
    if not regions:
        raise DataError("holds no region of interest; must have one at least: export it again")
    if "RTROIObservationsSequence" not in header:  # the last sequence that must be there: pydicom takes a file that ends before as whole
        raise DataError("ends before its RT ROI Observations, which must be there; it is cut short: copy or export it again")
    points = {int(item.get("ReferencedROINumber") or 0): _closed(item) for item in header.get("ROIContourSequence") or []}
    seen = {int(item.get("ReferencedROINumber") or 0): item for item in header.RTROIObservationsSequence}
    colours = {int(item.get("ReferencedROINumber") or 0): colour_of_region(item) for item in header.get("ROIContourSequence") or []}
    structures = tuple(
        Structure(
            number=number,
            name=_name(item, "ROIName"),
            codes=_codes(seen.get(number, {}), _ROI_TYPE),
            drawn=points.get(number, False),
            term=term_of(seen.get(number, {}), _ROI_TYPE),
            colour=colours.get(number),
        )
        for item in regions
        for number in [int(item.get("ROINumber") or 0)]
    )
    check_numbers(structures)
    return Annotation(
        path=path,
        kind="structure set",
        instance=str(header.get("SOPInstanceUID", "")),
        person=plane.person,
        study=plane.study,
        frames_of_reference=_some([item.get("ReferencedFrameOfReferenceUID") for item in regions])
        or _some([header.get("FrameOfReferenceUID")]),
        series=_all(header, "RTReferencedSeriesSequence", "SeriesInstanceUID"),
        instances=_all(header, "ContourImageSequence", "ReferencedSOPInstanceUID"),
        structures=structures,
        written=_written(header, "StructureSet"),
    )


def _closed(item: Any) -> bool:
    """Whether a region has a contour that encloses something."""
    contours = item.get("ContourSequence") or []
    return any(
        str(one.get("ContourGeometricType", "")).upper() in CLOSED
        and int(one.get("NumberOfContourPoints") or _FEWEST_POINTS) >= _FEWEST_POINTS
        for one in contours
    )


def _instances(header: Any) -> frozenset[str]:
    found = set(_all(header, "ReferencedInstanceSequence", "ReferencedSOPInstanceUID"))
    for groups in frames_of(header):
        for group in groups:
            for item in group.get("DerivationImageSequence") or []:
                found |= {str(source.get("ReferencedSOPInstanceUID", "")) for source in item.get("SourceImageSequence") or []}
    return _some(found)


def _all(item: Any, sequence: str, name: str) -> frozenset[str]:
    """The attribute `name` of every item of the sequences of that name, however deep they lie."""
    return _some(value for found in _deep(item, sequence) for value in [found.get(name)])


def _deep(item: Any, sequence: str) -> Iterator[Any]:
    for element in item:
        if element.VR != "SQ" or element.keyword in ("PerFrameFunctionalGroupsSequence", "ROIContourSequence"):
            continue
        for one in element.value:
            if element.keyword == sequence:
                yield one
            yield from _deep(one, sequence)


def _some(values: Iterable[Any]) -> frozenset[str]:
    return frozenset(str(value) for value in values if value)


def _codes(item: Any, name: str) -> tuple[str, ...]:
    return tuple(
        f"{code.get('CodingSchemeDesignator', '')}:{code.get('CodeValue') or code.get('LongCodeValue') or ''}"
        for code in item.get(name) or []
    )


def _name(item: Any, name: str) -> str:
    return " ".join(str(item.get(name) or "").split())


def _written(header: Any, what: str) -> str:
    return f"{header.get(f'{what}Date') or '':<8}{header.get(f'{what}Time') or ''}".replace(" ", "0")
