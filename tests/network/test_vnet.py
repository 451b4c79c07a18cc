"""The V-Net against the published architecture and MONAI's VNet."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from monai.networks.nets import VNet as Peer
from torch import nn

from segpipe.network.build import build_network
from segpipe.network.vnet import VNet, published_convolutions
from segpipe.plan.plan import NetworkPlan


def plan(features: tuple[int, ...], dims: int = 3, **options: object) -> NetworkPlan:
    """A V-Net with kernels of 5 and steps of 2."""
    stages = len(features)
    strides = ((1,) * dims,) + ((2,) * dims,) * (stages - 1)
    return NetworkPlan(**{"name": "vnet", "features": features, "kernels": ((5,) * dims,) * stages, "strides": strides} | options)


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_stages_have_the_published_numbers_of_convolutions() -> None:
    assert published_convolutions(5) == (1, 2, 3, 3, 3)
    network = build_network(plan((2, 2, 2, 2, 2)), 1, 2, 3).backbone
    assert [len(stage.layers) for stage in (network.first, *network.left)] == [1, 2, 3, 3, 3]
    assert [len(stage.layers) for stage in network.right] == [3, 3, 2, 1]


def test_it_has_the_parameters_of_milletari_2016() -> None:
    features = (16, 32, 64, 128, 256)
    network = build_network(plan(features, norm="none"), 1, 2, 3)
    count = 125 * 16 + 16 + 16  # 5x5x5 convolution with bias, one PReLU slope a channel
    for width, convolutions in zip(features[1:], (2, 3, 3, 3), strict=True):
        count += 8 * width // 2 * width + width + width  # 2x2x2 step down, bias, PReLU
        count += convolutions * (125 * width * width + width + width)
    below = 256
    for width, convolutions in ((128, 3), (64, 3), (32, 2), (16, 1)):
        count += 8 * below * width + width + width  # 2x2x2 step up
        below = 2 * width
        count += convolutions * (125 * below * below + below + below)
    count += 32 * 2 + 2  # 1x1x1 head
    assert parameters(network) == count
    assert 60e6 < count < 70e6


def without_last_activation(convolutions: nn.Module) -> nn.Module:
    """The peer activates before it adds the input, too; the publication does not. A slope of 1 is no activation."""
    convolutions[-1].act_function = nn.Identity()
    return convolutions


@pytest.mark.parametrize(("dims", "channels"), [(3, 1), (3, 4), (2, 2)])
def test_it_equals_monais_with_the_same_weights_and_numbers_of_convolutions(
    transplant: Callable[..., None], dims: int, channels: int
) -> None:
    torch.manual_seed(0)
    network = VNet(plan((16, 32, 64, 128, 256), dims, norm="batch"), channels, dims, (1, 1, 2, 3, 2), (1, 1, 2, 2))
    peer = Peer(dims, channels, 2, act="prelu", dropout_prob_down=None, dropout_prob_up=(None, 0.0), dropout_dim=dims)
    transplant([peer.in_tr.conv_block, peer.in_tr.act_function], [network.first])
    for down, step, stage in zip(
        (peer.down_tr32, peer.down_tr64, peer.down_tr128, peer.down_tr256), network.down, network.left, strict=True
    ):
        transplant([down.down_conv, down.bn1, down.act_function1], [step])
        transplant([without_last_activation(down.ops), down.act_function2], [stage])
    for up, step, stage in zip((peer.up_tr256, peer.up_tr128, peer.up_tr64, peer.up_tr32), network.up, network.right, strict=True):
        transplant([up.up_conv, up.bn1, up.act_function1], [step])
        transplant([without_last_activation(up.ops), up.act_function2], [stage])
    for module in peer.modules():
        if isinstance(module, (nn.Dropout2d, nn.Dropout3d)):
            module.p = 0.0  # two of them are 0.5 whatever the arguments
    peer.out_tr = nn.Identity()  # two more convolutions, not in the publication
    x = torch.randn(2, channels, *(32, 16, 16)[:dims])
    with torch.no_grad():
        for training in (False, True):
            mine, theirs = network.train(training)(x)[0], peer.train(training)(x)
            torch.testing.assert_close(mine, theirs, atol=1e-3 * float(theirs.std()), rtol=1e-3)


def test_it_has_monais_45_6_million_parameters_where_both_have_the_same_layers() -> None:
    network = VNet(plan((16, 32, 64, 128, 256), norm="batch"), 1, 3, (1, 1, 2, 3, 2), (1, 1, 2, 2))
    peer = Peer(3, 1, 2, act="prelu")
    assert round(parameters(peer) / 1e6, 1) == 45.6
    # slopes after the last convolution of each stage but the first; biases of the steps up, before a normalisation
    slopes = sum((32, 64, 128, 256)) + sum((256, 128, 64, 32))
    biases = sum((128, 64, 32, 16))
    assert parameters(peer) - parameters(peer.out_tr) - slopes - biases == parameters(network)


@pytest.mark.parametrize("channels", [1, 2, 3, 5, 7, 20])
def test_the_first_stage_adds_any_number_of_channels(channels: int) -> None:
    torch.manual_seed(0)
    network = build_network(plan((4, 6)), channels, 2, 3)
    assert network.backbone.first.repeat == (channels <= 4 and 4 % channels == 0)
    assert network(torch.randn(1, channels, 4, 6, 4)).shape == (1, 2, 4, 6, 4)


def test_repeated_channels_follow_each_other() -> None:
    torch.manual_seed(0)
    first = build_network(plan((4, 6), norm="none"), 2, 2, 3).backbone.first
    nn.init.zeros_(first.layers[0].conv.weight)
    x = torch.rand(1, 2, 2, 2, 2)
    torch.testing.assert_close(first(x), x.repeat(1, 2, 1, 1, 1))
