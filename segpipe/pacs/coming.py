"""What is known of a series while it is sent, and when it is complete; knows no disk."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Literal

BROKEN_OFF = "its sender has broken off"
_REFUSED = "an instance that its sender sent was refused"
_BROKEN = 10
"""Times the quiet seconds for which the sender of a series that may lack something may come back before somebody is told."""
_OPEN, _OPEN_SECONDS = 10, 60.0
"""Times the quiet seconds, and at least seconds, for which a sender that stays connected may send nothing before its series is complete."""
_BUSY = 10
"""Times that, for one that goes on with other series: some send the slices of a study in any order, others stay connected all day."""

Verdict = Literal["coming", "whole", "silent", "lacking"]


@dataclass(frozen=True)
class Limits:
    """Attributes:
    series: that may wait or be in hand.
    bytes: of all files that were sent and are still here.
    quiet: seconds without a new instance after which a series whose senders have ended is complete; ten times as long, and at least
        60, for senders that stay connected and send nothing; ten times that while they send other series.
    broken: also take a series whose sender has broken off, or was refused some of it, after ten times as long.
    """

    series: int = 200
    bytes: int = 50 << 30
    quiet: float = 10.0
    broken: bool = False

    @property
    def open(self) -> float:
        """Seconds for which a sender that stays connected may send nothing."""
        return max(_OPEN_SECONDS, _OPEN * self.quiet)


@dataclass
class Caller:
    """An association that sends.

    Attributes:
        since, last: when it was first and last heard of, as the spool's clock tells.
        refused: instances, by series, that it has sent and that are not on disk.
        kinds: SOP classes of what it was refused and nobody knows the series of.
    """

    since: float
    last: float
    refused: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    kinds: set[str] = field(default_factory=set)


@dataclass
class Coming:
    """A series that is being sent.

    Attributes:
        last: when something was last heard of it.
        study: hash of its study's UID; empty where that is not known.
        lacks: why slices may be missing; empty while nothing tells so.
        lacks_since: when that was known.
        writing: instances that are being written.
        senders: associations that have sent some of it and have not ended.
        told: that slices may be missing has been said.
        kinds: SOP classes of its instances.
        sizes: bytes of each instance that is on disk.
    """

    name: str
    last: float
    study: str = ""
    lacks: str = ""
    lacks_since: float = 0.0
    writing: int = 0
    senders: dict[Hashable, Caller] = field(default_factory=dict)
    told: bool = False
    kinds: set[str] = field(default_factory=set)
    sizes: dict[str, int] = field(default_factory=dict)

    def enter(self, sender: Hashable, caller: Caller) -> None:
        """A sender begins with it. One that has called after something was known to be missing sends that again; not one beside it."""
        self.senders[sender] = caller
        if caller.since >= self.lacks_since:
            self.lacks = ""

    def heard(self, now: float) -> None:
        """An instance has come, or should have."""
        self.last, self.told = now, False

    def leave(self, sender: Hashable, caller: Caller, in_order: bool, now: float) -> bool:
        """A sender has ended; whether it was of any concern to this series."""
        why = self._missing(sender, caller)
        if sender not in self.senders and not why:
            return False
        if sender in self.senders and not why and not in_order:
            why = BROKEN_OFF
        self.senders.pop(sender, None)
        self.last = now
        if why:
            self.lacks, self.lacks_since = why, now
        return True

    def verdict(self, now: float, limits: Limits) -> Verdict:
        """coming: it is not over yet; whole; silent: taken for whole, though a sender is still there; lacking: over, and see `why`."""
        passed = now - self.last
        if self.writing or passed < limits.quiet:
            return "coming"
        if self.senders and not self._are_silent(now, limits):
            return "coming"
        if self.why:
            return "lacking" if passed >= _BROKEN * limits.quiet else "coming"
        return "silent" if self.senders else "whole"

    @property
    def why(self) -> str:
        """Why slices may be missing, as a sender that has ended or is still there has left it; empty where nothing tells so."""
        return self.lacks or next(filter(None, (self._missing(*one) for one in self.senders.items())), "")

    def _are_silent(self, now: float, limits: Limits) -> bool:
        last = max((caller.last for caller in self.senders.values()), default=self.last)
        return now - max(last, self.last) >= limits.open or now - self.last >= _BUSY * limits.open

    def _missing(self, sender: Hashable, caller: Caller) -> str:
        unknown = sender in self.senders and not caller.kinds.isdisjoint(self.kinds)
        return _REFUSED if caller.refused.get(self.name) or unknown else ""
