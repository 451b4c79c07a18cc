"""Without a GPU a step's loss is that of its heads; what a graph can hold is decided by plan and settings."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import torch

from segpipe.network.build import build_network
from segpipe.plan.plan import Plan
from segpipe.settings import TrainingSettings
from segpipe.training.loss import loss_of, supervised
from segpipe.training.step_loss import StepLoss


def test_on_a_cpu_it_is_the_loss_of_the_heads(make_plan: Callable[[int], Plan]) -> None:
    plan = make_plan(3)
    torch.manual_seed(0)
    network = build_network(plan.network, 1, plan.classes, 3)
    loss = loss_of(plan, TrainingSettings())
    image, label = torch.randn(2, 1, 8, 8, 8), torch.randint(0, 2, (2, 8, 8, 8))
    found = StepLoss(network, loss, plan, TrainingSettings())(image, label)
    expected = supervised(loss, network.forward_all(image), label, network.steps)
    assert torch.equal(found, expected)
    found.backward()
    assert all(weight.grad is not None for weight in network.parameters())


@pytest.mark.parametrize(
    ("training", "changes", "wanted"),
    [
        (TrainingSettings(), {}, True),
        (TrainingSettings(cuda_graph=False), {}, False),
        (TrainingSettings(devices=2), {}, False),
        (TrainingSettings(), {"sparse": "z"}, False),
    ],
)
def test_graphs_are_wanted_for_one_gpu_and_whole_label_maps(
    make_plan: Callable[[int], Plan], training: TrainingSettings, changes: dict[str, str], wanted: bool
) -> None:
    plan = dataclasses.replace(make_plan(3), **changes)  # type: ignore[arg-type]
    step_loss = StepLoss(build_network(plan.network, 1, plan.classes, 3), loss_of(plan, training), plan, training)
    assert step_loss._captured._wanted == wanted


def test_another_network_is_never_recorded(make_plan: Callable[[int], Plan], network: torch.nn.Module) -> None:
    network.steps = [[1, 1, 1]]  # type: ignore[assignment]
    plan = make_plan(3)
    assert not StepLoss(network, loss_of(plan, TrainingSettings()), plan, TrainingSettings())._captured._wanted
