"""What DICOM lies in a place: every stack, what is left out and why, and the files that cannot be read."""

from __future__ import annotations

import logging
import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from segpipe.dicom.files import HEAD_BYTES, candidates, looks_like_dicom, open_file
from segpipe.dicom.header import DamagedError, read_planes, reason
from segpipe.dicom.library import check_installed, quiet
from segpipe.dicom.plane import Plane
from segpipe.dicom.stack import LeftOut, Stack, group
from segpipe.errors import DataError
from segpipe.progress import track

log = logging.getLogger(__name__)

_PREAMBLE = 128
_SHOWN = 3
_UNLIKE = "is empty or has lost its beginning, and lies among DICOM; must be like its neighbours: copy or export it again"
_ENDING = ".dcm"
_NAMED = f"is called {_ENDING} and is no DICOM; must be what its name says: copy or export it again, or take it away"
_THREADS = 8
"""Files are waited for more than computed with, on network disks above all."""


@dataclass(frozen=True)
class Fault:
    """A file that is DICOM and cannot be used, and why: what is, what must be, what to do.

    Attributes:
        series: UID, where the header still tells it, or only one series lies in its folder.
        sure: false of a file that may be DICOM only because its neighbours are.
    """

    path: Path
    why: str
    series: str = ""
    sure: bool = True


@dataclass(frozen=True)
class Listing:
    """Attributes:
    stacks: sorted by study, series number and name.
    left_out: pictures that are no scans.
    faults: damaged files.
    others: how many of the files are no DICOM.
    """

    stacks: tuple[Stack, ...]
    left_out: tuple[LeftOut, ...]
    faults: tuple[Fault, ...]
    others: int


def list_stacks(files: Iterable[Path]) -> Listing:
    """The stacks in files and zip archives, from headers alone; what is no DICOM is passed over.

    Raises:
        DataError: there is DICOM, and pydicom is not installed.
    """
    paths = candidates(files)
    threads = min(_THREADS, max(1, len(paths)), 2 * (os.cpu_count() or 1))
    planes: list[Plane] = []
    doubts: list[Fault] = []
    others = 0
    with quiet(), ThreadPoolExecutor(threads, thread_name_prefix="dicom") as pool:
        for found in track(pool.map(_look, paths), f"looking for DICOM in {len(paths)} file(s)", len(paths)):
            if isinstance(found, Fault):
                doubts.append(found)
            else:
                planes += found
                others += not found
        faults = _settled(doubts, planes)
        others += len(doubts) - len(faults)
        stacks, left_out = group(planes, {fault.series: fault.path.name for fault in faults if fault.series})
    return Listing(tuple(stacks), tuple(left_out), tuple(faults), others)


def _settled(doubts: Iterable[Fault], planes: Iterable[Plane]) -> list[Fault]:
    """Which files are damaged slices, by their neighbours: those of one folder whose names end alike; and of which series they were."""
    series, endings = defaultdict[Path, set[str]](set), defaultdict[Path, set[str]](set)
    for plane in planes:
        series[plane.path.parent].add(plane.series)
        endings[plane.path.parent].add(plane.path.suffix)
    known = set().union(*series.values())
    found, passed = [], list[Fault]()
    for doubt in doubts:
        folder = doubt.path.parent
        if not doubt.sure and doubt.path.suffix not in endings[folder]:
            passed += [doubt] if doubt.why != _UNLIKE else []
            continue
        alone = next(iter(series[folder])) if len(series[folder]) == 1 else ""
        found.append(replace(doubt, series=doubt.series if doubt.series in known else alone))
    for doubt in passed[:_SHOWN]:
        log.warning("%s: passed over, it %s", doubt.path, doubt.why)
    if len(passed) > _SHOWN:
        log.warning("%d more files are passed over, because they cannot be opened", len(passed) - _SHOWN)
    return found


def read_all(paths: Sequence[Path]) -> list[Plane]:
    """The planes of files that are known to be DICOM.

    Raises:
        DataError: one cannot be read; with its name.
    """
    check_installed(paths[0])
    planes: list[Plane] = []
    with quiet():
        for path in paths:
            try:
                planes += read_planes(path)
            except DataError as error:
                raise DataError(f"{path}: {error}") from error
    return planes


def _look(path: Path) -> list[Plane] | Fault:
    try:
        with open_file(path) as file:
            head = file.read(HEAD_BYTES)
    except Exception as error:  # no permission, or a damaged archive: whether it is DICOM cannot be told
        log.debug("%s", path, exc_info=True)
        return Fault(path, f"cannot be opened ({reason(error)}); must be readable: check its permissions, or copy it again", sure=False)
    if not looks_like_dicom(head):
        if path.suffix.lower() == _ENDING:  # not to be missed at an end of its series, where no gap tells of it
            return Fault(path, _NAMED)
        return Fault(path, _UNLIKE, sure=False) if not any(head[:_PREAMBLE]) else []
    check_installed(path)
    try:
        return read_planes(path)
    except DamagedError as error:
        return Fault(path, str(error), error.series)
