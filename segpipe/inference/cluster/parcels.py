"""What travels between the nodes of a cluster, as NumPy arrays, which Ray neither copies nor turns into text."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from numpy.typing import NDArray

from segpipe.inference.preparation import Preparation, Ready
from segpipe.inference.restoration import Reading, Restored
from segpipe.inference.task import Task
from segpipe.prepare.prepared import Prepared, Trace


@dataclass(frozen=True)
class Kit:
    """What a node needs to read and to write scans: nothing of the networks."""

    task: Task
    preparation: Preparation
    reading: Reading


@dataclass(frozen=True, eq=False)
class ReadyParcel:
    """A scan on its way to the networks.

    Attributes:
        bare: all of it but the images.
        images: (C, I, J, K) float32 of each group of networks, and the way back from its grid.
    """

    bare: Ready
    images: tuple[tuple[NDArray[Any], Trace], ...]

    def unpacked(self) -> Ready:
        """The scan again, with images of its own: what Ray hands out must not be written to."""
        prepared = tuple(Prepared(torch.from_numpy(image.copy()), None, trace) for image, trace in self.images)
        return replace(self.bare, prepared=prepared)


@dataclass(frozen=True, eq=False)
class RestoredParcel:
    """A scan on its way from the networks to its files.

    Attributes:
        bare: as it was prepared, without the images.
    """

    bare: Ready
    restored: Restored


def pack_ready(ready: Ready) -> ReadyParcel:
    """Of a scan that waits for the networks."""
    return ReadyParcel(bare(ready), tuple((one.image.numpy(), one.trace) for one in ready.prepared))


def bare(ready: Ready) -> Ready:
    """Without the images."""
    return replace(ready, prepared=())
