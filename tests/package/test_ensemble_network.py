"""Several networks as one: its softmax is the mean of theirs, scripted as well."""

import torch

from segpipe.network.build import build_network
from segpipe.package.ensemble_network import EnsembleNetwork
from segpipe.plan.plan import NetworkPlan


def test_the_softmax_is_the_mean_of_the_members_softmaxes() -> None:
    torch.manual_seed(0)
    spec = NetworkPlan("unet", (4, 8), ((3, 3),) * 2, ((1, 1), (2, 2)), deep_supervision=True)
    members = [build_network(spec, 1, 3, 2).eval() for _ in range(3)]
    ensemble, image = EnsembleNetwork(members).eval(), torch.randn(2, 1, 13, 9)
    with torch.no_grad():
        expected = torch.stack([member(image).softmax(1) for member in members]).mean(0)
        torch.testing.assert_close(ensemble(image).softmax(1), expected)
        torch.testing.assert_close(torch.jit.script(ensemble)(image), ensemble(image))


def test_a_class_that_no_member_believes_in_stays_finite() -> None:
    class Sure(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.cat([x * 0 + 500, x * 0 - 500], 1)

    assert torch.isfinite(EnsembleNetwork([Sure(), Sure()])(torch.zeros(1, 1, 4, 4))).all()


def test_of_regions_the_sigmoid_is_the_mean_of_the_members_sigmoids() -> None:
    torch.manual_seed(0)
    members = [torch.nn.Conv2d(1, 3, 3, padding=1).eval() for _ in range(3)]
    ensemble, image = EnsembleNetwork(members, regions=True).eval(), torch.randn(2, 1, 13, 9)
    with torch.no_grad():
        expected = torch.stack([member(image).sigmoid() for member in members]).mean(0)
        torch.testing.assert_close(ensemble(image).sigmoid(), expected)
        torch.testing.assert_close(torch.jit.script(ensemble)(image), ensemble(image))
        assert torch.isfinite(ensemble(1e6 * image)).all()
