"""Normalisation layers against torch's own, and on maps where torch's own fail."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from segpipe.network.layout import channels_last
from segpipe.network.normalisation import NORMS, BatchNorm, GroupNorm, InstanceNorm, make_norm

SHAPES = [(2, 6, 5, 4, 3), (1, 16, 2, 1, 1), (3, 5, 7, 6), (1, 1, 4, 4)]


def parameters_like(layer: nn.Module, peer: nn.Module) -> None:
    """Random scale and shift, the same in both."""
    with torch.no_grad():
        for mine, other in ((layer.weight, peer.weight), (layer.bias, peer.bias)):
            mine.copy_(torch.randn(mine.shape))
            other.copy_(mine)


def gradients(layer: nn.Module, x: torch.Tensor, towards: torch.Tensor) -> list[torch.Tensor]:
    x = x.clone().requires_grad_()
    layer.zero_grad()
    y = layer(x)
    (y.float() * towards).sum().backward()
    return [y.detach(), x.grad, layer.weight.grad.clone(), layer.bias.grad.clone()]


@pytest.mark.parametrize("shape", SHAPES)
def test_instance_norm_and_its_gradients_equal_torchs(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    kind = nn.InstanceNorm3d if len(shape) == 5 else nn.InstanceNorm2d
    layer, peer = InstanceNorm(shape[1]), kind(shape[1], affine=True)
    parameters_like(layer, peer)
    x, towards = torch.randn(shape) * 3 + 1, torch.randn(shape)
    for mine, other in zip(gradients(layer, x, towards), gradients(peer, x, towards), strict=True):
        torch.testing.assert_close(mine, other, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("mean", [4.9, -30.0, 1000.0])
@pytest.mark.parametrize("shape", [(2, 8, 16, 16, 16), (1, 32, 16, 16, 16), (2, 32, 8, 8, 8), (2, 16, 64, 64)])
def test_instance_norm_with_channels_last_is_exact_far_from_zero_too(shape: tuple[int, ...], mean: float) -> None:
    torch.manual_seed(0)
    kind = nn.InstanceNorm3d if len(shape) == 5 else nn.InstanceNorm2d
    layer, peer = InstanceNorm(shape[1]), kind(shape[1], affine=True).double()
    parameters_like(layer, peer)
    x, towards = torch.randn(shape), torch.randn(shape)
    x[:, ::2] += mean  # every second channel only
    peers = [found.float() for found in gradients(peer, x.double(), towards.double())]
    for mine, other in zip(gradients(layer, channels_last(x), towards), peers, strict=True):
        assert (mine - other).abs().max() < 1e-3 * other.abs().max()
    with torch.no_grad():
        assert (layer(channels_last(x)) - peers[0]).abs().max() < 1e-3 * peers[0].abs().max()


@pytest.mark.parametrize("shape", [(1, 4, 8, 8, 8), (2, 32, 16, 16, 16)])
def test_a_constant_channel_far_from_zero_becomes_its_shift(shape: tuple[int, ...]) -> None:
    layer = InstanceNorm(shape[1])
    y = layer(channels_last(torch.full(shape, 300.0)))
    assert torch.equal(y, torch.zeros(shape))


def test_instance_norm_of_bfloat16_keeps_its_statistics_in_float32() -> None:
    torch.manual_seed(0)
    x = (torch.randn(2, 4, 16, 16, 16) + 20).bfloat16()  # bfloat16 sums of 4096 values near 20 would be far off
    layer = InstanceNorm(4)
    y = layer(x)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), layer(x.float()), atol=0.02, rtol=0.01)


def test_batch_norm_equals_torchs_in_training_and_evaluation() -> None:
    torch.manual_seed(0)
    layer, peer = BatchNorm(6), nn.BatchNorm3d(6)
    parameters_like(layer, peer)
    for _ in range(3):
        x = torch.randn(2, 6, 4, 3, 2)
        torch.testing.assert_close(layer(x), peer(x))
    torch.testing.assert_close(layer.running_var, peer.running_var)
    torch.testing.assert_close(layer.eval()(x), peer.eval()(x))


@pytest.mark.parametrize(("channels", "groups"), [(1, 1), (2, 1), (4, 2), (5, 1), (6, 2), (8, 4), (12, 4), (16, 8), (96, 8)])
def test_group_norm_equals_torchs_with_groups_of_two_channels_or_more(channels: int, groups: int) -> None:
    torch.manual_seed(0)
    layer, peer = GroupNorm(channels), nn.GroupNorm(groups, channels)
    parameters_like(layer, peer)
    x = torch.randn(2, channels, 4, 3)
    torch.testing.assert_close(layer(x), peer(x))


@pytest.mark.parametrize("name", [name for name in NORMS if name != "none"])
@pytest.mark.parametrize("channels", [1, 5, 8])
def test_a_map_of_one_voxel_trains_and_keeps_its_signal(name: str, channels: int) -> None:
    torch.manual_seed(0)
    layer = make_norm(name, channels).train()
    x = torch.randn(1, channels, 1, 1, 1, requires_grad=True)
    y = layer(x)
    y.square().sum().backward()
    assert torch.isfinite(y).all()
    assert y.detach().abs().max() > 0
    assert torch.isfinite(x.grad).all()
