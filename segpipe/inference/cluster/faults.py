"""What Ray says of a process or a node that has ended, in words of our own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["process", "place", "input", "fault"]
"""process: it ended while it was at a scan, or its node did; place: it never began, there being no room for it any more; input: what it
needs was in the memory of a node that is lost; fault: Ray, or Python on the node, does not know what to do."""


@dataclass(frozen=True)
class Lost:
    """Attributes:
    how: it has ended, after `the process`, or what is wrong.
    """

    kind: Kind
    how: str


def lost(ray: Any, error: Exception) -> Lost:
    """From what Ray raises.

    Args:
        ray: the module.
    """
    known = ray.exceptions
    if isinstance(error, known.ObjectLostError):
        return Lost("input", "what it needs was on a node that is lost")
    if isinstance(error, (known.ActorUnschedulableError, known.TaskUnschedulableError)):
        return Lost("place", "its node is lost")
    if isinstance(error, known.OutOfMemoryError):
        return Lost("process", "was killed by Ray, because the memory of its node was full: lower --batch or --workers")
    if isinstance(error, known.NodeDiedError):
        return Lost("process", "ended with its node, which is lost")
    if isinstance(error, known.TaskCancelledError):
        return Lost("process", "was ended")
    if isinstance(error, (known.WorkerCrashedError, known.RayActorError)) and "No module named" not in str(error):
        how = "was killed or has crashed, or its node is lost; most often the memory was full: lower --batch or --workers"
        return Lost("process", how)
    return Lost("fault", _fault(str(error)))


def _fault(text: str) -> str:
    """The end of what may be a long traceback."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    missing = next((line for line in lines if "No module named" in line), "")
    if "segpipe" in missing or "ray" in missing:
        return f"a node of the Ray cluster cannot import segpipe ({missing}): install the same version on every node"
    return lines[-1] if lines else "Ray does not tell what is wrong"
