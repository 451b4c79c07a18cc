"""The learning module: decay where it belongs, averaging as defined."""

from collections.abc import Callable

import pytest
import torch

from segpipe.network.build import build_network
from segpipe.patches.augment import Augment
from segpipe.plan.plan import Plan
from segpipe.settings import AugmentSettings, TrainingSettings
from segpipe.training.module import SegmentationModule
from segpipe.training.schedule import Budget


def build(plan: Plan, **training: object) -> SegmentationModule:
    torch.manual_seed(0)
    network = build_network(plan.network, 1, plan.classes, plan.dims)
    augment = Augment(AugmentSettings(), plan.dims, plan.flips, plan.patch_size)
    return SegmentationModule(network, plan, augment, TrainingSettings(**training), Budget(max_steps=1), 0)


def test_norms_and_biases_carry_no_weight_decay(make_plan: Callable[[int], Plan]) -> None:
    groups = build(make_plan(3), weight_decay=0.1).configure_optimizers().param_groups
    assert [group["weight_decay"] for group in groups] == [0.1, 0.0]
    assert all(w.ndim > 1 for w in groups[0]["params"])
    assert all(w.ndim <= 1 for w in groups[1]["params"])


@pytest.mark.parametrize(("name", "kind"), [("sgd", torch.optim.SGD), ("adamw", torch.optim.AdamW)])
def test_the_optimiser_has_every_weight_of_the_network_once(make_plan: Callable[[int], Plan], name: str, kind: type) -> None:
    module = build(make_plan(3), optimiser=name)
    optimiser = module.configure_optimizers()
    assert isinstance(optimiser, kind)
    given = [id(w) for group in optimiser.param_groups for w in group["params"]]
    assert sorted(given) == sorted(id(w) for w in module.network.parameters())


def test_the_averaged_network_follows_with_its_decay(make_plan: Callable[[int], Plan]) -> None:
    module = build(make_plan(3), ema=0.9)
    assert module.averaged is not None
    module.averaged.update(module.network)  # the first update copies
    first = next(module.network.parameters()).detach().clone()
    with torch.no_grad():
        for weight in module.network.parameters():
            weight.add_(1.0)
    module.averaged.update(module.network)
    warm = 1 - 2 / 11  # the second update: decay (1 + 1) / (10 + 1)
    assert torch.allclose(next(module.inference_network().parameters()), first + warm, atol=1e-6)


def test_the_average_of_a_long_run_has_the_decay_that_was_asked_for(make_plan: Callable[[int], Plan]) -> None:
    module = build(make_plan(3), ema=0.9)
    assert module.averaged is not None
    module.averaged.update(module.network)
    module.load_state_dict(module.state_dict() | {"averaged.n_averaged": torch.tensor(1000)})
    first = next(module.network.parameters()).detach().clone()
    with torch.no_grad():
        for weight in module.network.parameters():
            weight.add_(1.0)
    module.averaged.update(module.network)
    assert torch.allclose(next(module.inference_network().parameters()), first + 0.1, atol=1e-6)


def test_without_averaging_the_network_itself_is_used(make_plan: Callable[[int], Plan]) -> None:
    module = build(make_plan(3), ema=0.0)
    assert module.inference_network() is module.network
