"""The way in: a label map and a label table -> the files that a PACS takes, as bytes."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segpipe import __version__
from segpipe.dicom.library import pydicom, quiet
from segpipe.dicom.said import texts_of
from segpipe.dicom.terms import SegmentLabel
from segpipe.dicom.writing.overview import digest_of_pictures, overview
from segpipe.dicom.writing.record import Maker, Record, plain_faults
from segpipe.dicom.writing.remarks import LONG_TEXT, remarks
from segpipe.dicom.writing.report import report
from segpipe.dicom.writing.seg import numbered, segmentation
from segpipe.dicom.writing.source import Source
from segpipe.dicom.writing.structure_set import structure_set
from segpipe.dicom.writing.uids import content_key
from segpipe.dicom.writing.wanted import Kind, Wanted
from segpipe.errors import GeometryError

log = logging.getLogger(__name__)

_DATES = ("InstanceCreationDate", "InstanceCreationTime")


def record_of(source: Source, labels: NDArray[Any], table: Sequence[SegmentLabel], wanted: Wanted, maker: Maker, when: datetime) -> Record:
    """What all objects of a scan share; their UIDs follow from content, model and words, and not from `when`.

    The content is everything that is taken over from the series: patient and study, where its slices lie, for the overview their pixels
    too. A patient or a place that was corrected at the source makes other objects, never another content under a UID that a PACS knows.

    Args:
        labels: (I, J, K) of label values, on `source.grid`.
        table: of the labels that the model has, without the background.

    Raises:
        GeometryError: the label map does not lie on the source's grid.
        DataError: pixels are needed (for the overview) and cannot be read.
    """
    if labels.shape != source.grid.shape:
        raise GeometryError(f"the label map has {labels.shape} voxels; must have those of its series, {source.grid.shape}")
    words = [maker.task, maker.sha256, maker.options, wanted.seg_type, wanted.description, str(wanted.number), __version__]
    words += [repr(label) for label in table] + [remarks((), LONG_TEXT), *maker.warnings]
    key = content_key(_origin(source), labels, words)
    picture = digest_of_pictures(source, source.on_planes(numbered(labels, tuple(table)))) if "sc" in wanted.kinds else ""
    return Record(source, tuple(table), wanted, maker, key, when, picture)


def _origin(source: Source) -> Iterator[str]:
    """All that objects take over from a series but its pixels."""
    yield source.first.series
    for plane, slot in zip(source.planes, source.slots, strict=True):
        place = (plane.position, plane.orientation, plane.spacing, plane.thickness)
        yield f"{plane.instance}.{plane.frame} {plane.sop_class} {plane.study} {plane.number} {slot} {place}"
    for ds in (source.patient, *source.headers):
        yield from texts_of(ds)


def write_results(record: Record, labels: NDArray[Any]) -> Iterator[tuple[Kind, bytes]]:
    """Each wanted object as the bytes of its file, in the order of `record.wanted.kinds`.

    Args:
        labels: as `record_of`.

    Raises:
        DataError: a value of the source's header cannot be written, or its pixels (for the overview) not be read.
    """
    numbers = numbered(labels, record.labels)
    counts = np.sum([np.bincount(plane.ravel(), minlength=len(record.labels) + 1) for plane in numbers], axis=0)
    volumes = {number: float(counts[number]) * record.source.grid.voxel_volume_ml for number in range(1, len(record.labels) + 1)}
    segments = record.source.on_planes(numbers)  # (planes, rows, columns)
    made: dict[Kind, Any] = {}
    for kind in record.wanted.kinds:
        with plain_faults("be made"):
            made[kind] = _made(kind, record, segments, volumes, made)
        yield kind, record.finish(made[kind])


def _made(kind: Kind, record: Record, segments: NDArray[Any], volumes: dict[int, float], before: dict[Kind, Any]) -> Any:
    if kind == "dicom-seg":
        return segmentation(record, segments)
    if kind == "rtstruct":
        return structure_set(record, segments)
    if kind == "sr":
        return report(record, before["dicom-seg"], volumes)
    return overview(record, segments, volumes)


def redated(record: Record, kind: Kind, path: Path) -> Record | None:
    """The record with the date of the same object in `path`; None where another one, or none, lies there."""
    try:
        with quiet():
            found = pydicom().dcmread(path, stop_before_pixels=True, specific_tags=["SOPInstanceUID", *_DATES])
            if str(found.get("SOPInstanceUID", "")) != record.instance(kind):
                return None
            when = datetime.strptime("".join(str(found.get(name, "")) for name in _DATES), "%Y%m%d%H%M%S")
    except Exception:  # damaged, or cut short: it is written anew
        log.debug("%s", path, exc_info=True)
        return None
    return replace(record, when=when)
