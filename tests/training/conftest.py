"""A tiny network, plan and case that every training test can share."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from segpipe.geometry.grid import Grid
from segpipe.patches.sampling import positions
from segpipe.plan.plan import Channel, Label, NetworkPlan, Plan
from segpipe.prepare.prepared import Prepared, Trace
from segpipe.training.data import TrainingCase


class Threshold(nn.Module):
    """Class 1 where the image is above zero: a network whose answer is known."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([-x, x], 1) * self.scale

    def forward_all(self, x: Tensor) -> list[Tensor]:
        return [self.forward(x)]


@pytest.fixture
def network() -> nn.Module:
    return Threshold()


@pytest.fixture
def make_plan() -> Callable[[int], Plan]:
    def make(dims: int) -> Plan:
        spec = NetworkPlan("unet", (4, 8), ((3,) * dims,) * 2, ((1,) * dims, (2,) * dims))
        labels = (Label(0, 0, "background"), Label(1, 1, "organ"))
        patch = (8, 8, 8 if dims == 3 else 1)
        return Plan("tiny", dims, (Channel("MR", "none"),), labels, True, (0, 1, 2), (1.0, 1.0, 1.0), patch, 2, False, (True,) * 3, spec)

    return make


@pytest.fixture
def make_case() -> Callable[[str], TrainingCase]:
    def make(name: str) -> TrainingCase:
        label = torch.zeros(12, 11, 10, dtype=torch.uint8)
        label[3:8, 2:9, 4:7] = 1
        image = (label.float() * 2 - 1)[None]
        trace = Trace(Grid((12, 11, 10), np.eye(4)), (0, 1, 2), (False,) * 3, ((0, 12), (0, 11), (0, 10)), (12, 11, 10))
        return TrainingCase(name, Prepared(image, label, trace), positions(label))

    return make
