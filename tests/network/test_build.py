"""What `build_network` takes and refuses."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from segpipe.errors import ConfigError
from segpipe.network.build import NETWORKS, build_network
from segpipe.plan.plan import NetworkPlan

GOOD = NetworkPlan("unet", (4, 6), ((3, 3), (3, 3)), ((1, 1), (2, 2)))


def test_both_networks_are_known_by_name() -> None:
    assert sorted(NETWORKS) == ["unet", "vnet"]


def test_the_same_seed_gives_the_same_weights() -> None:
    states = []
    for _ in range(2):
        torch.manual_seed(3)
        states.append(build_network(GOOD, 1, 2, 2).state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


@pytest.mark.parametrize("norm", ["instance", "none"])
@pytest.mark.parametrize("name", ["unet", "vnet"])
def test_fresh_weights_keep_the_size_of_the_signal(name: str, norm: str) -> None:
    torch.manual_seed(0)
    spec = NetworkPlan(name, (8, 16, 32), ((3, 3),) * 3, ((1, 1), (2, 2), (2, 2)), norm=norm)
    for level in build_network(spec, 1, 2, 2).backbone(torch.randn(4, 1, 32, 32)):
        assert 0.1 < float(level.detach().std()) < 10


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": "wnet"}, "network.name is 'wnet'; must be one of unet, vnet"),
        ({"norm": "layer"}, "network.norm is 'layer'; must be one of instance, batch, group, none"),
        ({"activation": "gelu"}, "network.activation is 'gelu'"),
        ({"pooling": "min"}, "network.pooling is 'min'"),
        ({"padding": "circular"}, "network.padding is 'circular'"),
        ({"block": "dense"}, "network.block is 'dense'"),
        ({"dropout": 1.0}, "network.dropout is 1.0"),
        ({"convolutions": 0}, "network.convolutions is 0"),
        ({"features": ()}, "network.features is []"),
        ({"features": (4, 0)}, "network.features is [4, 0]"),
        ({"features": (4, 6, 8)}, "network.kernels has 2 stages and network.features 3"),
        ({"strides": ((1, 1),)}, "network.strides has 1 stages"),
        ({"kernels": ((3, 3), (3, 4))}, "sizes must be odd"),
        ({"kernels": ((3, 3, 3), (3, 3, 3))}, "must have 2 numbers"),
        ({"strides": ((2, 2), (2, 2))}, "all ones"),
        ({"strides": ((1, 1), (0, 2))}, "network.strides"),
    ],
)
def test_a_plan_that_no_network_can_have_is_refused_in_one_line(change: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError) as error:
        build_network(replace(GOOD, **change), 1, 2, 2)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("channels", "classes", "dims"), [(0, 2, 2), (1, 0, 2), (1, 2, 4)])
def test_channels_classes_and_dimensions_are_checked(channels: int, classes: int, dims: int) -> None:
    with pytest.raises(ConfigError):
        build_network(GOOD, channels, classes, dims)
