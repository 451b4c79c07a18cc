"""Which series a segmentation or structure set was drawn on, and which series of the study are the channels beside it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from segpipe.dicom.annotation import Annotation
from segpipe.dicom.channels import Wanted, channels_of
from segpipe.dicom.drawn import check_belongs
from segpipe.dicom.policy import Policy
from segpipe.dicom.stack import Stack
from segpipe.dicom.verdict import judge
from segpipe.errors import DataError


@dataclass(frozen=True, eq=False)
class Pair:
    """Attributes:
    annotation: what was drawn.
    channels: on what, the series that it refers to among them.
    """

    annotation: Annotation
    channels: tuple[Stack, ...]


@dataclass(frozen=True, eq=False)
class Unpaired:
    """Attributes:
    annotation: what was drawn.
    stack: the series that it belongs to, where one is known.
    why: it cannot be used, as a sentence; here nothing else of it is.
    cure: what to do.
    alone: whether its series is simply not here, which is no fault of what is.
    """

    annotation: Annotation
    stack: Stack | None
    why: str
    cure: str
    alone: bool = False


def pair_up(
    annotations: Iterable[Annotation], stacks: Sequence[Stack], wanted: Sequence[Wanted], policy: Policy
) -> tuple[list[Pair], list[Unpaired]]:
    """Each annotation with its series.

    Args:
        wanted: the channels; none: the series that was drawn on is the only one.
    """
    pairs: list[Pair] = []
    left: list[Unpaired] = []
    for annotation in annotations:
        try:
            stack = _drawn_on(annotation, stacks, wanted)
        except LookupError as error:
            cure = "add the series, or take it out" if not error.args[1:] else error.args[1]
            left.append(Unpaired(annotation, None, error.args[0], cure, alone=not error.args[1:]))
            continue
        try:
            check_belongs(annotation, stack)
            channels = channels_of(stack, stacks, wanted)
            for one in channels:
                verdict = judge(one, policy)
                if verdict.action == "refuse":
                    raise DataError(f"the series {one.name} {verdict.why}")
        except DataError as error:
            left.append(Unpaired(annotation, stack, str(error), "correct this, or take it out"))
            continue
        pairs.append(Pair(annotation, channels))
    return pairs, left


def _drawn_on(annotation: Annotation, stacks: Sequence[Stack], wanted: Sequence[Wanted]) -> Stack:
    """The one stack that an annotation refers to: by series, else by its pictures, else by its frame of reference.

    Raises:
        LookupError: there is none; or several, then with a cure as its second argument.
    """
    found = [stack for stack in stacks if stack.first.series in annotation.series]
    found = found or [stack for stack in stacks if _shows(stack, annotation)]
    if not found and not annotation.series and not annotation.instances:
        found = [
            stack
            for stack in stacks
            if stack.first.frame_of_reference in annotation.frames_of_reference and stack.first.person == annotation.person
        ]
    if not found:
        raise LookupError(f"the {annotation.kind} refers to a series that is not here; it is left out")
    if wanted:
        taken = [stack for stack in found if any(one.fits(stack) for one in wanted)]
        if not taken:
            names = ", ".join(one.name for one in wanted)
            raise LookupError(f"the {annotation.kind} was drawn on {found[0].name}, which is none of the channels {names}; it is left out")
        found = taken
    if len(found) > 1:
        found = [stack for stack in found if _shows(stack, annotation)] or found
    if len(found) > 1:
        names = ", ".join(stack.name for stack in found[:3])
        raise LookupError(
            f"the {annotation.kind} refers to {len(found)} volumes ({names}); which one it was drawn on cannot be told",
            "say which series is meant with dataset.dicom.series, or take it out",
        )
    return found[0]


def _shows(stack: Stack, annotation: Annotation) -> bool:
    return any(plane.instance in annotation.instances for plane in stack.planes)
