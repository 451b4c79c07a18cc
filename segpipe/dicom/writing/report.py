"""A structured report of volumes (PS3.16, TID 1500): one group of measurements a label, which refers to its segment, in ml."""

from __future__ import annotations

from typing import Any

from segpipe.dicom.library import quiet
from segpipe.dicom.terms import UNCODED, Code
from segpipe.dicom.writing.highdicom_library import coded, highdicom
from segpipe.dicom.writing.record import MAKER, Record, short_text
from segpipe.dicom.writing.remarks import NOT_FOR_DIAGNOSIS
from segpipe.dicom.writing.seg import lean
from segpipe.dicom.writing.uids import uid_of

_NATIVE = "1.2.840.10008.1.2.1"
_ML = Code("ml", "UCUM", "ml")
_EVALUATIONS = Code("C0034375", "UMLS", "Qualitative Evaluations")
_SIDES = ("7771000", "24028007", "51440002")
"""Left, right, bilateral in SNOMED CT (PS3.16, CID 244)."""
_DIGITS = 7
"""A volume is a count of voxels: its digits beyond these are rounding of the spacing."""


def report(record: Record, segmentation: Any, volumes_ml: dict[int, float]) -> Any:
    """The object.

    A volume is that of the label map, which fills gaps between slices: what lies in a gap belongs to the organ. The report says so, as a
    parameter of the algorithm, where a viewer that adds up the segmentation's own slices would find another one.

    Args:
        segmentation: what the report refers to.
        volumes_ml: by segment number.
    """
    sr = highdicom().sr
    from pydicom.sr.codedict import codes

    observer = sr.ObserverContext(
        observer_type=codes.DCM.Device,
        observer_identifying_attributes=sr.DeviceObserverIdentifyingAttributes(
            uid=uid_of(MAKER, record.maker.sha256), name=record.model_name, manufacturer_name=MAKER, model_name=record.model_name
        ),
    )
    with quiet():
        content = sr.MeasurementReport(
            observation_context=sr.ObservationContext(observer_device_context=observer),
            procedure_reported=codes.SCT.ImagingProcedure,
            imaging_measurements=[_volume(record, segmentation, number, ml) for number, ml in volumes_ml.items()],
            title=codes.DCM.ImagingMeasurementReport,
        )
        content[0].ContentSequence.append(_remarks(record))
        return sr.EnhancedSR(
            evidence=[lean(segmentation), *(lean(header) for header in record.source.headers)],
            content=content[0],
            is_complete=True,
            is_final=False,
            transfer_syntax_uid=_NATIVE,
            **record.series("sr"),
        )


def _remarks(record: Record) -> Any:
    """That it is no diagnosis, and each warning, as comments among the qualitative evaluations (TID 1500, rows 12 and 14)."""
    sr = highdicom().sr
    from pydicom.sr.codedict import codes

    contains = sr.RelationshipTypeValues.CONTAINS
    container = sr.ContainerContentItem(name=coded(_EVALUATIONS), relationship_type=contains)
    container.ContentSequence = sr.ContentSequence(
        [
            sr.TextContentItem(name=codes.DCM.Comment, value=text, relationship_type=contains)
            for text in (NOT_FOR_DIAGNOSIS, *record.maker.warnings)
        ]
    )
    return container


def _volume(record: Record, segmentation: Any, number: int, ml: float) -> Any:
    from pydicom.sr.codedict import codes

    sr, label, source = highdicom().sr, record.labels[number - 1], record.source
    term = label.term or UNCODED
    sites = None if term.modifier is None else [_site(term.type, term.modifier)]
    how = [source.blended] if source.blended else None
    algorithm = sr.AlgorithmIdentification(name=record.model_name, version=record.maker.version, parameters=how)
    measured = sr.Measurement(name=codes.SCT.Volume, value=float(f"{ml:.{_DIGITS}g}"), unit=coded(_ML), algorithm_id=algorithm)
    return sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(uid=record.uid("segment", str(number)), identifier=short_text(label.name)),
        referenced_segment=sr.ReferencedSegment(
            sop_class_uid=segmentation.SOPClassUID,
            sop_instance_uid=segmentation.SOPInstanceUID,
            segment_number=number,
            source_series=sr.SourceSeriesForSegmentation(source.first.series),
        ),
        finding_category=coded(term.category),
        finding_type=coded(term.type),
        finding_sites=sites,
        measurements=[measured],
    )


def _site(type_: Code, modifier: Code) -> Any:
    """Which part, or which side, of what."""
    side = modifier.value in _SIDES
    words = {"laterality": coded(modifier)} if side else {"topographical_modifier": coded(modifier)}
    return highdicom().sr.FindingSite(anatomic_location=coded(type_), **words)
