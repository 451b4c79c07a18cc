"""The U-Net against the published architecture and MONAI's DynUNet and BasicUNet."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from monai.networks.nets import BasicUNet, DynUNet
from torch import nn

from segpipe.network.build import build_network
from segpipe.network.segmenter import Segmenter
from segpipe.plan.plan import NetworkPlan


def plan(features: Sequence[int], dims: int, **options: object) -> NetworkPlan:
    """A U-Net with kernels of 3 and steps of 2."""
    stages = len(features)
    strides = ((1,) * dims,) + ((2,) * dims,) * (stages - 1)
    return NetworkPlan(**{"name": "unet", "features": tuple(features), "kernels": ((3,) * dims,) * stages, "strides": strides} | options)


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def in_order(network: Segmenter) -> list[nn.Module]:
    """Encoder, then each step up with its decoder stage, then heads."""
    unet = network.backbone
    ups = [module for pair in zip(unet.up, unet.decoder, strict=True) for module in pair]
    return [unet.encoder, *ups, network.heads]


def test_it_has_the_31_million_parameters_of_ronneberger_2015() -> None:
    features = (64, 128, 256, 512, 1024)
    network = build_network(plan(features, 2, norm="none", activation="relu", pooling="max"), 1, 2, 2)
    count, below = 0, 1
    for width in features:  # two 3x3 convolutions with bias a stage
        count += 9 * below * width + width + 9 * width * width + width
        below = width
    for width in features[-2::-1]:  # 2x2 up-convolution, then two convolutions, the first of them on the concatenation
        count += 4 * 2 * width * width + width + 9 * 2 * width * width + width + 9 * width * width + width
    count += 64 * 2 + 2  # 1x1 head
    assert parameters(network) == count == 31_030_658


@pytest.mark.parametrize(
    ("dims", "features", "kernel", "strides", "residual"),
    [
        (3, (4, 8, 12), (3, 3, 3), ((1, 1, 1), (2, 2, 2), (2, 2, 2)), False),
        (3, (4, 8, 12), (3, 3, 3), ((1, 1, 1), (2, 2, 2), (2, 2, 2)), True),
        (3, (4, 6, 8, 8), (3, 3, 1), ((1, 1, 1), (2, 2, 1), (2, 2, 1), (1, 2, 2)), False),
        (2, (6, 8, 10), (3, 3), ((1, 1), (2, 2), (2, 1)), False),
        (2, (6, 8, 10), (5, 3), ((1, 1), (2, 2), (2, 2)), True),
    ],
)
def test_it_equals_dynunet_with_the_same_weights(
    transplant: Callable[..., None],
    dims: int,
    features: tuple[int, ...],
    kernel: tuple[int, ...],
    strides: tuple[tuple[int, ...], ...],
    residual: bool,
) -> None:
    torch.manual_seed(0)
    stages = len(features)
    spec = plan(features, dims, kernels=(kernel,) * stages, strides=strides, block="residual" if residual else "plain")
    network = build_network(spec, 2, 3, dims)
    peer = DynUNet(
        dims, 2, 3, (kernel,) * stages, strides, strides[1:], features, norm_name=("INSTANCE", {"affine": True}), res_block=residual
    )
    transplant([peer.input_block, peer.downsamples, peer.bottleneck, *peer.upsamples, peer.output_block], in_order(network))
    assert parameters(network) == parameters(peer)
    x = torch.randn(2, 2, *(16, 24, 8)[:dims])
    torch.testing.assert_close(network.eval()(x), peer.eval()(x), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(network.train()(x), peer.train()(x), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("dims", [2, 3])
def test_it_equals_basicunet_where_both_pool_by_maximum_and_have_biases(transplant: Callable[..., None], dims: int) -> None:
    torch.manual_seed(0)
    features = (4, 8, 16, 32, 64)
    network = build_network(plan(features, dims, norm="none", pooling="max", activation="relu"), 1, 2, dims)
    peer = BasicUNet(dims, 1, 2, (*features, 4), act="relu", norm=None)
    # the peer's last step up keeps its channels (its "halves" is off there): compare what lies below
    names = [peer.conv_0, peer.down_1, peer.down_2, peer.down_3, peer.down_4, peer.upcat_4, peer.upcat_3, peer.upcat_2]
    transplant(names, in_order(network)[:7])
    x = torch.randn(1, 1, *(32, 16, 48)[:dims])
    skips = [peer.conv_0(x)]
    for down in (peer.down_1, peer.down_2, peer.down_3, peer.down_4):
        skips.append(down(skips[-1]))
    y = skips[4]
    # the peer joins skip | up, and not up | skip: exchange the halves of the weights
    for up, below in ((peer.upcat_4, 3), (peer.upcat_3, 2), (peer.upcat_2, 1)):
        weight = up.convs.conv_0.conv.weight.data
        up.convs.conv_0.conv.weight.data = torch.cat(weight.chunk(2, 1)[::-1], 1)
        y = up(y, skips[below])
    torch.testing.assert_close(network.backbone(x)[1], y, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("pooling", ["stride", "max", "average"])
@pytest.mark.parametrize("block", ["plain", "residual"])
def test_each_stage_has_its_features_and_its_size(pooling: str, block: str) -> None:
    spec = plan(
        (4, 6, 8), 3, pooling=pooling, block=block, strides=((1, 1, 1), (1, 2, 2), (2, 2, 4)), kernels=((1, 3, 3), (3, 3, 3), (3, 5, 3))
    )
    maps = build_network(spec, 1, 2, 3).backbone(torch.randn(1, 1, 4, 8, 16))
    assert [tuple(level.shape) for level in maps] == [(1, 4, 4, 8, 16), (1, 6, 4, 4, 8), (1, 8, 2, 2, 2)]


@pytest.mark.parametrize("convolutions", [1, 2, 4])
@pytest.mark.parametrize("block", ["plain", "residual"])
def test_the_number_of_convolutions_a_stage_is_a_setting(convolutions: int, block: str) -> None:
    network = build_network(plan((4, 6), 2, convolutions=convolutions, block=block), 1, 2, 2)
    for stage in (*network.backbone.encoder, *network.backbone.decoder):
        kernels = [layer.kernel_size for layer in stage.modules() if isinstance(layer, nn.Conv2d)]
        assert kernels.count((3, 3)) == convolutions


def test_max_and_average_pooling_do_what_their_names_say() -> None:
    x = torch.arange(16.0).view(1, 1, 4, 4)
    for pooling, expected in (("max", [[5, 7], [13, 15]]), ("average", [[2.5, 4.5], [10.5, 12.5]])):
        network = build_network(plan((1, 1), 2, pooling=pooling), 1, 2, 2)
        assert network.backbone.encoder[1][0](x)[0, 0].tolist() == expected
