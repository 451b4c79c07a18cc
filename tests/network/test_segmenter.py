"""Any size, script and trace, gradients, precision: what holds for both networks."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from segpipe.network.build import build_network
from segpipe.network.segmenter import Segmenter
from segpipe.plan.plan import NetworkPlan

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning", "ignore::torch.jit.TracerWarning")

UNET3D = NetworkPlan("unet", (4, 6, 8), ((3, 3, 3),) * 3, ((1, 1, 1), (2, 2, 2), (2, 2, 2)))
UNET2D = NetworkPlan("unet", (4, 6, 8), ((3, 3),) * 3, ((1, 1), (2, 2), (2, 2)), activation="elu", pooling="max")
THICK = NetworkPlan("unet", (4, 6, 8), ((1, 3, 3), (1, 3, 3), (3, 3, 3)), ((1, 1, 1), (1, 2, 2), (2, 2, 2)), block="residual")
VNET3D = NetworkPlan("vnet", (4, 6, 8), ((5, 5, 5),) * 3, ((1, 1, 1), (2, 2, 2), (2, 2, 2)))
VNET2D = NetworkPlan("vnet", (4, 6, 8), ((5, 5),) * 3, ((1, 1), (2, 2), (2, 2)), norm="batch")
VTHICK = NetworkPlan("vnet", (4, 6), ((1, 5, 5), (5, 5, 5)), ((1, 1, 1), (1, 2, 2)), norm="group", padding="reflect")
PLANS = {"unet3d": UNET3D, "unet2d": UNET2D, "unet-thick": THICK, "vnet3d": VNET3D, "vnet2d": VNET2D, "vnet-thick": VTHICK}


def network(spec: NetworkPlan, channels: int = 1, classes: int = 3) -> Segmenter:
    torch.manual_seed(0)
    return build_network(spec, channels, classes, len(spec.strides[0]))


def image(spec: NetworkPlan, *sizes: int, channels: int = 1, batch: int = 1) -> torch.Tensor:
    return torch.randn(batch, channels, *sizes[: len(spec.strides[0])], generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("spec", PLANS.values(), ids=PLANS)
@pytest.mark.parametrize(("channels", "classes"), [(1, 2), (3, 1), (5, 4)])
def test_logits_have_the_inputs_size_for_any_channels_and_classes(spec: NetworkPlan, channels: int, classes: int) -> None:
    x = image(spec, 7, 6, 9, channels=channels, batch=2)
    assert network(spec, channels, classes)(x).shape == (2, classes, *x.shape[2:])


@pytest.mark.parametrize("spec", PLANS.values(), ids=PLANS)
def test_the_scripted_network_equals_the_eager_one_on_sizes_that_fit_and_that_do_not(spec: NetworkPlan) -> None:
    eager = network(spec, 2).eval()
    scripted = torch.jit.script(eager)
    with torch.no_grad():
        for sizes in ((8, 8, 8), (7, 5, 9), (1, 1, 1), (2, 3, 1), (16, 4, 12)):
            x = image(spec, *sizes, channels=2)
            torch.testing.assert_close(scripted(x), eager(x), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("traced_at", [(8, 8, 8), (7, 5, 9), (1, 1, 1)])
@pytest.mark.parametrize("padding", ["zeros", "reflect", "replicate"])
@pytest.mark.parametrize("spec", PLANS.values(), ids=PLANS)
def test_a_network_traced_at_one_size_equals_the_eager_one_at_all_sizes(
    spec: NetworkPlan, padding: str, traced_at: tuple[int, int, int]
) -> None:
    eager = network(dataclasses.replace(spec, padding=padding)).eval()
    with torch.no_grad():
        traced = torch.jit.trace(eager, image(spec, *traced_at))
        for sizes in (traced_at, (17, 19, 13), (1, 2, 3), (16, 4, 12)):
            x = image(spec, *sizes, batch=2) + 1
            torch.testing.assert_close(traced(x), eager(x), atol=1e-5, rtol=1e-5)


def test_a_network_traced_within_another_works_at_all_sizes() -> None:
    whole = nn.Sequential(nn.Conv3d(1, 2, 1), nn.ReLU(), network(dataclasses.replace(VNET3D, padding="reflect"), 2)).eval()
    with torch.no_grad():
        traced = torch.jit.trace(whole, image(VNET3D, 16, 16, 16))
        for sizes in ((17, 19, 13), (2, 5, 1), (16, 16, 16)):
            torch.testing.assert_close(traced(image(VNET3D, *sizes)), whole(image(VNET3D, *sizes)), atol=1e-5, rtol=1e-5)


@settings(max_examples=25, deadline=None)
@given(sizes=st.tuples(*(st.integers(1, 13),) * 3), name=st.sampled_from(sorted(PLANS)))
def test_a_size_that_does_not_fit_is_the_image_continued_by_its_last_voxels(sizes: tuple[int, int, int], name: str) -> None:
    spec = PLANS[name]
    model = network(spec).eval()
    x = image(spec, *sizes)
    wide = x
    for axis, step in enumerate(model.divisor):  # plain reference: append the last plane until the size fits
        while wide.shape[axis + 2] % step:
            wide = torch.cat([wide, wide.narrow(axis + 2, wide.shape[axis + 2] - 1, 1)], axis + 2)
    with torch.no_grad():
        expected = model(wide)[(..., *(slice(size) for size in x.shape[2:]))]
        torch.testing.assert_close(model(x), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("spec", PLANS.values(), ids=PLANS)
def test_gradients_reach_every_parameter(spec: NetworkPlan) -> None:
    model = network(spec, 3).train()
    sum(head.square().mean() for head in model.forward_all(image(spec, 8, 8, 8, channels=3, batch=2))).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("norm", ["instance", "batch", "group", "none"])
@pytest.mark.parametrize("spec", [UNET3D, VNET3D], ids=["unet", "vnet"])
def test_a_bottleneck_of_one_voxel_trains(spec: NetworkPlan, norm: str) -> None:
    spec = NetworkPlan(spec.name, spec.features, spec.kernels, spec.strides, norm=norm)
    model = network(spec).train()
    model(image(spec, 4, 4, 4)).square().mean().backward()
    for name, parameter in model.named_parameters():
        assert torch.isfinite(parameter.grad).all(), name
        assert norm == "group" or parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("spec", PLANS.values(), ids=PLANS)
def test_bfloat16_autocast_is_close_to_float32_forward_and_backward(spec: NetworkPlan) -> None:
    model, x = network(spec).train(), image(spec, 16, 16, 8, batch=2)
    exact = model(x)
    exact.square().mean().backward()
    expected = torch.cat([parameter.grad.flatten() for parameter in model.parameters()])
    model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        y = model(x)
    assert y.dtype == torch.bfloat16
    y.float().square().mean().backward()
    found = torch.cat([parameter.grad.flatten() for parameter in model.parameters()])
    assert (y.float() - exact).abs().mean() < 0.05 * exact.abs().mean()
    assert torch.nn.functional.cosine_similarity(found, expected, 0) > 0.97


@pytest.mark.parametrize("spec", PLANS.values(), ids=PLANS)
def test_evaluation_is_deterministic_and_leaves_the_input_alone(spec: NetworkPlan) -> None:
    spec = NetworkPlan(spec.name, spec.features, spec.kernels, spec.strides, norm=spec.norm, dropout=0.5)
    model, x = network(spec).eval(), image(spec, 7, 6, 5)
    before = x.clone()
    with torch.no_grad():
        assert torch.equal(model(x), model(x))
    assert torch.equal(x, before)
    assert not torch.equal(model.train()(x), model(x))


def test_deep_supervision_gives_a_head_for_all_stages_but_the_coarsest() -> None:
    spec = NetworkPlan("unet", (4, 5, 6, 7), ((3, 3, 3),) * 4, ((1, 1, 1), (1, 2, 2), (2, 2, 2), (2, 2, 2)), deep_supervision=True)
    model, x = network(spec), image(spec, 8, 16, 20)
    heads = model.forward_all(x)
    assert [tuple(head.shape[2:]) for head in heads] == [(8, 16, 20), (8, 8, 10), (4, 4, 5)]
    assert torch.equal(heads[0], model(x))
    assert [tuple(head.shape[2:]) for head in model.forward_all(image(spec, 3, 5, 7))] == [(3, 5, 7), (3, 3, 4), (2, 2, 2)]


@pytest.mark.parametrize("name", ["unet", "vnet"])
def test_a_network_with_deep_supervision_scripts_and_gives_the_finest_head(name: str) -> None:
    spec = NetworkPlan(name, (4, 5, 6), ((3, 3),) * 3, ((1, 1), (2, 2), (2, 2)), deep_supervision=True)
    model = network(spec).eval()
    x = image(spec, 9, 6)
    torch.testing.assert_close(torch.jit.script(model)(x), model.forward_all(x)[0])


def test_without_deep_supervision_there_is_one_head() -> None:
    model, x = network(UNET3D), image(UNET3D, 8, 8, 8)
    heads = model.forward_all(x)
    assert len(heads) == 1
    assert torch.equal(heads[0], model(x))


@pytest.mark.parametrize("padding", ["reflect", "replicate"])
@pytest.mark.parametrize("name", ["unet", "vnet"])
def test_convolutions_continue_the_map_as_torchs_padding_modes_do(name: str, padding: str) -> None:
    spec = NetworkPlan(name, (3, 4), ((5, 3, 1),) * 2, ((1, 1, 1), (2, 2, 1)), padding=padding)
    block = next(module for module in network(spec).modules() if hasattr(module, "pad") and hasattr(module, "conv"))
    peer = nn.Conv3d(1, 3, (5, 3, 1), padding=(2, 1, 0), bias=False, padding_mode=padding)
    peer.weight.data = block.conv.weight.data
    x = image(spec, 6, 4, 5)
    torch.testing.assert_close(block.conv(block.pad(x)), peer(x))


def test_a_map_too_small_to_be_reflected_is_replicated() -> None:
    spec = NetworkPlan("vnet", (3, 4), ((5, 5),) * 2, ((1, 1), (2, 2)), padding="reflect")
    assert torch.isfinite(network(spec)(image(spec, 2, 1))).all()


def test_a_single_stage_is_a_network_too() -> None:
    for name in ("unet", "vnet"):
        spec = NetworkPlan(name, (4,), ((3, 3),), ((1, 1),), deep_supervision=True)
        assert network(spec)(image(spec, 5, 4)).shape == (1, 3, 5, 4)
