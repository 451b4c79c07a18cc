"""First stage of a scan: brought onto the grids of the networks. Knows the models' plans and not their networks."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from segpipe.geometry.grid import Grid, Volume
from segpipe.inference.clock import Clock
from segpipe.inference.need import Asked, need_of, walk_of
from segpipe.inference.source import AS_READ, WayBack
from segpipe.inference.unlike import Known, differences, odd_volumes, other_modalities
from segpipe.inference.walk import Walk
from segpipe.plan.plan import Plan
from segpipe.prepare.prepare import prepare
from segpipe.prepare.prepared import Prepared

log = logging.getLogger(__name__)
_WORTH_TELLING = 1.5


@dataclass(frozen=True, eq=False)
class Ready:
    """A scan that waits for the networks; of its own voxels nothing is left.

    Attributes:
        grid: of the volume that was read.
        prepared: for each group of networks that see the same.
        walk: the way through the scan that all groups take; None: one group's blocks become labels by themselves.
        probabilities: whether those of each class are asked for.
        batch: windows a forward pass; 0: by their size.
        unlike: how the scan differs from those of the training, one phrase each.
        seconds: of this stage.
        way: from that volume onto the scan.
    """

    grid: Grid
    prepared: tuple[Prepared, ...]
    walk: Walk | None
    probabilities: bool
    batch: int
    unlike: tuple[str, ...]
    seconds: dict[str, float]
    way: WayBack = AS_READ


class Preparation:
    """Prepares the scans of one predictor.

    Args:
        groups: plans of the models, those that see the same windows together.
        known: of each model whose file tells, its plan and what it tells of its training scans.
        device: where the networks compute; on a processor the memory of a scan is reckoned up before it is taken.
        asked: what that memory depends on besides scan and models.
    """

    def __init__(self, groups: Sequence[Sequence[Plan]], known: Sequence[tuple[Plan, Known]], device: torch.device, asked: Asked) -> None:
        self._groups, self._known, self._device, self._asked = groups, known, device, asked
        self._told_gb = 0.0

    def prepare(self, volume: Volume, probabilities: bool, followed: bool = False, way: WayBack = AS_READ) -> Ready:
        """What the networks will see of a scan.

        Args:
            volume: (C, I, J, K) in the scan's own unit, any grid.
            probabilities: whether those of each class are asked for.
            followed: whether the next scan is read while the networks are at this one, and the one before is written; what that takes is
                told with the rest.
            way: from the volume onto the scan.

        Raises:
            DataError: wrong channels, NaN or infinite voxels, out of memory, or more of it than is allowed.
        """
        asked = replace(self._asked, probabilities=probabilities, leaning=way.lean is not None)
        batch = self._batch(volume, asked, followed)
        clock = Clock(torch.device("cpu"), batch)  # this stage never leaves the processor
        with clock.phase("prepare"):
            prepared = tuple(prepare(volume, group[0]) for group in self._groups)
            walk = walk_of(self._groups, [one.trace for one in prepared], asked)
        unlike = (*self._of_other_kind(way.modalities), *self.unlike(volume))
        return Ready(volume.grid, prepared, walk, probabilities, batch, unlike, clock.seconds, way)

    def unlike(self, volume: Volume) -> list[str]:
        """How a scan differs from those that the models were trained on, one phrase each, so that its label map is doubtful."""
        if volume.channels != len(self._groups[0][0].channels):
            return []  # `prepare` refuses it
        return list(dict.fromkeys(phrase for plan, known in self._known for phrase in differences(volume, plan, known)))

    def _of_other_kind(self, modalities: tuple[str, ...]) -> list[str]:
        """Channels that another kind of machine has made than those of the training, one phrase each."""
        return list(dict.fromkeys(phrase for plan, known in self._known for phrase in other_modalities(modalities, plan, known)))

    def odd_volumes(self, volumes_ml: dict[str, float]) -> list[str]:
        """Labels whose predicted volume is far from those of the training, by the first model that tells them; one phrase each."""
        return odd_volumes(volumes_ml, *self._known[0]) if self._known else []

    def _batch(self, volume: Volume, asked: Asked, followed: bool) -> int:
        """Windows a forward pass; what the scan takes in memory is told where it is more than for the scans before."""
        if volume.channels != len(self._groups[0][0].channels) or self._device.type != "cpu":
            return self._asked.batch  # `prepare` refuses the one; on a GPU the memory is another, and known only when it is full
        need = need_of(self._groups, volume, asked)
        if need.gb > _WORTH_TELLING * self._told_gb:
            self._told_gb = need.gb
            beside = f", and up to {max(need.beside_gb, 0.01):.2g} GB more while the next one is read" if followed else ""
            log.info("a scan of %s voxels takes about %.2g GB of memory%s", " x ".join(map(str, volume.grid.shape)), need.gb, beside)
        return need.batch if self._asked.limit_gb else self._asked.batch
