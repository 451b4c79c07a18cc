"""What Ray calls on the nodes. Light: the process that names them to Ray needs no torch; what they do stands in `stages`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from segpipe.inference.messages import Message

if TYPE_CHECKING:
    from segpipe.inference.cluster.parcels import ReadyParcel, RestoredParcel


class Networks:
    """See `stages.Networks`."""

    def __init__(self) -> None:
        from segpipe.inference.cluster.stages import Networks as Own

        self._own = Own()

    def load(self, order: Message, version: str) -> Iterator[Any]:
        """See `stages.Networks.load`."""
        yield from self._own.load(order, version)

    def compute(self, parcel: ReadyParcel, wanted: Message) -> Iterator[Any]:
        """See `stages.Networks.compute`."""
        yield from self._own.compute(parcel, wanted)


def read(kit: bytes, version: str, wanted: Message) -> Iterator[Any]:
    """See `stages.read`."""
    from segpipe.inference.cluster import stages

    yield from stages.read(kit, version, wanted)


def write(kit: bytes, version: str, parcel: RestoredParcel, wanted: Message) -> Iterator[Any]:
    """See `stages.write`."""
    from segpipe.inference.cluster import stages

    yield from stages.write(kit, version, parcel, wanted)
