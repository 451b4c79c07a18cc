"""A step fits into the memory that it may take, and the estimate follows from the maps of the network."""

import logging
import math

import pytest
import torch
from torch import nn

from segpipe.errors import ConfigError
from segpipe.network.build import build_network
from segpipe.plan.memory import map_numbers, plan_gb, step_gb, weight_numbers
from segpipe.plan.plan import NetworkPlan
from segpipe.plan.planner import make_plan
from tests.plan.test_planner import data, settings


def spec(name: str, block: str = "plain", dims: int = 3) -> NetworkPlan:
    size = 5 if name == "vnet" else 3
    strides = ((1,) * dims, (2,) * dims, (2,) * dims)
    return NetworkPlan(name, (4, 8, 16), ((size,) * dims,) * 3, strides, block=block)


@pytest.mark.parametrize(
    ("name", "block", "dims"), [("unet", "plain", 3), ("unet", "residual", 3), ("vnet", "plain", 3), ("unet", "plain", 2)]
)
def test_maps_and_weights_are_those_of_the_network_itself(name: str, block: str, dims: int) -> None:
    network = build_network(spec(name, block, dims), 1, 3, dims)
    seen = []
    for layer in network.backbone.modules():
        if isinstance(layer, (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)):
            layer.register_forward_hook(lambda _, __, out: seen.append(out.numel()))
    patch = (16, 8, 8) if dims == 3 else (16, 8, 1)
    with torch.no_grad():
        network(torch.zeros(1, 1, *patch[:dims]))
    assert map_numbers(spec(name, block, dims), patch) == pytest.approx(sum(seen), rel=0.25 if block == "residual" else 1e-6)
    weights = sum(weight.numel() for weight in network.parameters())
    assert weight_numbers(spec(name, block, dims)) == pytest.approx(weights, rel=0.25)


def test_half_the_precision_takes_half_the_memory_of_the_maps() -> None:
    small, large = (step_gb(spec("unet"), (64, 64, 64), 2, bf16) for bf16 in (True, False))
    none = step_gb(spec("unet"), (64, 64, 64), 0, True)
    assert (large - none) == pytest.approx(2 * (small - none))


def test_batch_then_patch_shrink_until_a_step_fits() -> None:
    large = data(shapes=((200, 200, 200),) * 3)
    wanted = settings({"patch_voxels": 128**3, "batch_size": 0}, {"features": []})
    free = make_plan("p", large, settings({"patch_voxels": 128**3, "memory_gb": 1000.0}))
    assert free.batch_size == 2 and "within 1e+03 GB (plan.memory_gb)" in free.reasons["memory"]
    tight = make_plan("p", large, settings({"patch_voxels": 128**3, "memory_gb": 2.0}))
    assert plan_gb(tight) <= 2.0 < plan_gb(free)
    assert math.prod(tight.patch_size) < math.prod(free.patch_size) and tight.batch_size >= 2
    assert math.prod(tight.patch_size) > 40**3, "no smaller than it must be"
    assert wanted.plan.memory_gb == 0


def test_fewer_patches_come_before_smaller_ones() -> None:
    free = make_plan("h", data(), settings())
    tight = make_plan("h", data(), settings({"memory_gb": plan_gb(free) - 0.01}))
    assert (tight.patch_size, tight.batch_size) == (free.patch_size, free.batch_size - 1)
    assert tight.reasons["batch_size"] == "as many as fit into the memory"


def test_what_was_set_by_hand_stays_and_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        plan = make_plan("h", data(), settings({"patch_size": [64, 64, 64], "batch_size": 8, "memory_gb": 1.0}))
    assert (plan.patch_size, plan.batch_size) == ((64, 64, 64), 8)
    assert "lower plan.patch_size or plan.batch_size" in caplog.text and "above 1 GB" in plan.reasons["memory"]


def test_a_budget_in_which_nothing_fits_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"a step takes 0\.7\d* GB at least; must be within 0\.5 GB \(plan\.memory_gb\)"):
        make_plan("h", data(), settings({"memory_gb": 0.5}))
