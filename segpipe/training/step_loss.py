"""From augmented patches to the loss of a step, by the quickest way that gives the same gradients."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor, nn

from segpipe.plan.plan import Plan
from segpipe.settings import TrainingSettings
from segpipe.training.captured import Captured
from segpipe.training.heads import Heads
from segpipe.training.loss import supervised


class StepLoss:
    """The deeply supervised loss of a batch: compiled where that was asked for, on a GPU replayed from a graph.

    Args:
        network: see `SegmentationModule`.
        loss: of one head; where the network is.
    """

    def __init__(self, network: nn.Module, loss: nn.Module, plan: Plan, settings: TrainingSettings) -> None:
        self._heads = Heads(network, settings.compile)
        # Of partly judged label maps as many voxels count as were judged, and MONAI's focal loss looks at its weights, which a graph
        # cannot follow; processes that share their gradients would have to record their exchange, too.
        looks = plan.partly_judged or (settings.loss == "focal" and bool(settings.class_weights))
        self._captured = Captured(network, settings.cuda_graph and settings.devices == 1 and not looks)
        self._loss, self._partly = loss, plan.partly_judged
        self._steps: Any = network.steps

    @property
    def seconds(self) -> float:
        """That compiling took so far."""
        return self._heads.seconds

    def release(self) -> None:
        """Give memory back that a GPU keeps for the next step."""
        self._captured.release()

    def __call__(self, image: Tensor, label: Tensor, together: Callable[[bool], bool] = bool) -> Tensor:
        """Image (B, C, *sizes) and label (B, *sizes) -> the scalar loss.

        Args:
            together: whether all processes of a training agree.
        """
        self._heads.settle(image, partial(self._of_heads, label=label), together)
        return self._captured(self._eager, image, label)

    def _eager(self, image: Tensor, label: Tensor) -> Tensor:
        return self._of_heads(self._heads(image), label)

    def _of_heads(self, heads: list[Tensor], label: Tensor) -> Tensor:
        return supervised(self._loss, heads, label=label, steps=self._steps, partly=self._partly)
