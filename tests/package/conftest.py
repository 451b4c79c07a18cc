"""A plan and a small network that fits it."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from segpipe.plan.plan import Channel, Label, NetworkPlan, Plan


class TinyNetwork(nn.Module):
    """Two convolutions around a step down and up; any size, 3D."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.first = nn.Conv3d(channels, 4, 3, padding=1)
        self.norm = nn.InstanceNorm3d(4, affine=True)
        self.last = nn.Conv3d(4, classes, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self.norm(self.first(x)))
        small = functional.avg_pool3d(y, 2, 2, ceil_mode=True)
        return self.last(y + functional.interpolate(small, size=y.shape[2:]))


@pytest.fixture
def plan() -> Plan:
    return Plan(
        task="test",
        dims=3,
        channels=(Channel("T2", "zscore"), Channel("ADC", "zscore")),
        labels=(Label(0, 0, "background"), Label(1, 10, "organ"), Label(2, 255, "tumour")),
        orient=True,
        axes=(0, 1, 2),
        spacing_mm=(1.0, 1.0, 2.0),
        patch_size=(8, 10, 6),
        batch_size=1,
        nonzero=False,
        flips=(True, True, True),
        network=NetworkPlan("unet", (4,), ((3, 3, 3),), ((1, 1, 1),)),
        reasons={"dims": "because"},
    )


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return TinyNetwork(2, 3)
