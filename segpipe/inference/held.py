"""The scans that one worker has in hand, and for how long each was worked on. Knows no process and no network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from segpipe.inference.claims import Claim
    from segpipe.inference.table import Row
    from segpipe.progress import Told

MOST_IN_HAND = 3
"""Scans: one that is prepared, one in the networks, one that is written."""


@dataclass
class Held:
    """Attributes:
    known: what is known of the scan's files.
    stage: which is at it, see `pipeline.Job.stage`; empty: it waits for its turn.
    last: the last one that was.
    ahead: it has not come to the networks, or past them, yet.
    seconds: in which it was worked on.
    told: shows its windows; None before there are any.
    asked: the worker was asked to give it back.
    """

    claim: Claim
    known: Row | None
    stage: str = ""
    last: str = ""
    ahead: bool = True
    seconds: float = 0.0
    told: Told | None = None
    asked: bool = False

    def enter(self, stage: str) -> None:
        """A stage begins to work on it; empty: none does any more."""
        self.stage = stage
        self.last = stage or self.last
        self.ahead = self.ahead and stage in ("", "read")


class Hands:
    """What one worker has, in the order in which it got it."""

    def __init__(self) -> None:
        self._held: dict[str, Held] = {}
        self._counted = 0.0

    def __len__(self) -> int:
        return len(self._held)

    def get(self, case: str) -> Held | None:
        """A scan; None when it has it no longer."""
        return self._held.get(case)

    @property
    def all(self) -> list[Held]:
        """Every scan, the first first."""
        return list(self._held.values())

    @property
    def room(self) -> bool:
        """Whether it may have another one, to be read while the networks are at the one before."""
        return len(self._held) < MOST_IN_HAND and not any(one.ahead for one in self._held.values())

    @property
    def behind(self) -> Held | None:
        """The scan that is read and waits for the networks to be done with another one, if any does."""
        if not any(one.stage in ("network", "restore") for one in self._held.values()):
            return None
        return next((one for one in self._held.values() if one.ahead and one.last == "read" and not one.stage), None)

    def take(self, claim: Claim, now: float) -> None:
        """Have one more.

        Args:
            now: seconds, as in `count`.
        """
        self.count(now)
        self._held[claim.scan.case] = Held(claim, claim.before)

    def leave(self, held: Held) -> None:
        """Have it no longer."""
        del self._held[held.claim.scan.case]

    def count(self, now: float) -> None:
        """Add the time since the last count to the scans that are worked on; where none is, to the first one: the worker hangs between
        two stages.

        Args:
            now: seconds of `time.monotonic`.
        """
        passed, self._counted = max(0.0, now - self._counted), max(now, self._counted)
        for one in [held for held in self.all if held.stage] or self.all[:1]:
            one.seconds += passed
