"""What the process that speaks to a Ray cluster needs to begin. Light, as `messages`."""

from __future__ import annotations

from dataclasses import dataclass

from segpipe.inference.messages import Order

BRIDGE = "segpipe.inference.cluster.bridge"
"""Module of that process: what Ray prints stays in it, and it may end, as Ray ends it when a cluster is gone, while the command lives."""


@dataclass(frozen=True)
class ClusterOrder(Order):
    """Attributes:
    address: of the cluster, `auto` or `HOST:PORT`.
    version: of segpipe, which every node must have.
    """

    address: str = "auto"
    version: str = ""
