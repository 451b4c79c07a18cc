"""For models of several channels: the series of a study wait for each other, until each channel has one."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from segpipe.dicom.channels import Wanted
from segpipe.dicom.listing import list_stacks
from segpipe.inference.examination import Examination
from segpipe.io.find import find_files
from segpipe.pacs.intake import Intake
from segpipe.pacs.spool import ASIDE

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Waiting:
    """A taken series.

    Attributes:
        study: hash of its UID.
        fits: names of the channels that it may be.
        since: when it was complete.
    """

    study: str
    fits: frozenset[str]
    since: float


class StudyIntake(Intake):
    """As `Intake`, by studies.

    A study is segmented once each channel has a series and no other series of it is coming, which might be a channel as well. What
    is none of the channels is set aside at once; the series of a study are when one never comes, or never is whole.

    Args:
        wanted: which series is which channel, in the model's order.
        seconds: for which the series of a study wait for the last one.
    """

    def __init__(self, *given: Any, wanted: Sequence[Wanted], seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(*given)
        self._wanted, self._seconds, self._clock = tuple(wanted), seconds, clock
        self._waiting: dict[str, _Waiting] = {}

    def _next(self) -> list[Examination] | None:
        while (name := self._complete()) is not None:
            self._take_in(name)
        for study in dict.fromkeys(one.study for one in self._waiting.values()):
            names = [name for name, one in self._waiting.items() if one.study == study]
            some = [self._waiting[name] for name in names]
            over = self._clock() - max(one.since for one in some) >= self._seconds
            missing = [one.name for one in self._wanted if not any(one.name in series.fits for series in some)]
            coming = self._spool.is_coming(study)
            if not over and (missing or coming):
                continue
            for name in names:
                del self._waiting[name]
            if not missing and not coming:
                return self._scans(names, self._wanted)
            self._refuse(study, names, missing)
        return None

    def _take_in(self, name: str) -> None:
        listing = list_stacks(find_files(self._spool.folder(name)))
        fits = frozenset(one.name for one in self._wanted if any(one.fits(stack) for stack in listing.stacks))
        if fits:
            self._waiting[name] = _Waiting(listing.stacks[0].study, fits, self._clock())
            return
        channels = ", ".join(one.name for one in self._wanted)
        damaged = f" and {len(listing.faults)} damaged file(s)" if listing.faults else ""
        self._aside([name], f"series {name}: holds none of the channels {channels}{damaged}, and is set aside in {ASIDE}")

    def _refuse(self, study: str, names: Sequence[str], missing: Sequence[str]) -> None:
        what = f"no series has come for the channel {', '.join(missing)}" if missing else "a series of it is not whole"
        what += f" {self._seconds:.0f} s after the last one"
        where = ", ".join(f"{ASIDE}/{name}" for name in names)
        cure = "send the whole study again, or see --study-seconds"
        self._aside(names, f"study {study}: {what}; it is not segmented, and set aside in {where}: {cure}")
