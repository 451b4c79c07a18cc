"""Arithmetic on channels-last maps against plain torch."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from segpipe.network.activation import PReLU
from segpipe.network.layout import add_scaled_, channels_last, is_channels_last, scaled, summed, to_rows, voxels_a_row
from segpipe.network.normalisation import InstanceNorm

SHAPES = st.tuples(st.integers(1, 3), st.integers(1, 40), st.integers(1, 7), st.integers(1, 7), st.integers(1, 7))


@settings(max_examples=60, deadline=None)
@given(shape=SHAPES, dims=st.sampled_from([2, 3]))
def test_channels_last_keeps_shape_and_values(shape: tuple[int, ...], dims: int) -> None:
    x = torch.randn(shape[: dims + 2])
    y = channels_last(x)
    assert torch.equal(x, y)
    assert y.movedim(1, -1).is_contiguous()
    assert is_channels_last(y) == (y.shape[1] > 1 and y[0, 0].numel() > 1)
    assert not is_channels_last(x.contiguous())


@given(voxels=st.integers(1, 100_000), channels=st.integers(1, 3000))
def test_a_row_holds_whole_voxels_and_rows_hold_all(voxels: int, channels: int) -> None:
    count = voxels_a_row(voxels, channels)
    assert voxels % count == 0
    assert count == 1 or count * channels <= 1024


@settings(max_examples=60, deadline=None)
@given(shape=SHAPES, one=st.booleans())
def test_scaling_and_summing_equal_broadcasting(shape: tuple[int, ...], one: bool) -> None:
    rows = to_rows(channels_last(torch.randn(shape, dtype=torch.float64)))
    scale, shift = torch.randn(2, 1 if one else shape[0], shape[1], dtype=torch.float64)
    torch.testing.assert_close(scaled(rows, scale, shift), rows * scale[:, None] + shift[:, None])
    torch.testing.assert_close(add_scaled_(rows.clone(), rows, scale), rows + rows * scale[:, None])
    torch.testing.assert_close(summed(rows), rows.sum(1))


def test_sums_of_bfloat16_are_as_good_as_in_float32() -> None:
    rows = (torch.randn(2, 40 * 56 * 40, 16) + 0.5).bfloat16()
    torch.testing.assert_close(summed(rows), rows.float().sum(1), rtol=1e-3, atol=0)


LAYERS = [(InstanceNorm, nn.InstanceNorm3d), (PReLU, lambda channels, affine: nn.PReLU(channels))]


@pytest.mark.parametrize(("own", "peer"), LAYERS)
@pytest.mark.parametrize("shape", [(2, 6, 5, 4, 3), (2, 16, 13, 10, 9), (1, 130, 2, 2, 2), (3, 20, 12, 11, 8)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_layers_and_gradients_with_channels_last_equal_torchs(own: type, peer: type, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    mine, theirs = own(shape[1]), peer(shape[1], affine=True)
    with torch.no_grad():
        for parameter, other in zip(mine.parameters(), theirs.parameters(), strict=True):
            parameter.copy_(torch.randn(parameter.shape))
            other.copy_(parameter)
    x, up = torch.randn(shape).add(1).to(dtype), torch.randn(shape).to(dtype)
    a, b = channels_last(x).requires_grad_(), x.float().requires_grad_()
    y, z = mine(a), theirs(b)
    assert y.dtype == dtype
    assert y.movedim(1, -1).is_contiguous()
    y.backward(channels_last(up))
    z.backward(up.float())
    close = 1e-4 if dtype == torch.float32 else 0.03
    pairs = [(y, z), (a.grad, b.grad)] + [(p.grad, q.grad) for p, q in zip(mine.parameters(), theirs.parameters(), strict=True)]
    for found, expected in pairs:
        assert float((found.detach().float() - expected.detach()).norm()) <= close * float(expected.detach().norm())


@pytest.mark.parametrize("layer", [InstanceNorm(3), PReLU(3), nn.Sequential(InstanceNorm(3), nn.LeakyReLU(0.01, inplace=True), PReLU(3))])
def test_gradients_equal_finite_differences(layer: nn.Module) -> None:
    torch.manual_seed(0)
    layer = layer.double()
    parameters = [torch.randn(3, dtype=torch.float64, requires_grad=True) for _ in layer.parameters()]
    names = [name for name, _ in layer.named_parameters()]
    x = channels_last(torch.randn(2, 3, 3, 2, 2, dtype=torch.float64)).requires_grad_()

    def apply(x: torch.Tensor, *values: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), (channels_last(x),))

    assert torch.autograd.gradcheck(apply, (x, *parameters))


def test_an_activation_in_place_follows_instance_norm() -> None:
    torch.manual_seed(0)
    x = channels_last(torch.randn(2, 4, 3, 3)).requires_grad_()
    layer = InstanceNorm(4)
    nn.functional.leaky_relu_(layer(x), 0.1).square().sum().backward()
    found, x.grad = x.grad, None
    nn.functional.leaky_relu(layer(x), 0.1).square().sum().backward()
    torch.testing.assert_close(found, x.grad)


@pytest.mark.parametrize("sizes", [(4, 4, 4), (16, 16, 16)])
def test_statistics_hold_for_a_channel_whose_mean_is_five_deviations(sizes: tuple[int, ...]) -> None:
    # mean of squares less square of mean, as torch's kernel takes it: a mean of 500 deviations would be too far for float32
    x = torch.randn(2, 16, *sizes, generator=torch.Generator().manual_seed(0)) + 5
    torch.testing.assert_close(InstanceNorm(16)(channels_last(x)), nn.InstanceNorm3d(16)(x), atol=1e-3, rtol=0)
