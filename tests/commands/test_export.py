"""segpipe export: a run folder -> its model file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from segpipe.commands.export import export
from segpipe.errors import ConfigError, ModelError
from segpipe.network.build import build_network
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
