"""OpenVINO computes what torch does, of every kind of network, in any size."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from segpipe.errors import ModelError
from segpipe.network.build import build_network
from segpipe.package.ensemble_network import EnsembleNetwork
from segpipe.package.extra import installed
from segpipe.package.openvino_network import from_torch
from segpipe.package.torchscript import load_network, script_bytes
from segpipe.plan.plan import NetworkPlan

pytestmark = pytest.mark.skipif(not installed("openvino"), reason="needs the extra `cpu`")


def scripted(network: nn.Module) -> nn.Module:
    return load_network(script_bytes(network, {}), "cpu")[0]


@pytest.mark.parametrize(
    ("name", "dims", "norm", "activation", "padding", "members"),
    [
        ("unet", 3, "instance", "leaky_relu", "zeros", 2),
        ("unet", 3, "batch", "elu", "reflect", 1),
        ("unet", 2, "group", "relu", "replicate", 1),
        ("vnet", 3, "instance", "prelu", "zeros", 1),
        ("vnet", 2, "none", "prelu", "reflect", 2),
    ],
)
def test_it_gives_the_logits_of_the_script(name: str, dims: int, norm: str, activation: str, padding: str, members: int) -> None:
    torch.manual_seed(0)
    told = {"norm": norm, "activation": activation, "padding": padding}
    spec = NetworkPlan(name, (4, 8), ((3,) * dims,) * 2, ((1,) * dims, (2,) * dims), deep_supervision=True, **told)  # type: ignore[arg-type]
    networks = [build_network(spec, 2, 3, dims).eval() for _ in range(members)]
    script = scripted(networks[0] if members == 1 else EnsembleNetwork(networks).eval())
    found = from_torch(script)
    for shape in ((3, 2, 8, 12, 6), (1, 2, 7, 9, 5)):
        image = torch.randn(shape[: dims + 2])
        with torch.inference_mode():
            torch.testing.assert_close(found(image), script(image), atol=1e-4, rtol=1e-4)


def test_the_scripted_network_is_left_as_it_was() -> None:
    script = scripted(build_network(NetworkPlan("unet", (4, 8), ((3, 3),) * 2, ((1, 1), (2, 2))), 1, 2, 2).eval())
    before, image = {name: value.clone() for name, value in script.state_dict().items()}, torch.randn(1, 1, 6, 6)
    expected = script(image)
    from_torch(script)(image)
    assert all(torch.equal(value, before[name]) and value.device.type == "cpu" for name, value in script.state_dict().items())
    torch.testing.assert_close(script(image), expected)


def test_what_a_map_far_from_zero_needs_is_kept() -> None:
    """Variance as the mean square less the squared mean would be noise here."""
    torch.manual_seed(0)
    script = scripted(build_network(NetworkPlan("unet", (4, 8), ((3, 3, 3),) * 2, ((1, 1, 1), (2, 2, 2))), 1, 2, 3).eval())
    image = torch.randn(1, 1, 16, 16, 16) + 300
    with torch.inference_mode():
        torch.testing.assert_close(from_torch(script)(image), script(image), atol=2e-2, rtol=1e-2)


class LooksAtVoxels(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if bool(x.mean() > 0):
            return torch.cat([x, x], 1)
        return torch.cat([x, -x], 1)


def test_a_network_whose_way_depends_on_the_voxels_is_told() -> None:
    with pytest.raises(ModelError, match="OpenVINO cannot take the network: .*use --runtime torch") as caught:
        from_torch(scripted(LooksAtVoxels()))(torch.zeros(1, 1, 4, 4))
    assert "\n" not in str(caught.value)
