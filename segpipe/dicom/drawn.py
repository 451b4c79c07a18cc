"""The label map of a stack, from the segmentations or structure sets that were drawn on it."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from segpipe.dicom.annotation import Annotation, Kind, read_annotation
from segpipe.dicom.canvas import Canvas
from segpipe.dicom.contours import paint_contours
from segpipe.dicom.header import reason
from segpipe.dicom.layout import spread
from segpipe.dicom.library import quiet
from segpipe.dicom.places import Places, places_of
from segpipe.dicom.segmentation import paint_segments
from segpipe.dicom.stack import Stack
from segpipe.dicom.straighten import labels_evenly, labels_upright
from segpipe.dicom.structures import Choice, missing_of, shown, values_of
from segpipe.dicom.volume import Scan
from segpipe.errors import DataError, SegpipeError

log = logging.getLogger(__name__)

Overlap = Literal["refuse", "later-wins"]
OffGrid = Literal["refuse", "nearest"]
Missing = Literal["refuse", "background"]
_Paint = Callable[[Path, Mapping[int, int], Places, Canvas, str], list[str]]
_PAINT: dict[Kind, _Paint] = {"segmentation": paint_segments, "structure set": paint_contours}
_SHOWN = 3


@dataclass(frozen=True)
class Drawn:
    """What label map is wanted, as a plain value.

    Attributes:
        paths: segmentations and structure sets, each of one stack.
        choices: which structures are which label.
        overlap: of two labels at one voxel. refuse; later-wins: the later one in the order of `choices`.
        off_grid: of what does not lie on the stack's slices. refuse; nearest.
        missing: of a label that a case has no structure for. refuse; background.
    """

    paths: tuple[Path, ...]
    choices: tuple[Choice, ...]
    overlap: Overlap = "refuse"
    off_grid: OffGrid = "refuse"
    missing: Missing = "refuse"


@dataclass(frozen=True, eq=False)
class Labels:
    """A label map, twice where the scan was repaired.

    Attributes:
        scan: (I, J, K) on the grid of the volume that was read.
        slices: (I, J, K) on the grid of the slices as they were taken, `Scan.grid`.
        notes: what a user must know, one phrase each.
    """

    scan: NDArray[Any]
    slices: NDArray[Any]
    notes: tuple[str, ...]


def read_drawn(drawn: Drawn, stack: Stack, scan: Scan) -> Labels:
    """The label map of a stack.

    Args:
        scan: what was read of the stack.

    Raises:
        DataError, GeometryError: a file is damaged, of another patient or place, lacks a label, or structures overlap; with its name.
    """
    places = places_of(stack)
    canvas = Canvas(places.shape, len(drawn.choices))
    notes: list[str] = []
    annotations: list[Annotation] = []
    for path in drawn.paths:
        with quiet(), _named(path):
            annotation = read_annotation(path)
            check_belongs(annotation, stack)
            values = values_of(annotation.structures, drawn.choices)
            notes += _PAINT[annotation.kind](path, values, places, canvas, drawn.off_grid)
            annotations.append(annotation)
    with _named(drawn.paths[0]):
        _check_once(drawn, annotations)
        notes += [*_missing(drawn, annotations), *_overlaps(drawn, canvas)]
    if canvas.outside:
        notes.append(f"{canvas.outside} labelled voxel(s) lie beyond the series: left out")
    return Labels(*_laid(canvas.array, stack, scan), tuple(notes))


def check_belongs(annotation: Annotation, stack: Stack) -> None:
    """Refuse what was drawn on another patient or in another frame of reference.

    Raises:
        DataError: it was; without the file's name.
    """
    first = stack.first
    if annotation.person != first.person:
        raise DataError(
            f"has another PatientID than the series {stack.name}; must be of the same patient: find the right series, or correct the header"
        )
    if annotation.frames_of_reference and annotation.frames_of_reference != {first.frame_of_reference}:
        raise DataError(
            f"has another FrameOfReferenceUID than the series {stack.name}, so that its positions do not count there; must be the same: "
            "export it on this series, or correct the header"
        )


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """Put the file before what is wrong with it; over damaged bytes almost anything may be raised."""
    try:
        yield
    except SegpipeError as error:
        raise type(error)(f"{path}: {error}") from error
    except Exception as error:
        log.debug("%s", path, exc_info=True)
        raise DataError(f"{path}: cannot be used ({reason(error)}); must be a whole DICOM file: copy or export it again") from error


def _check_once(drawn: Drawn, annotations: list[Annotation]) -> None:
    """Refuse a structure that two files of a case have, unless a pattern takes several.

    Raises:
        DataError: there is one.
    """
    for choice in drawn.choices if len(annotations) > 1 else ():
        both = [one for one in annotations if choice.of(one.structures)]
        if len(both) > 1 and choice.plain:
            raise DataError(
                f"has {choice.which!r} for the label {choice.name!r}, and so has {both[-1].path}; must be in one of them: take one out, "
                "or take all with a pattern in dataset.dicom.labels"
            )


def _missing(drawn: Drawn, annotations: list[Annotation]) -> list[str]:
    """Notes of labels that the case lacks.

    Raises:
        DataError: it lacks one, and that is refused.
    """
    lacking = [why for _, why in missing_in(annotations, drawn.choices)]
    if lacking and drawn.missing == "refuse":
        raise DataError(
            f"{lacking[0]}; must have one: correct dataset.dicom.labels, or take what is not there as background "
            "(dataset.dicom.missing=background)"
        )
    return [f"{why}: it is background" for why in lacking]


def missing_in(annotations: list[Annotation], choices: tuple[Choice, ...]) -> list[tuple[Choice, str]]:
    """The labels that no file of a case has, and why.

    Raises:
        DataError: see `Choice.of`.
    """
    each = [dict(missing_of(one.structures, choices)) for one in annotations]
    found = []
    for choice in choices:
        if all(choice in one for one in each):
            everything = tuple(structure for one in annotations for structure in one.structures)
            plural = each[0][choice] if len(each) == 1 else f"holds nothing for the label {choice.name!r}; there are {shown(everything)}"
            found.append((choice, plural))
    return found


def _overlaps(drawn: Drawn, canvas: Canvas) -> list[str]:
    """Notes of labels that have voxels in common.

    Raises:
        DataError: there are such, and that is refused.
    """
    names = {choice.value: choice.name for choice in drawn.choices}
    pairs = [
        f"{names[one]!r} and {names[other]!r} have {count} voxel(s) in common" for (one, other), count in canvas.overlaps.most_common()
    ]
    if not pairs:
        return []
    if drawn.overlap == "refuse":
        more = f" ({len(pairs) - _SHOWN} more such pairs)" if len(pairs) > _SHOWN else ""
        raise DataError(
            f"{', '.join(pairs[:_SHOWN])}{more}; a voxel must have one label: let the later one in dataset.dicom.labels have it "
            "(dataset.dicom.overlap=later-wins; dataset.regions may join them again)"
        )
    return [f"{pair}: the later one has them" for pair in pairs]


def _laid(array: NDArray[Any], stack: Stack, scan: Scan) -> tuple[NDArray[Any], NDArray[Any]]:
    """The label map (I, J, P) of the places on the volume's grid, and on that of the slices."""
    layout = stack.layout
    if layout is None:
        raise DataError(f"series {stack.name}: {stack.problem}")
    if scan.lean is not None:
        return labels_upright(array, scan.lean), array
    if scan.grid.shape[2] != array.shape[2] or layout.kind == "variable":
        _, at = spread(stack.planes, layout)
        array = labels_evenly(array, np.array(layout.heights), at)
    return array, array
