"""The DICOM of a folder as scans to segment. Needs no torch."""

from __future__ import annotations

import logging
import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from segpipe.dicom.channels import Wanted, channels_of
from segpipe.dicom.files import place_of
from segpipe.dicom.listing import Fault, list_stacks
from segpipe.dicom.policy import Policy
from segpipe.dicom.request import slices_of
from segpipe.dicom.stack import LeftOut, Stack
from segpipe.dicom.verdict import judge
from segpipe.errors import ConfigError, DataError
from segpipe.inference.examination import Examination

log = logging.getLogger(__name__)

_SHOWN = 3


def gather_series(
    files: Sequence[Path], root: Path, channels: Sequence[str], how: tuple[Policy, Sequence[Wanted]], tell: bool
) -> list[Examination]:
    """A scan for each stack of DICOM slices in `files`, refused ones and damaged files with the reason as their problem.

    The case is the stack's name: a hash of the series' UID and its number, whatever the files and folders are called. A model of several
    channels takes the series of a study together, where `how` says which is which; the case is then that of the first channel.

    Args:
        root: folder that was searched; names what is damaged.
        how: what is taken or repaired, and which series is which channel; none: each is the only one.
        tell: say what is left out.

    Raises:
        ConfigError: `how` names other channels than the model has.
        DataError: there is DICOM, and pydicom is not installed.
    """
    listing = list_stacks(files)
    if tell:
        _tell_left_out(listing.left_out)
    policy, wanted = how
    if wanted:
        found = _of_studies(listing.stacks, policy, _in_order(wanted, channels), tell)
    else:
        several = (
            f"is one channel, and the model takes {len(channels)} ({', '.join(channels)}): say which series is which "
            f"(--series '{channels[0]}=PATTERN' for each), or convert the series (segpipe convert) and name their files CASE_0000 ..."
        )
        found = [_of_stack(stack, policy, several if len(channels) > 1 else "") for stack in listing.stacks]
    return found + [_of_fault(fault, root) for fault in listing.faults]


def _in_order(wanted: Sequence[Wanted], channels: Sequence[str]) -> list[Wanted]:
    """One for each channel of the model, in its order."""
    by_name = {one.name.lower(): one for one in wanted}
    if sorted(by_name) != sorted(name.lower() for name in channels) or len(by_name) != len(wanted):
        given = ", ".join(one.name for one in wanted)
        raise ConfigError(f"--series: names the channels {given}; the model has {', '.join(channels)}: give each of them once")
    return [by_name[name.lower()] for name in channels]


def _of_studies(stacks: Sequence[Stack], policy: Policy, wanted: Sequence[Wanted], tell: bool) -> list[Examination]:
    """A scan for each series that is the first channel, with those of its study that are the others."""
    found: list[Examination] = []
    used: set[int] = set()
    for first in stacks:
        if not wanted[0].fits(first):
            continue
        used.add(id(first))
        alone = _of_stack(first, policy, "")
        try:
            channels = channels_of(first, stacks, wanted)
        except DataError as error:
            found.append(replace(alone, problem=f"{alone.images[0]}: {error}"))
            continue
        used |= set(map(id, channels))
        each = [alone, *(_of_stack(one, policy, "") for one in channels[1:])]
        slices = slices_of(first, policy)
        others = tuple(slices_of(one, policy) for one in channels[1:])
        problem = next((one.problem for one in each if one.problem), "")
        images = tuple(one.images[0] for one in each)
        found.append(Examination(first.name, images, problem, replace(slices, others=others)))
    left = [stack.name for stack in stacks if id(stack) not in used]
    if left and tell:
        names = ", ".join(left[:_SHOWN]) + (f" and {len(left) - _SHOWN} more" if len(left) > _SHOWN else "")
        log.info("left out, none of the channels: series %s", names)
    return found


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
