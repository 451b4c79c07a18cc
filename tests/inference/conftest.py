"""Models whose label maps are known: they compare each voxel with thresholds."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from segpipe.geometry.grid import Grid, Volume
from segpipe.package.export import export_model
from segpipe.package.model_file import Model, load_model
from segpipe.plan.plan import Channel, Label, NetworkPlan, Plan

MakeModel = Callable[..., Model]


class Thresholds(nn.Module):
    """Class 2 above 1.5 in the first channel, class 1 above 0.5 in any, else the background."""

    def __init__(self, slope: float = 50.0, flat: bool = False) -> None:
        super().__init__()
        self.slope = slope
        self.flat = flat
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.flat and x.dim() != 4:
            raise RuntimeError("a 2D network takes (B, C, I, J)")
        low = (x.amax(dim=1) - 0.5) * self.slope
        high = low + (x[:, 0] - 1.5) * self.slope
        return torch.stack([torch.zeros_like(low), low, high], dim=1) + self.bias


@pytest.fixture
def plan() -> Plan:
    return Plan(
        task="test",
        dims=3,
        channels=(Channel("T2", "none"),),
        labels=(Label(0, 0, "background"), Label(1, 10, "organ"), Label(2, 255, "tumour")),
        orient=True,
        axes=(0, 1, 2),
        spacing_mm=None,
        patch_size=(8, 8, 8),
        batch_size=1,
        nonzero=False,
        flips=(True, True, True),
        network=NetworkPlan("unet", (4,), ((3, 3, 3),), ((1, 1, 1),)),
    )


@pytest.fixture
def make_model(tmp_path: Path, plan: Plan) -> MakeModel:
    """A model file of `Thresholds`, read back; keyword arguments change the plan."""

    def make(name: str = "model.ts", network: nn.Module | None = None, **changes: Any) -> Model:
        changed = dataclasses.replace(plan, **changes)
        if changed.dims == 2:
            changed = dataclasses.replace(changed, patch_size=(*changed.patch_size[:2], 1))
        path = tmp_path / "models" / name
        path.parent.mkdir(exist_ok=True)
        export_model(network or Thresholds(flat=changed.dims == 2), changed, {}, path)
        return load_model(path)

    return make


def blocks(shape: tuple[int, int, int], channels: int = 1) -> NDArray[np.float32]:
    """An organ (value 1) with a tumour (value 2) in it."""
    array = np.zeros((channels, *shape), dtype=np.float32)
    i, j, k = shape
    array[:, i // 4 : i - 1, j // 4 : j // 4 * 3, : k // 2 + 1] = 1
    array[0, i // 2 : i - 2, j // 2 : j // 2 + 2, : max(1, k // 4)] = 2
    return array


def expected_labels(array: NDArray[Any]) -> NDArray[np.uint8]:
    result = np.zeros(array.shape[1:], dtype=np.uint8)
    result[array.max(axis=0) > 0.5] = 10
    result[array[0] > 1.5] = 255
    return result


def oblique_grid(shape: tuple[int, int, int], spacing: tuple[float, float, float] = (1.0, 1.5, 3.0)) -> Grid:
    """Axes in the order z, x, y, one reversed, turned by 0.3 about z."""
    affine = np.eye(4)
    turn = np.array([[np.cos(0.3), -np.sin(0.3), 0], [np.sin(0.3), np.cos(0.3), 0], [0, 0, 1]])
    affine[:3, :3] = turn @ np.array([[0, -1, 0], [0, 0, 1], [1, 0, 0]]) @ np.diag(spacing)
    affine[:3, 3] = (-40, 12.5, 7)
    return Grid(shape, affine)


def blocks_volume(shape: tuple[int, int, int] = (13, 11, 9), channels: int = 1) -> Volume:
    return Volume(blocks(shape, channels), oblique_grid(shape))
