"""Label maps at other places, against linear interpolation of one channel a class."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from segpipe.patches.label_vote import vote_labels


def some_grid(new: tuple[int, ...], seed: int, reach: float = 1.3) -> Tensor:
    """Smoothly turned and bent places, some outside."""
    axes = len(new)
    generator = torch.Generator().manual_seed(seed)
    theta = torch.eye(axes, axes + 1)[None] * reach + 0.2 * torch.randn(2, axes, axes + 1, generator=generator)
    grid = functional.affine_grid(theta, [2, 1, *new], align_corners=False)
    return grid + 0.05 * torch.randn(grid.shape, generator=generator)


@pytest.mark.parametrize("space", [(9, 7, 8), (12, 10), (5, 1, 6)])
@pytest.mark.parametrize("classes", [2, 5])
def test_the_class_with_the_largest_linear_weight_wins(space: tuple[int, ...], classes: int) -> None:
    label = torch.randint(0, classes, (2, *space), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    grid = some_grid(tuple(n + 2 for n in space), 1)
    padded = functional.pad(label, [3] * 2 * len(space))  # what lies outside is background
    sizes = torch.tensor(list(reversed(space)), dtype=torch.float64)
    inner = grid * (sizes / (sizes + 6)).float()
    channels = functional.one_hot(padded.long(), classes).movedim(-1, 1).double()
    weights = functional.grid_sample(channels, inner.double(), align_corners=False)
    best, expected = weights.max(1)
    clear = best - weights.topk(2, dim=1).values[:, 1] > 1e-4  # ties may go either way
    far = (grid.abs() > 1 + 4 / sizes.float()).any(-1)
    found = vote_labels(label, voxels(grid, space))
    assert found.dtype == label.dtype
    assert clear.float().mean() > 0.8
    assert torch.equal(found[clear & ~far].long(), expected[clear & ~far])
    assert found[far].sum() == 0


def test_the_places_of_the_voxels_give_the_label_map_itself() -> None:
    label = torch.randint(0, 200, (2, 6, 5, 7), generator=torch.Generator().manual_seed(0))
    places = torch.stack(torch.meshgrid(*[torch.arange(float(n)) for n in label.shape[1:]], indexing="ij"))
    assert torch.equal(vote_labels(label, places[:, None].expand(-1, 2, -1, -1, -1)), label)


def voxels(grid: Tensor, space: tuple[int, ...]) -> Tensor:
    """Places in the units of `grid_sample` as coordinates in voxels, one tensor an axis."""
    return torch.stack([((grid[..., len(space) - 1 - axis] + 1) * size - 1) / 2 for axis, size in enumerate(space)])


def ellipsoid(points: Tensor) -> Tensor:
    """Two classes that share an ellipsoid 10 to 30 voxels wide; points (..., 3) in voxels from its middle."""
    x, y, z = points.unbind(-1)
    inside = (x / 7) ** 2 + (y / 15) ** 2 + (z / 5) ** 2 < 1
    return torch.where(inside, torch.where(y + 0.3 * x > 0, 1, 2), 0)


def test_voting_is_closer_to_the_truth_than_the_nearest_voxel() -> None:
    generator = torch.Generator().manual_seed(0)
    line = torch.arange(44) - 21.5
    points = torch.stack(torch.meshgrid(line, line, line, indexing="ij"), -1)
    agreement = {"vote": 0.0, "nearest": 0.0}
    for _ in range(6):
        spin = torch.randn(3, 3, generator=generator)
        places = points @ torch.matrix_exp(0.3 * (spin - spin.T)) + torch.rand(3, generator=generator)
        truth, label, grid = ellipsoid(places), ellipsoid(points)[None], (places / 22).flip(-1)[None]
        nearest = functional.grid_sample(label[None].float(), grid, mode="nearest", align_corners=False)[0, 0].long()
        for name, found in (("vote", vote_labels(label, voxels(grid, (44, 44, 44)))[0]), ("nearest", nearest)):
            dice = [2.0 * ((found == c) & (truth == c)).sum() / ((found == c).sum() + (truth == c).sum()) for c in (1, 2)]
            agreement[name] += float(sum(dice)) / 12
    assert agreement["vote"] > agreement["nearest"] + 0.01
    assert agreement["vote"] > 0.94


def test_a_label_map_of_one_class_stays_of_one_class() -> None:
    label = torch.full((1, 6, 6, 6), 4, dtype=torch.uint8)
    places = 1 + 3 * torch.rand((3, 1, 5, 5, 5), generator=torch.Generator().manual_seed(0))
    assert bool((vote_labels(label, places) == 4).all())
