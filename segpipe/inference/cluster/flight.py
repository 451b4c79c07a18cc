"""One scan on its way through a cluster."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from segpipe.inference.claims import Claim
from segpipe.inference.cluster.fleet import Copy
from segpipe.inference.gather import Examination
from segpipe.inference.table import Row
from segpipe.progress import Told

Stage = Literal["read", "wait", "compute", "write"]
DOING: dict[Stage, str] = {"read": "read", "wait": "prepared", "compute": "segmented", "write": "wrote"}


@dataclass(eq=False)
class Flight:
    """One scan on its way.

    Attributes:
        known: what is known of its files.
        token: names its files while they are written (see `acting_as`).
        alone: a process has died of it before.
        job: what the cluster does for it, 0 while it waits.
        parcel: job that has left what the next stage needs; 0: none.
        copy: of the networks, in which it is or for which it waits.
        begun: when its job began to run, in seconds of `time.monotonic`; None while it waits.
        spent: seconds that its earlier jobs ran.
        where: name of the node that runs its job.
        row, seconds: as far as known.
        given_up: why it is being ended.
        fresh_starts: how often it has started again without having begun.
    """

    claim: Claim
    known: Row | None
    token: str
    told: Told
    alone: bool = False
    stage: Stage = "read"
    job: int = 0
    parcel: int = 0
    copy: Copy | None = None
    begun: float | None = None
    spent: float = 0.0
    where: str = ""
    row: Row | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    given_up: str = ""
    fresh_starts: int = 0

    @property
    def scan(self) -> Examination:
        """Which it is."""
        return self.claim.scan
