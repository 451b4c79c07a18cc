"""Intensities as the network wants them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from segpipe.errors import DataError
from segpipe.plan.plan import Channel, Label, NetworkPlan, Plan
from segpipe.prepare.normalise import normalise

PLAN = Plan(
    task="test",
    dims=3,
    channels=(Channel("T2", "zscore"),),
    labels=(Label(0, 0, "background"), Label(1, 1, "organ")),
    orient=True,
    axes=(0, 1, 2),
    spacing_mm=None,
    patch_size=(8, 8, 8),
    batch_size=1,
    nonzero=False,
    flips=(True, True, True),
    network=NetworkPlan("unet", (4,), ((3, 3, 3),), ((1, 1, 1),)),
)


def plan_of(*channels: Channel, nonzero: bool = False) -> Plan:
    return dataclasses.replace(PLAN, channels=channels, nonzero=nonzero)


def random_image(channels: int = 1) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).normal(1000, 300, (channels, 5, 6, 7)).astype(np.float32))


def test_zscore_gives_mean_0_and_deviation_1_in_place() -> None:
    image = random_image()
    kept = image.clone()
    result = normalise(image, PLAN)
    reference = (kept.double() - kept.double().mean()) / kept.double().std(correction=0)
    assert result is image
    assert torch.allclose(result.double(), reference, atol=1e-5)


def test_zscore_of_huge_values_is_that_of_the_same_values_scaled_down() -> None:
    image = random_image()
    assert torch.allclose(normalise(image * 1700, PLAN), normalise(image, PLAN), atol=1e-4)


@pytest.mark.parametrize("value", [0.0, 7.0, -1024.0, 1.7e6, 0.1])
@pytest.mark.parametrize("nonzero", [False, True])
def test_a_constant_image_becomes_zeros(value: float, nonzero: bool) -> None:
    result = normalise(torch.full((1, 4, 4, 4), value), plan_of(Channel("T2", "zscore"), nonzero=nonzero))
    assert torch.equal(result, torch.zeros(1, 4, 4, 4))


def test_zscore_inside_the_nonzero_region_ignores_the_air_around_the_head() -> None:
    image = random_image(2)
    image[:, :2] = 0
    image[1, 2] = 0  # still inside: the other channel is not zero there
    result = normalise(image, plan_of(Channel("T1", "zscore"), Channel("T2", "zscore"), nonzero=True))
    for channel in range(2):
        sample = image[channel, 2:].double()
        assert torch.allclose(result[channel, 2:].double(), (sample - sample.mean()) / sample.std(correction=0), atol=1e-5)
    assert torch.equal(result[:, :2], torch.zeros_like(result[:, :2]))


def test_ct_is_clipped_and_scaled_by_the_data_set() -> None:
    image = torch.tensor([-3024.0, -1000.0, 0.0, 400.0, 3000.0]).reshape(1, 5, 1, 1)
    result = normalise(image, plan_of(Channel("CT", "ct", lower=-1000, upper=1000, mean=100, std=200)))
    assert result.flatten().tolist() == pytest.approx([-5.5, -5.5, -0.5, 1.5, 4.5])


def test_rescale_maps_the_bounds_to_0_and_1_and_none_changes_nothing() -> None:
    image = torch.tensor([[0.0, 127.5, 255.0], [1.0, 2.0, 3.0]]).reshape(2, 3, 1, 1)
    result = normalise(image, plan_of(Channel("red", "rescale", lower=0, upper=255), Channel("map", "none")))
    assert result[0].flatten().tolist() == pytest.approx([0, 0.5, 1])
    assert torch.equal(result[1], image[1])


def test_equal_bounds_and_no_deviation_stay_finite() -> None:
    image = random_image(2)
    result = normalise(image, plan_of(Channel("a", "rescale", lower=3, upper=3), Channel("CT", "ct", lower=0, upper=1, mean=0, std=0)))
    assert torch.isfinite(result).all()


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("kind", ["zscore", "ct", "none"])
def test_voxels_that_are_no_numbers_are_refused_with_channel_and_count(bad: float, kind: str) -> None:
    image = random_image(2)
    image[1, 0, 0, :3] = bad
    with pytest.raises(DataError, match="ADC holds 3 NaN or infinite"):
        normalise(image, plan_of(Channel("T2", "zscore"), Channel("ADC", kind, upper=1.0)))  # type: ignore[arg-type]
