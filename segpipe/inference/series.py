"""The DICOM of a folder as scans to segment. Needs no torch."""

from __future__ import annotations

import logging
import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from segpipe.dicom.files import place_of
from segpipe.dicom.listing import Fault, list_stacks
from segpipe.dicom.policy import Policy
from segpipe.dicom.request import slices_of
from segpipe.dicom.stack import LeftOut, Stack
from segpipe.dicom.verdict import judge
from segpipe.inference.examination import Examination

log = logging.getLogger(__name__)

_SHOWN = 3


def gather_series(files: Sequence[Path], root: Path, channels: Sequence[str], policy: Policy, tell: bool) -> list[Examination]:
    """A scan for each stack of DICOM slices in `files`, refused ones and damaged files with the reason as their problem.

    The case is the stack's name: a hash of the series' UID and its number, whatever the files and folders are called.

    Args:
        root: folder that was searched; names what is damaged.
        tell: say what is left out.

    Raises:
        DataError: there is DICOM, and pydicom is not installed.
    """
    listing = list_stacks(files)
    if tell:
        _tell_left_out(listing.left_out)
    several = (
        f"is one channel, and the model takes {len(channels)} ({', '.join(channels)}): convert the series (segpipe convert) and name "
        "their files CASE_0000, CASE_0001 ..."
    )
    found = [_of_stack(stack, policy, several if len(channels) > 1 else "") for stack in listing.stacks]
    return found + [_of_fault(fault, root) for fault in listing.faults]


def _of_stack(stack: Stack, policy: Policy, several: str) -> Examination:
    verdict = judge(stack, policy)
    why = verdict.why if verdict.action == "refuse" else several
    places = list(dict.fromkeys(map(place_of, stack.paths)))
    shown = places[0] if len(places) == 1 else Path(os.path.commonpath(places))
    return Examination(stack.name, (shown,), f"{shown}: series {stack.name}: {why}" if why else "", slices_of(stack, policy))


def _of_fault(fault: Fault, root: Path) -> Examination:
    case = fault.path.relative_to(root).as_posix() if fault.path.is_relative_to(root) else fault.path.name
    return Examination(case, (place_of(fault.path),), f"{fault.path}: {fault.why}")


def _tell_left_out(left_out: Sequence[LeftOut]) -> None:
    reasons: dict[str, list[LeftOut]] = defaultdict(list)
    for one in left_out:
        reasons[one.why].append(one)
    for why, some in reasons.items():
        names = ", ".join(one.name for one in some[:_SHOWN]) + (f" and {len(some) - _SHOWN} more series" if len(some) > _SHOWN else "")
        log.info("left out, %s: %d file(s) or frame(s) of series %s", why, sum(len(one.planes) for one in some), names)
