"""segpipe export: a run folder -> its model file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from segpipe.commands.export import export
from segpipe.dataset.split import SPLIT_VERSION
from segpipe.errors import ConfigError, ModelError
from segpipe.geometry.grid import Grid, Volume
from segpipe.io.write import write_volume
from segpipe.network.build import build_network
from segpipe.package.ensemble_network import EnsembleNetwork
from segpipe.package.export import export_model, export_parts
from segpipe.package.extra import installed
from segpipe.package.model_file import load_model
from segpipe.plan.plan import Channel, Label, NetworkPlan, Plan

PLAN = Plan(
    task="test",
    dims=3,
    channels=(Channel("MR", "zscore"),),
    labels=(Label(0, 0, "background"), Label(1, 1, "organ")),
    orient=True,
    axes=(0, 1, 2),
    spacing_mm=None,
    patch_size=(16, 16, 16),
    batch_size=1,
    nonzero=False,
    flips=(True, True, True),
    network=NetworkPlan("unet", (4, 8), ((3, 3, 3),) * 2, ((1, 1, 1), (2, 2, 2))),
)


class OwnNetwork(nn.Module):
    """A network that a user wrote."""

    def __init__(self, in_channels: int, classes: int, dims: int) -> None:
        super().__init__()
        self.layer = nn.Conv3d(in_channels, classes, dims, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x)


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(3)
    return build_network(PLAN.network, 1, 2, 3)


@pytest.fixture
def run(tmp_path: Path, network: nn.Module) -> Path:
    """A run folder as training leaves it, with raw and averaged weights in its checkpoint."""
    root = tmp_path / "run"
    (root / "checkpoints").mkdir(parents=True)
    (root / "plan.json").write_text(PLAN.to_json())
    save(root, network)
    return root


def save(root: Path, network: nn.Module) -> None:
    weights = network.state_dict()
    state = {f"network.{name}": torch.zeros_like(value) for name, value in weights.items()}
    state |= {f"averaged.module.{name}": value for name, value in weights.items()}
    torch.save({"state_dict": state}, root / "checkpoints" / "last.ckpt")


def test_the_model_file_is_made_again_from_the_averaged_weights_of_the_last_checkpoint(run: Path, network: nn.Module) -> None:
    outcome = export(run, None)
    assert outcome.exit_code == 0
    assert any("proved equal" in line for line in outcome.shown)
    model = load_model(run / "model.ts")
    image = torch.randn(1, 1, 17, 9, 12)
    with torch.inference_mode():
        assert torch.allclose(model.network(image), network.eval()(image), atol=1e-5)
    assert "provenance" in model.document


def test_another_place_can_be_chosen(run: Path, tmp_path: Path) -> None:
    export(run, tmp_path / "models" / "mine.ts")
    assert load_model(tmp_path / "models" / "mine.ts").plan == PLAN
    assert not (run / "model.ts").exists()


def test_a_network_of_the_users_own_is_found_through_the_runs_config(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys
    import types

    module = types.ModuleType("own_networks")
    module.OwnNetwork = OwnNetwork  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "own_networks", module)
    (run / "config.yaml").write_text("name: test\nnetwork:\n  target: own_networks.OwnNetwork\n")
    own = nn.Module()
    own.inner = OwnNetwork(1, 2, 3)
    save(run, own)
    export(run, None)
    image = torch.randn(1, 1, 5, 6, 7)
    with torch.inference_mode():
        assert torch.allclose(load_model(run / "model.ts").network(image), own.inner(image), atol=1e-5)


def test_what_is_missing_or_broken_is_told_in_one_line(run: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    for place in ("none", "empty"):
        with pytest.raises(ConfigError, match=place):
            export(tmp_path / place, None)
    with pytest.raises(ModelError, match="file is not a model file"):
        export(tmp_path / "file", None)
    with pytest.raises(ConfigError):
        export(run, tmp_path / "file" / "model.ts")
    (run / "config.yaml").write_text("a: [")
    with pytest.raises(ConfigError, match="config.yaml"):
        export(run, None)
    (run / "config.yaml").unlink()
    save(run, nn.Conv3d(1, 2, 3))
    with pytest.raises(ModelError, match="its weights do not fit"):
        export(run, None)
    (run / "checkpoints/last.ckpt").write_bytes(b"PK broken")
    with pytest.raises(ModelError, match="last.ckpt"):
        export(run, None)
    (run / "checkpoints/last.ckpt").unlink()
    with pytest.raises(ModelError, match="last.ckpt"):
        export(run, None)
    assert not (run / "model.ts").exists()


needs_cpu = pytest.mark.skipif(not installed("onnx", "onnxscript", "openvino"), reason="needs the extra `cpu`")


@needs_cpu
def test_a_run_gives_three_files_of_one_network_each_with_its_proof(run: Path, network: nn.Module, tmp_path: Path) -> None:
    outcome = export(run, tmp_path / "mine", ["ts", "pt2", "onnx"])
    assert sum("Dice on a synthetic case: organ 1.000" in str(line) for line in outcome.shown) == 3
    image = torch.randn(2, 1, 17, 9, 12)
    for kind in ("ts", "pt2", "onnx"):
        model = load_model(tmp_path / f"mine.{kind}")
        assert (model.kind, model.plan) == (kind, PLAN)
        assert model.document["proof"]["case"]["kind"] == "synthetic case"
        with torch.inference_mode():
            assert torch.allclose(model.network(image), network.eval()(image), atol=1e-4, rtol=1e-4)


def test_a_model_file_alone_gives_the_other_formats(run: Path, network: nn.Module, tmp_path: Path) -> None:
    export(run, tmp_path / "alone.ts")
    export(tmp_path / "alone.ts", None, ["pt2"])
    model, image = load_model(tmp_path / "alone.pt2"), torch.randn(1, 1, 9, 16, 12)
    assert model.document["provenance"] == load_model(tmp_path / "alone.ts").document["provenance"]
    with torch.inference_mode():
        assert torch.allclose(model.network(image), network.eval()(image), atol=1e-4, rtol=1e-4)
    with pytest.raises(ModelError, match="is a pt2 file; other formats are made of a model.ts"):
        export(tmp_path / "alone.pt2", None, ["ts"])


def test_the_mean_of_several_networks_is_exported_from_its_file(network: nn.Module, tmp_path: Path) -> None:
    mean = EnsembleNetwork([network.eval(), build_network(PLAN.network, 1, 2, 3).eval()])
    export_model(mean, PLAN, {}, tmp_path / "mean.ts")
    export(tmp_path / "mean.ts", tmp_path / "mean.pt2", ["pt2"])
    image = torch.randn(1, 1, 9, 16, 12)
    with torch.inference_mode():
        assert torch.allclose(load_model(tmp_path / "mean.pt2").network(image), mean.eval()(image), atol=1e-4, rtol=1e-4)


def test_files_of_several_plans_and_networks_of_the_users_own_are_refused_with_their_cure(network: nn.Module, tmp_path: Path) -> None:
    export_parts([(network, PLAN), (network, PLAN)], {}, tmp_path / "parts.ts")
    with pytest.raises(ModelError, match="parts.ts: holds networks of 2 plans; .*the folder of its run"):
        export(tmp_path / "parts.ts", tmp_path / "a.pt2", ["pt2"])
    export_model(OwnNetwork(1, 2, 3), PLAN, {}, tmp_path / "own.ts")
    with pytest.raises(ModelError, match="own.ts: its network is not one that this segpipe builds.*give the folder of its run"):
        export(tmp_path / "own.ts", None, ["pt2"])
    assert not list(tmp_path.glob("*.pt2"))


def test_a_held_out_case_of_the_run_proves_the_file_where_the_data_is_here(run: Path, tmp_path: Path) -> None:
    for kind in ("images", "labels"):
        (tmp_path / "data" / kind).mkdir(parents=True)
        for number in range(3):
            array = np.random.default_rng(number).random((1, 20, 18, 17)).astype(np.float32)
            write_volume(
                tmp_path / "data" / kind / f"c{number}.nii.gz", Volume((array > 0.5).astype(np.float32), Grid((20, 18, 17), np.eye(4)))
            )
    (run / "config.yaml").write_text(f"dataset:\n  root: {tmp_path / 'data'}\n")
    (run / "splits.json").write_text(json.dumps({"version": SPLIT_VERSION, "train": ["c0", "c1"], "validation": ["c2"], "note": ""}))
    outcome = export(run, None)
    assert any("Dice on a held-out case: organ 1.000" in str(line) for line in outcome.shown), outcome.shown
    assert load_model(run / "model.ts").document["proof"]["case"]["shape"] == [1, 20, 18, 17]
