"""What a network's outputs mean: one of several classes, or overlapping regions that are painted one after the other."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from segpipe.plan.plan import Plan

SMALLEST = 1e-20
"""Probabilities below it count as this one, so that their logarithm is finite."""
_ALMOST_ONE = 1.0 - 1e-7


@dataclass(frozen=True)
class Readout:
    """Outputs -> probabilities -> class indices.

    Attributes:
        paint: for each region the class index that it paints where it is more likely than not, later ones over earlier ones;
            empty: the outputs are the classes, and the likeliest one is taken.
        offsets: added to each output's score before indices are taken, so that it is taken sooner (or, below zero, later); empty: none.
    """

    paint: tuple[int, ...] = ()
    offsets: tuple[float, ...] = ()

    def indices(self, scores: Tensor) -> Tensor:
        """(N, ...) logits or scores -> (...) int32 class indices; of two equally likely classes the lower one."""
        return self.indices_of(scores)

    def indices_of(self, scores: Iterable[Tensor]) -> Tensor:
        """As `indices`, of the scores (...) of each output in turn, which are only in memory one at a time."""
        index, best = torch.empty(0), torch.empty(0)
        for number, plain in enumerate(scores):
            score = plain + self.offsets[number] if self.offsets and self.offsets[number] else plain
            if number == 0:
                index = torch.zeros(score.shape, dtype=torch.int32, device=score.device)
                best = score.clone()
            if self.paint:
                index.masked_fill_(score > 0, self.paint[number])
            elif number > 0:  # several times as fast as `argmax` along the first axis
                index.masked_fill_(score > best, number)
                torch.maximum(best, score, out=best)
        return index

    def probabilities(self, scores: Tensor) -> Tensor:
        """(N, ...) -> (N, ...): of classes they sum to one, of regions each stands for itself."""
        return scores.sigmoid() if self.paint else scores.softmax(dim=0)

    def scores(self, probabilities: Tensor) -> Tensor:
        """Scores whose `probabilities` are these, and whose `indices` are theirs; in place."""
        if self.paint:
            return probabilities.clamp_(SMALLEST, _ALMOST_ONE).logit_()
        return probabilities.clamp_min_(SMALLEST).log_()


CLASSES = Readout()


def readout_of(plan: Plan) -> Readout:
    """How the outputs of the plan's network are read."""
    return Readout(tuple(region.paints for region in plan.regions))
