"""Activations by name against torch's functions; the PReLU in every layout, precision and form that a network uses it in."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from segpipe.network.activation import ACTIVATIONS, PReLU
from segpipe.network.layout import channels_last, is_channels_last

PEERS: dict[str, Callable[[Tensor], Tensor]] = {
    "leaky_relu": lambda x: torch.where(x > 0, x, 0.01 * x),
    "relu": lambda x: x.clamp_min(0),
    "prelu": lambda x: torch.where(x > 0, x, 0.25 * x),
    "elu": lambda x: torch.where(x > 0, x, x.exp() - 1),
}


def image(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def slopes(channels: int) -> PReLU:
    """A PReLU with another slope for each channel, negative and above one among them."""
    layer = PReLU(channels)
    with torch.no_grad():
        layer.weight.copy_(torch.linspace(-0.5, 1.5, channels))
    return layer


def test_every_name_has_a_reference_here() -> None:
    assert sorted(ACTIVATIONS) == sorted(PEERS)


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("name", PEERS)
def test_each_activation_does_what_its_name_says(name: str, last: bool) -> None:
    x = image(2, 6, 5, 4, 3)
    expected = PEERS[name](x)
    found = ACTIVATIONS[name](6)(channels_last(x) if last else x.clone())
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("shape", [(2, 3, 5, 4), (1, 7, 3, 4, 2), (2, 1, 4, 4), (1, 5, 1, 1, 1), (3, 130, 2, 2)])
@pytest.mark.parametrize("last", [False, True])
def test_prelu_and_its_gradients_have_one_slope_a_channel_in_either_layout(shape: tuple[int, ...], last: bool) -> None:
    layer, up = slopes(shape[1]).double(), image(*shape).double().flip(1)
    x = image(*shape).double()
    mine = (channels_last(x) if last else x.clone()).requires_grad_()
    theirs, weight = x.clone().requires_grad_(), layer.weight.detach().clone().requires_grad_()
    found, expected = layer(mine), functional.prelu(theirs, weight)
    found.backward(up)
    expected.backward(up)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(mine.grad, theirs.grad)
    torch.testing.assert_close(layer.weight.grad, weight.grad)


def test_prelu_keeps_layout_and_dtype_and_leaves_its_input_alone() -> None:
    x = channels_last(image(2, 6, 5, 4)).bfloat16()
    before = x.clone()
    with torch.no_grad():
        y = slopes(6)(x)
    assert y.dtype == torch.bfloat16
    assert is_channels_last(y)
    assert torch.equal(x, before)
    assert slopes(6)(before.contiguous()).is_contiguous()


@pytest.mark.parametrize("last", [False, True])
def test_the_scripted_prelu_equals_the_eager_one(last: bool) -> None:
    layer = slopes(6)
    x = channels_last(image(2, 6, 5, 4, 3)) if last else image(2, 6, 5, 4, 3)
    with pytest.warns(DeprecationWarning, match="torch.jit"):
        scripted = torch.jit.script(layer)
    with torch.no_grad():
        torch.testing.assert_close(scripted(x), layer(x), rtol=0, atol=0)
