"""torch.compile can follow every network as a whole, and it gives the same numbers then."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from segpipe.network.build import build_network
from segpipe.plan.plan import NetworkPlan


@pytest.mark.parametrize(
    ("name", "dims", "changes"),
    [
        ("unet", 3, {"norm": "instance"}),
        ("unet", 2, {"norm": "group", "block": "residual", "activation": "prelu"}),
        ("unet", 3, {"norm": "batch", "padding": "reflect", "pooling": "max"}),
        ("vnet", 3, {"norm": "instance"}),
        ("vnet", 2, {"norm": "none"}),
    ],
)
def test_networks_are_followed_as_a_whole_and_learn_the_same(name: str, dims: int, changes: dict[str, Any]) -> None:
    torch._dynamo.reset()
    torch.manual_seed(0)
    plan = NetworkPlan(name, (4, 8), ((3,) * dims,) * 2, ((1,) * dims, (2,) * dims), deep_supervision=True, **changes)
    network, image = build_network(plan, 2, 3, dims), torch.randn(2, 2, *[7, 6, 5][:dims])
    followed = torch.compile(network.forward_all, fullgraph=True, dynamic=False, backend="eager")
    weights = list(network.parameters())
    found, expected = (
        torch.autograd.grad(sum(head.square().mean() for head in heads(image)), weights)  # type: ignore[arg-type]
        for heads in (followed, network.forward_all)
    )
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-3)


def test_a_map_of_one_voxel_is_not_erased_in_compiled_code_either() -> None:
    torch.manual_seed(0)
    network = build_network(NetworkPlan("unet", (4, 8), ((3,) * 3,) * 2, ((1,) * 3, (2,) * 3)), 1, 2, 3).eval()
    image = torch.randn(1, 1, 2, 2, 2)
    followed = torch.compile(network, fullgraph=True, dynamic=False, backend="eager")
    with torch.no_grad():
        torch.testing.assert_close(followed(image), network(image), atol=1e-5, rtol=1e-4)
        assert not torch.allclose(network(image), network(image + torch.randn(1, 1, 2, 2, 2)), atol=1e-3)
