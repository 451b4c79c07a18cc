"""Validation gives a network that is right a Dice of one, in 2D and 3D, and leaves the network as it was."""

import dataclasses
import math
from collections.abc import Callable

import pytest
import torch
from torch import nn

from segpipe.package.precision import Compute
from segpipe.plan.plan import Label, Plan, Region
from segpipe.settings import InferenceSettings
from segpipe.training.data import TrainingCase
from segpipe.training.validation import CaseDice, bf16_agreement, class_means, mean_dice, validate


@pytest.mark.parametrize("dims", [2, 3])
def test_a_network_that_is_right_has_a_dice_of_one(
    network: nn.Module, make_plan: Callable[[int], Plan], make_case: Callable[[str], TrainingCase], dims: int
) -> None:
    seen: list[str] = []
    window, compute = InferenceSettings(0.5, 3), Compute("cpu", False)
    cases = [make_case("a"), make_case("b")]
    scores = validate(network.train(), cases, make_plan(dims), window, compute, lambda case, _: seen.append(case.name))
    assert [score.dice for score in scores] == [[1.0], [1.0]]
    assert seen == ["a", "b"]
    assert network.training


def test_a_network_that_is_wrong_everywhere_has_a_dice_of_zero(
    network: nn.Module, make_plan: Callable[[int], Plan], make_case: Callable[[str], TrainingCase]
) -> None:
    with torch.no_grad():
        network.scale.fill_(-1.0)  # type: ignore[union-attr, operator]
    assert mean_dice(validate(network, [make_case("a")], make_plan(3), InferenceSettings(0.5, 2), Compute("cpu", False))) == 0.0


def test_no_case_is_begun_after_the_time_but_the_first_always_is(
    network: nn.Module, make_plan: Callable[[int], Plan], make_case: Callable[[str], TrainingCase]
) -> None:
    cases = [make_case("a"), make_case("b")]
    window, compute = InferenceSettings(0.5, 2), Compute("cpu", False)
    assert [score.case for score in validate(network, cases, make_plan(3), window, compute, seconds=0.0)] == ["a"]
    assert len(validate(network, cases, make_plan(3), window, compute, seconds=60.0)) == 2


def test_means_leave_out_what_is_undefined() -> None:
    scores = [CaseDice("a", [0.5, math.nan]), CaseDice("b", [0.7, math.nan])]
    means = class_means(scores)
    assert means[0] == pytest.approx(0.6)
    assert math.isnan(means[1])
    assert mean_dice(scores) == pytest.approx(0.6)
    assert math.isnan(mean_dice([]))


def test_voxels_that_nobody_has_judged_are_not_validated(
    network: nn.Module, make_plan: Callable[[int], Plan], make_case: Callable[[str], TrainingCase]
) -> None:
    plan, case = dataclasses.replace(make_plan(3), ignore=(7,)), make_case("a")
    wrong = case.label.clone()
    wrong[:5] = 1 - wrong[:5]  # the network, which answers as the image says, is wrong here
    window, compute = InferenceSettings(), Compute("cpu", False)

    def dice(label: torch.Tensor) -> float:
        changed = dataclasses.replace(case, prepared=dataclasses.replace(case.prepared, label=label))
        return validate(network, [changed], plan, window, compute)[0].dice[0]

    assert dice(wrong) < 0.6
    wrong[:5] = 255
    assert dice(wrong) == 1.0
    assert math.isnan(dice(torch.full_like(wrong, 255)))


def test_regions_are_validated_as_they_are_painted(make_plan: Callable[[int], Plan], make_case: Callable[[str], TrainingCase]) -> None:
    class Nested(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.cat([x, x - 1.5], 1)  # the whole where the image is above 0, its part above 1.5

    labels = (Label(0, 0, "background"), Label(1, 5, "rim"), Label(2, 9, "core"))
    plan = dataclasses.replace(make_plan(3), labels=labels, regions=(Region("whole", (1, 2), 1), Region("inner", (2,), 2)))
    case = make_case("a")
    label = case.label.clone()
    label[4:6, 4:6, 5] = 2
    image = torch.where(label == 2, 2.0, torch.where(label == 1, 1.0, -1.0))[None]
    changed = dataclasses.replace(case, prepared=dataclasses.replace(case.prepared, image=image, label=label))
    seen: list[torch.Tensor] = []
    scores = validate(Nested(), [changed], plan, InferenceSettings(), Compute("cpu", False), lambda _, indices: seen.append(indices))
    assert scores[0].dice == [1.0, 1.0] and list(plan.targets) == ["whole", "inner"]
    assert torch.equal(seen[0].to(label.dtype), label)


def test_bf16_is_compared_with_fp32_on_the_network_as_it_is_used(
    network: nn.Module, make_plan: Callable[[int], Plan], make_case: Callable[[str], TrainingCase], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("segpipe.training.validation.fast_bf16", lambda device: True)
    window, cases = InferenceSettings(0.5, 2), [make_case("a"), make_case("b")]
    whole = nn.Sequential(nn.BatchNorm3d(1, affine=False), nn.Dropout(0.5), network).train()
    before = {name: value.clone() for name, value in whole.state_dict().items()}
    told = bf16_agreement(whole, cases, make_plan(3), window, "cpu")
    assert told is not None
    assert told["cases"] == 2
    assert told["dice"] > 0.99  # without dropout: both are the same network
    assert whole.training and all(torch.equal(value, before[name]) for name, value in whole.state_dict().items())
    assert bf16_agreement(whole, cases, make_plan(3), window, "cpu", stopped=lambda: True) is None


def test_nothing_is_told_of_bf16_where_a_label_was_never_found_or_the_hardware_is_slow(
    network: nn.Module, make_plan: Callable[[int], Plan], make_case: Callable[[str], TrainingCase], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("segpipe.training.validation.fast_bf16", lambda device: True)
    plan = make_plan(3)
    more = dataclasses.replace(plan, labels=(*plan.labels, Label(len(plan.labels), 99, "never there")))
    window, cases = InferenceSettings(0.5, 2), [make_case("a")]
    assert bf16_agreement(network, cases, plan, window, "cpu") is not None
    assert bf16_agreement(network, cases, more, window, "cpu") is None
    assert bf16_agreement(network, [], plan, window, "cpu") is None
    monkeypatch.setattr("segpipe.training.validation.fast_bf16", lambda device: False)
    assert bf16_agreement(network, cases, plan, window, "cpu") is None
