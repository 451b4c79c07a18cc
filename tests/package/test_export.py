"""The model file is written only after its network was proved equal."""

from __future__ import annotations

import dataclasses
import json
import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

import segpipe
from segpipe.errors import ConfigError, ModelError
from segpipe.network.build import build_network
from segpipe.package.export import export_model, export_parts
from segpipe.package.model_file import DOCUMENT, PARTS, document_text, load_model, load_models
from segpipe.package.proof import TOLERANCE
from segpipe.package.torchscript import script_bytes
from segpipe.plan.plan import NetworkPlan, Plan


def test_the_model_file_holds_the_network_the_plan_and_all_that_is_known_of_it(tmp_path: Path, network: nn.Module, plan: Plan) -> None:
    path = tmp_path / "model.ts"
    document = {"metrics": {"dice": {"organ": 0.9, "tumour": float("nan")}}, "licence": "CC BY 4.0"}
    proof = export_model(network, plan, document, path)
    model = load_model(path)
    assert model.plan == plan
    assert model.document["metrics"]["dice"] == {"organ": 0.9, "tumour": None}
    assert model.document["licence"] == "CC BY 4.0"
    assert model.document["labels"] == {"0": "background", "10": "organ", "255": "tumour"}
    assert model.document["segpipe_version"] == segpipe.__version__
    assert model.document["torch_version"] == torch.__version__
    assert model.document["proof"] == json.loads(json.dumps(proof))
    assert [file.name for file in tmp_path.iterdir()] == ["model.ts"]


def test_the_loaded_network_equals_the_eager_one_on_shapes_that_export_never_saw(tmp_path: Path, network: nn.Module, plan: Plan) -> None:
    export_model(network, plan, {}, tmp_path / "model.ts")
    model = load_model(tmp_path / "model.ts")
    for shape in ((1, 2, 8, 10, 6), (3, 2, 7, 5, 9), (1, 2, 17, 4, 4)):
        image = torch.randn(shape)
        with torch.inference_mode():
            assert torch.allclose(model.network(image), network.eval()(image), atol=TOLERANCE, rtol=TOLERANCE)


def test_the_proof_uses_two_odd_shapes_other_than_the_patch_and_states_its_tolerance(
    tmp_path: Path, network: nn.Module, plan: Plan
) -> None:
    for patch in ((8, 10, 6), (5, 7, 9), (64, 20, 33)):
        proof = export_model(network, dataclasses.replace(plan, patch_size=patch), {}, tmp_path / "model.ts")
        shapes = [tuple(one["shape"][2:]) for one in proof["shapes"]]
        assert len({*shapes, patch}) == 3
        assert all(size % 2 == 1 for shape in shapes for size in shape)
        assert proof["largest_difference"] <= proof["tolerance"] == 1e-5


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("name", ["unet", "vnet"])
def test_the_shipped_networks_are_exported(tmp_path: Path, plan: Plan, dims: int, name: str) -> None:
    spec = NetworkPlan(name, (4, 8), ((3,) * dims,) * 2, ((1,) * dims, (2,) * dims), deep_supervision=True)
    patch = (16, 16, 16) if dims == 3 else (16, 16, 1)
    plan = dataclasses.replace(plan, dims=dims, patch_size=patch, network=spec)
    network = build_network(spec, 2, 3, dims)
    proof = export_model(network, plan, {}, tmp_path / "model.ts")
    assert len(proof["shapes"][0]["shape"]) == 2 + dims
    assert proof["largest_difference"] <= TOLERANCE


def test_the_network_that_was_given_is_left_as_it_was(tmp_path: Path, network: nn.Module, plan: Plan) -> None:
    network.train()
    export_model(network, plan, {}, tmp_path / "model.ts")
    assert network.training


class Drifting(nn.Module):
    """Differs once it is scripted."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.cat([x, x[:, :1]], dim=1)
        if torch.jit.is_scripting():
            return y + 1e-3
        return y


class Unscriptable(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([part for part in x.unbind(1) if hasattr(part, "cpu")][:1] * 3)


class NeedsEvenSizes(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x, x[:, :1]], dim=1).view(x.shape[0], 3, x.shape[2] // 2 * 2, x.shape[3], x.shape[4])


class WrongClasses(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (Drifting(), "differs from the eager one by 0.001; at most .*e-05: nothing was written"),
        (Unscriptable(), "Unscriptable cannot be scripted"),
        (NeedsEvenSizes(), "it must take any spatial size"),
        (WrongClasses(), r"network gives \(2, 2, .* must be \(2, 3,"),
    ],
)
def test_what_cannot_be_proved_is_not_written_and_the_old_file_stays(tmp_path: Path, plan: Plan, bad: nn.Module, message: str) -> None:
    path = tmp_path / "model.ts"
    path.write_text("old")
    with pytest.raises(ModelError, match=message) as caught:
        export_model(bad, plan, {}, path)
    assert "\n" not in str(caught.value)
    assert path.read_text() == "old"


def test_a_place_that_cannot_be_written_is_a_config_error(tmp_path: Path, network: nn.Module, plan: Plan) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError):
        export_model(network, plan, {}, tmp_path / "file" / "model.ts")


def test_no_path_of_the_training_machine_is_in_the_document(tmp_path: Path, network: nn.Module, plan: Plan) -> None:
    export_model(network, plan, {}, tmp_path / "model.ts")
    with zipfile.ZipFile(tmp_path / "model.ts") as archive:
        text = archive.read("archive/extra/segpipe.json").decode()
    assert str(tmp_path) not in text


class Half(nn.Module):
    """Differs from itself once it is scripted."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x, x[:, :1]], 1) * (0.5 if torch.jit.is_scripting() else 1.0)


def test_a_file_of_several_plans_gives_each_network_with_its_plan(tmp_path: Path, network: nn.Module, plan: Plan) -> None:
    path, flat = tmp_path / "model.ts", build_network(NetworkPlan("unet", (4, 8), ((3, 3),) * 2, ((1, 1), (2, 2))), 2, 3, 2)
    plans = [plan, dataclasses.replace(plan, dims=2, patch_size=(16, 16, 1))]
    proof = export_parts([(network, plans[0]), (flat, plans[1])], {"licence": "CC BY 4.0"}, path)
    assert [len(one["shape"]) for one in proof["shapes"]] == [5, 5, 4, 4]
    models = load_models(path)
    assert [model.plan for model in models] == plans
    assert models[0].document["licence"] == "CC BY 4.0" and models[0].document["plan"] == json.loads(plan.to_json())
    for model, eager, shape in zip(models, (network, flat), ((1, 2, 9, 7, 8), (2, 2, 19, 14)), strict=True):
        image = torch.randn(shape)
        with torch.inference_mode():
            assert torch.allclose(model.network(image), eager.eval()(image), atol=TOLERANCE, rtol=TOLERANCE)
    with pytest.raises(ModelError, match=r"model.ts: holds networks of 2 plans, and one is wanted"):
        load_model(path)


def test_nothing_is_written_when_one_of_several_networks_differs_from_its_script(tmp_path: Path, network: nn.Module, plan: Plan) -> None:
    with pytest.raises(ModelError, match="differs from the eager one"):
        export_parts([(network, plan), (Half(), plan)], {}, tmp_path / "model.ts")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({PARTS: None}, "has no parts"),
        ({PARTS: []}, "has no parts"),
        ({PARTS: [{"version": 99}, {"version": 99}]}, "plan version is 99"),
        ({PARTS: 1}, "tells of 1 networks, and its archive holds others"),
        ({PARTS: 3}, "tells of 3 networks, and its archive holds others"),
    ],
)
def test_a_document_that_does_not_fit_the_networks_is_refused(
    tmp_path: Path, network: nn.Module, plan: Plan, change: dict[str, object], message: str
) -> None:
    path = tmp_path / "model.ts"
    export_parts([(network, plan), (network, plan)], {}, path)
    document = load_models(path)[0].document
    module = torch.jit.load(path)
    change = {key: [plan.to_dict()] * value if isinstance(value, int) else value for key, value in change.items()}
    path.write_bytes(script_bytes(module, {DOCUMENT: document_text(document | change)}))
    with pytest.raises(ModelError, match=f"model.ts: its .*{message}|model.ts: {message}"):
        load_models(path)
