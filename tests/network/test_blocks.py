"""Convolutions on maps that are narrower than their kernels."""

from __future__ import annotations

import pytest
import torch

from segpipe.network.blocks import ConvBlock
from segpipe.network.layout import channels_last
from segpipe.plan.plan import NetworkPlan

PLAN = NetworkPlan("unet", (1,), ((1,),), ((1,),), norm="none")


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("kernel", [(3, 3, 3), (5, 5, 5), (1, 5, 3)])
@pytest.mark.parametrize("sizes", [(1, 1, 1), (2, 2, 2), (2, 4, 4), (4, 4, 2), (3, 3, 2), (4, 6, 6), (6, 1, 6)])
@pytest.mark.parametrize("stride", [1, 2])
def test_bfloat16_gradients_of_a_narrow_map_equal_float64s(
    sizes: tuple[int, ...], kernel: tuple[int, ...], stride: int, last: bool
) -> None:
    torch.manual_seed(0)
    block = ConvBlock(PLAN, (16, 16), kernel, (stride,) * 3, "")
    block.conv.weight.data = block.conv.weight.data.bfloat16().float()
    x = torch.randn(2, 16, *(size * stride for size in sizes)).bfloat16()
    x = channels_last(x) if last else x
    exact = block.double()(x.double())
    up = torch.randn(exact.shape).bfloat16()
    expected = torch.autograd.grad(exact, block.conv.weight, up.double())[0]
    block.float()
    with torch.autocast("cpu", torch.bfloat16):
        y = block(x)
    found = torch.autograd.grad(y, block.conv.weight, up)[0]
    torch.testing.assert_close(y.double(), exact, atol=0.05, rtol=0.02)
    assert float((found - expected).norm()) < 0.02 * float(expected.norm())
