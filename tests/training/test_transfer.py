"""Weights of an earlier model: what fits is taken, the rest is named; stages stand still and thaw when they should."""

import dataclasses
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from segpipe.errors import ConfigError, ModelError
from segpipe.network.build import build_network
from segpipe.package.export import export_model
from segpipe.plan.plan import Channel, Label, Plan
from segpipe.settings import TrainingSettings
from segpipe.training.transfer import Source, Stages, begin_with, learning_groups, read_source, stage_of, take_over

MakePlan = Callable[[int], Plan]


def build(plan: Plan, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return build_network(plan.network, len(plan.channels), plan.classes, plan.dims)


def channels(plan: Plan, *names: str) -> Plan:
    return dataclasses.replace(plan, channels=tuple(Channel(name, "zscore") for name in names))


def source(plan: Plan, seed: int = 1) -> Source:
    return Source(Path("before.ckpt"), build(plan, seed).state_dict(), plan)


@pytest.mark.parametrize("kind", ["unet", "vnet"])
def test_a_network_like_the_source_becomes_the_source(make_plan: MakePlan, kind: str) -> None:
    plan = make_plan(3)
    plan = dataclasses.replace(plan, network=dataclasses.replace(plan.network, name=kind))
    network, before = build(plan, 2), source(plan)
    found = take_over(network, plan, before)
    assert found.adapted == found.left == ()
    assert all(torch.equal(value, before.weights[name]) for name, value in network.state_dict().items())


def test_another_number_of_classes_leaves_the_head_fresh(make_plan: MakePlan) -> None:
    plan = make_plan(2)
    more = dataclasses.replace(plan, labels=(*plan.labels, Label(2, 2, "two")))
    network = build(more, 2)
    fresh = network.state_dict()["heads.0.weight"].clone()
    found = take_over(network, more, source(plan))
    assert found.left == ("heads.0.weight (3x4x1x1, there 2x4x1x1)", "heads.0.bias (3, there 2)")
    assert torch.equal(network.state_dict()["heads.0.weight"], fresh)


@pytest.mark.parametrize("kind", ["unet", "vnet"])
def test_input_channels_are_known_by_name_and_new_ones_get_the_mean(make_plan: MakePlan, kind: str) -> None:
    plan = make_plan(3)
    plan = dataclasses.replace(plan, network=dataclasses.replace(plan.network, name=kind))
    before, after = channels(plan, "T1", "T2"), channels(plan, "t2", "FLAIR", "ADC", "T1")
    network, given = build(after, 2), source(before)
    found = take_over(network, after, given)
    first = next(name for name in found.adapted if name.endswith("conv.weight"))
    old, new = given.weights[first], network.state_dict()[first]
    assert torch.allclose(new[:, 0], old[:, 1] / 2)
    assert torch.allclose(new[:, 3], old[:, 0] / 2)
    assert torch.allclose(new[:, 1], old.mean(1) / 2) and torch.equal(new[:, 1], new[:, 2])
    image = torch.randn(1, 1, 8, 8, 8)
    ends = [nn.functional.conv3d(image.expand(1, weight.shape[1], -1, -1, -1), weight) for weight in (old, new)]
    torch.testing.assert_close(*ends)  # the same image in every channel gives the same map


def test_a_network_that_has_nothing_in_common_is_refused_with_the_settings_that_fit(make_plan: MakePlan) -> None:
    plan = make_plan(3)
    wide = dataclasses.replace(plan, network=dataclasses.replace(plan.network, features=(6, 12)))
    settings = r"plan.dims=3 network.name=unet network.features=\[6,12\]"
    with pytest.raises(ConfigError, match=f"no layer of before.ckpt fits.*{settings}.*plan.file=RUN/plan.json"):
        take_over(build(plan, 2), plan, source(wide))


def test_model_files_checkpoints_and_run_folders_are_read(make_plan: MakePlan, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    plan = make_plan(3)
    network, run = build(plan, 1), tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    (run / "plan.json").write_text(plan.to_json())
    export_model(network.eval(), plan, {}, run / "model.ts")
    assert read_source(run).path == run / "model.ts"
    torch.save({"state_dict": {f"network.{name}": value for name, value in network.state_dict().items()}}, run / "checkpoints/last.ckpt")
    for given in (run, run / "model.ts", run / "checkpoints/last.ckpt"):
        other = build(plan, 2)
        with caplog.at_level(logging.INFO):
            begin_with(other, plan, str(given))
        assert all(torch.equal(value, network.state_dict()[name]) for name, value in other.state_dict().items())
        assert read_source(given).plan == plan
    assert "21 of 21 weights taken" in caplog.text and "fresh" not in caplog.text


def test_what_cannot_be_a_source_is_told(make_plan: MakePlan, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "x.ckpt").write_bytes(b"nothing")
    with pytest.raises(ConfigError, match="does not exist"):
        read_source(tmp_path / "none.ts")
    with pytest.raises(ConfigError, match=r"holds neither checkpoints/last\.ckpt nor model\.ts"):
        read_source(tmp_path / "empty")
    with pytest.raises(ModelError, match="damaged or not from segpipe train"):
        read_source(tmp_path / "x.ckpt")


def test_fresh_layers_and_another_normalisation_are_told(make_plan: MakePlan, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    plan = make_plan(3)
    export_model(build(plan, 1).eval(), plan, {}, tmp_path / "model.ts")
    other = channels(dataclasses.replace(plan, labels=(*plan.labels, Label(2, 2, "two"))), "MR")
    begin_with(build(other, 2), other, str(tmp_path / "model.ts"))
    assert "with fresh weights begin heads.0.weight (3x4x1x1x1, there 2x4x1x1x1)" in caplog.text
    assert "MR is normalised as zscore here, as none there" in caplog.text


@pytest.mark.parametrize(
    ("name", "stage"),
    [
        ("backbone.encoder.0.0.conv.weight", 0),
        ("backbone.encoder.12.1.norm.bias", 12),
        ("backbone.first.layers.0.conv.weight", 0),
        ("backbone.down.0.conv.weight", 1),
        ("backbone.left.2.layers.0.conv.weight", 3),
        ("backbone.decoder.0.0.conv.weight", None),
        ("backbone.up.0.weight", None),
        ("heads.0.weight", None),
        ("inner.encoder.0.weight", None),
    ],
)
def test_weights_know_their_stage(name: str, stage: int | None) -> None:
    assert stage_of(name) == stage


@pytest.mark.parametrize("kind", ["unet", "vnet"])
def test_stages_stand_still_until_they_thaw(make_plan: MakePlan, kind: str) -> None:
    plan = make_plan(3)
    network = build(dataclasses.replace(plan, network=dataclasses.replace(plan.network, name=kind, dropout=0.5, norm="batch")), 1)
    stages = Stages(network, TrainingSettings(thaw=[1.0, 0.5]))
    named = dict(network.named_parameters())
    for progress, frozen in ((0.0, {0, 1}), (0.5, {0}), (1.0, {0})):
        assert {stage_of(name) for name, weight in named.items() if stages.is_frozen(weight, progress)} == frozen
        network.train()
        stages.settle(progress)
        modules = dict(network.named_modules())
        assert {stage_of(name) for name in named if not modules[name.rpartition(".")[0]].training} == frozen


def test_learning_rates_by_stage_and_decay_of_kernels_only(make_plan: MakePlan) -> None:
    network = build(make_plan(3), 1)
    weights = list(network.parameters())
    (decayed, others) = learning_groups(weights, Stages(network, TrainingSettings()), 0.1)
    assert (decayed["factor"], decayed["weight_decay"], others["weight_decay"]) == (1.0, 0.1, 0.0)
    groups = learning_groups(weights, Stages(network, TrainingSettings(stage_lr=[0.1, 0.5])), 0.1)
    assert [group["factor"] for group in groups] == [1.0, 1.0, 0.5, 0.5, 0.1, 0.1]
    assert sum(len(group["params"]) for group in groups) == len(weights)
    with pytest.raises(ConfigError, match=r"training.thaw has 3 numbers; the network has 2 encoder stages"):
        Stages(network, TrainingSettings(thaw=[0, 0, 0]))
