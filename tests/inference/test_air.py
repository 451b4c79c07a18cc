"""Blending features in place of logits, and windows that no network looks at."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from segpipe.geometry.grid import Grid, Volume
from segpipe.inference.computing import Wanted, choose_computing
from segpipe.inference.predictor import Predictor
from segpipe.network.build import build_network
from segpipe.package.export import export_model
from segpipe.package.model_file import Model, load_model
from segpipe.package.trunk import without_head
from segpipe.plan.plan import Channel, Label, NetworkPlan, Plan

CLASSES = 7


def model_of(path: Path, features: tuple[int, ...] = (4, 8), **changes: object) -> Model:
    spec = NetworkPlan("unet", features, ((3, 3, 3),) * 2, ((1, 1, 1), (2, 2, 2)))
    plan = Plan(
        task="test",
        dims=3,
        channels=(Channel("CT", "ct", -1000.0, 1000.0, 0.0, 300.0),),
        labels=tuple(Label(index, index, f"label {index}") for index in range(CLASSES)),
        orient=True,
        axes=(0, 1, 2),
        spacing_mm=(1.2, 1.0, 1.1),
        patch_size=(16, 16, 16),
        batch_size=1,
        nonzero=False,
        flips=(True, False, True),
        network=spec,
        skip_empty=True,
    )
    torch.manual_seed(0)
    export_model(build_network(spec, 1, CLASSES, 3), dataclasses.replace(plan, **changes), {}, path)  # type: ignore[arg-type]
    return load_model(path)


@pytest.fixture
def volume() -> Volume:
    array = np.random.default_rng(0).normal(0, 300, (1, 70, 24, 20)).astype(np.float32)
    array[:, 30:] = -1500.0
    return Volume(array, Grid((70, 24, 20), np.eye(4)))


@pytest.mark.parametrize("runtime", ["torch", "openvino"])
@pytest.mark.parametrize("flips", [False, True])
def test_features_that_are_blended_give_the_logits_that_blended_logits_are(
    tmp_path: Path, volume: Volume, runtime: str, flips: bool
) -> None:
    if runtime == "openvino":
        pytest.importorskip("openvino")
    model = model_of(tmp_path / "model.ts")
    plain = Predictor([model], flips=flips).predict(volume, probabilities=True)
    computing = choose_computing([model], torch.device("cpu"), Wanted(runtime, "fp32"))  # type: ignore[arg-type]
    assert computing.models[0].head is not None
    cut = Predictor(computing.models, flips=flips).predict(volume, probabilities=True)
    assert plain.probabilities is not None and cut.probabilities is not None
    assert np.abs(plain.probabilities - cut.probabilities).max() < 1e-3
    assert np.mean(plain.labels != cut.labels) < 1e-3
    assert (cut.labels[60:] == 0).all()  # air
    assert np.array_equal(cut.labels, Predictor(computing.models, flips=flips).predict(volume).labels)


def test_models_with_different_plans_blend_features_and_those_that_see_alike_do_not(tmp_path: Path, volume: Volume) -> None:
    one = model_of(tmp_path / "one.ts")
    other = model_of(tmp_path / "other.ts", spacing_mm=(1.0, 1.3, 1.0), axes=(1, 2, 0))

    def heads(*models: Model) -> list[bool]:
        found = choose_computing(models, torch.device("cpu"), Wanted("torch", "fp32")).models
        return [model.head is not None for model in found]

    assert heads(one, other) == [True, True]
    assert heads(one, other, one) == [False, True, False]
    plain = Predictor([one, other]).predict(volume, probabilities=True)
    cut = Predictor(choose_computing([one, other], torch.device("cpu"), Wanted("torch", "fp32")).models).predict(volume, probabilities=True)
    assert plain.probabilities is not None and cut.probabilities is not None
    assert np.abs(plain.probabilities - cut.probabilities).max() < 1e-4
    assert (cut.labels[62:] == 0).all()  # air


def test_air_alone_is_background(tmp_path: Path, volume: Volume) -> None:
    empty = Volume(np.full_like(volume.array, -1500.0), volume.grid)
    model = without_head(model_of(tmp_path / "model.ts"))
    assert not Predictor([model]).predict(empty).labels.any()


def test_a_network_with_fewer_outputs_than_features_keeps_its_head(tmp_path: Path) -> None:
    model = model_of(tmp_path / "model.ts", features=(8, 8))
    assert without_head(model) is model
    assert without_head(dataclasses.replace(model, network=lambda x: x)).head is None  # nor does somebody else's


def test_what_blows_up_is_told_and_not_taken_for_air(tmp_path: Path, volume: Volume) -> None:
    from segpipe.errors import ModelError

    model = without_head(model_of(tmp_path / "model.ts"))
    network = model.network
    broken = dataclasses.replace(model, network=lambda x: network(x) * float("inf"))
    with pytest.raises(ModelError, match="NaN or infinity"):
        Predictor([broken]).predict(volume)


def test_a_network_that_does_more_behind_its_head_is_left_whole(tmp_path: Path) -> None:
    from segpipe.network.build import build_network as build
    from segpipe.network.segmenter import Segmenter

    class Warmer(Segmenter):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            maps: list[torch.Tensor] = self.backbone(self.padded(x))
            logits = maps[0]
            for index, head in enumerate(self.heads):
                if index == 0:
                    logits = head(logits)
            return 3.0 * self.cropped(logits, x, 0)

    model = model_of(tmp_path / "model.ts")
    network = build(model.plan.network, 1, CLASSES, 3)
    network.__class__ = Warmer
    export_model(network, model.plan, {}, tmp_path / "warmer.ts")
    warmer = load_model(tmp_path / "warmer.ts")
    assert choose_computing([model], torch.device("cpu"), Wanted("torch", "fp32")).models[0].head is not None
    assert choose_computing([warmer], torch.device("cpu"), Wanted("torch", "fp32")).models[0].head is None
