"""The model file of several trainings, and what they must agree on."""

import dataclasses
import hashlib
import json
from pathlib import Path

import pytest
import torch

from segpipe.errors import ModelError
from segpipe.folds.assemble import Chosen, assemble
from segpipe.folds.members import Member
from segpipe.inference.postprocess import Rule, rules_of
from segpipe.inference.thresholds import offsets_of
from segpipe.network.build import build_network
from segpipe.package.model_file import load_model, load_models
from segpipe.plan.plan import Channel, Label, NetworkPlan, Plan
from segpipe.settings import Settings

MEMBERS = [Member(0, 7, "fold_0"), Member(1, 7, "fold_1")]
SPEC = NetworkPlan("unet", (4, 8), ((3, 3),) * 2, ((1, 1), (2, 2)))
PLAN = Plan(
    task="t",
    dims=2,
    channels=(Channel("MR", "zscore"),),
    labels=(Label(0, 0, "background"), Label(1, 5, "organ")),
    orient=True,
    axes=(0, 1, 2),
    spacing_mm=(1.0, 1.0, 0.0),
    patch_size=(16, 16, 1),
    batch_size=1,
    nonzero=False,
    flips=(True, True, False),
    network=SPEC,
)


@pytest.fixture
def networks(tmp_path: Path) -> list[torch.nn.Module]:
    """Two runs as far as they are needed."""
    made = []
    for seed, member in enumerate(MEMBERS):
        torch.manual_seed(seed)
        made.append(build_network(SPEC, 1, 2, 2).eval())
        root = member.root(tmp_path)
        (root / "checkpoints").mkdir(parents=True)
        (root / "plan.json").write_text(dataclasses.replace(PLAN, reasons={"dims": f"in fold {seed}"}).to_json())
        state = {f"network.{name}": value for name, value in made[-1].state_dict().items()}
        torch.save({"state_dict": state}, root / "checkpoints/last.ckpt")
    return made


def test_the_file_holds_all_networks_the_rules_and_the_figures(networks: list[torch.nn.Module], tmp_path: Path) -> None:
    rules = [Rule(1, keep_largest=True), Rule(0, minimum_ml=0.5)]
    path = assemble(tmp_path, MEMBERS, Settings(), {"mean_dice": 0.9}, Chosen(tuple(rules), (0.0, 0.4)))
    model = load_model(path)
    assert rules_of(model.document, 2) == tuple(rules) and offsets_of(model.document, 2) == (0.0, 0.4)
    assert (model.document["metrics"], model.document["training"]["members"]) == ({"mean_dice": 0.9}, 2)
    image = torch.randn(1, 1, 21, 17)
    with torch.no_grad():
        expected = sum(network(image).softmax(1) for network in networks) / 2
        torch.testing.assert_close(model.network(image).softmax(1), expected)


def test_trainings_with_different_plans_make_no_model(networks: list[torch.nn.Module], tmp_path: Path) -> None:
    values = json.loads((tmp_path / "fold_1/plan.json").read_text())
    (tmp_path / "fold_1/plan.json").write_text(json.dumps(values | {"spacing_mm": [2.0, 2.0, 0.0]}))
    with pytest.raises(ModelError, match=r"fold_1/plan\.json: differs from .*fold_0/plan\.json"):
        assemble(tmp_path, MEMBERS, Settings(), {}, Chosen())
    assert not (tmp_path / "model.ts").exists()


def test_trainings_of_several_plans_make_a_file_with_a_network_for_each(networks: list[torch.nn.Module], tmp_path: Path) -> None:
    other = dataclasses.replace(PLAN, spacing_mm=(2.0, 2.0, 0.0))
    (tmp_path / "fold_1/plan.json").write_text(other.to_json())
    members = [dataclasses.replace(member, configuration=name) for member, name in zip(MEMBERS, ("3d_low", "2d"), strict=True)]
    models = load_models(assemble(tmp_path, members, Settings(), {}, Chosen((Rule(1, keep_largest=True),))))
    assert [model.plan.spacing_mm for model in models] == [PLAN.spacing_mm, other.spacing_mm]
    assert models[0].document["training"]["configurations"] == ["3d_low", "2d"]
    assert models[0].sha256 == models[1].sha256
    image = torch.randn(1, 1, 21, 17)
    with torch.no_grad():
        for model, network in zip(models, networks, strict=True):
            torch.testing.assert_close(model.network(image).softmax(1), network(image).softmax(1))


def test_the_file_tells_of_all_trainings_and_not_of_the_first(networks: list[torch.nn.Module], tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("folds: all\n")
    for number, member in enumerate(MEMBERS):
        root = member.root(tmp_path)
        checkpoint = torch.load(root / "checkpoints/last.ckpt", weights_only=True)
        torch.save(checkpoint | {"global_step": 30}, root / "checkpoints/last.ckpt")
        (root / "schedule.json").write_text(json.dumps({"steps": 30, "seconds": 2.5, "schedule": "cosine"}))
        (root / "config.yaml").write_text(f"fold: {number}\n")
        sides = [["a", "b"], ["c"]] if number else [["c"], ["a", "b"]]
        (root / "splits.json").write_text(json.dumps({"version": 1, "train": sides[0], "validation": sides[1], "note": ""}))
        (root / "fingerprint.json").write_text(json.dumps({"channels": [{}]}))
    document = load_model(assemble(tmp_path, MEMBERS, Settings(), {}, Chosen())).document
    partition = {"train": 3, "validation": 3, "held_out": True}
    assert document["training"] == {"steps": 60, "seconds": 5.0, "schedule": "cosine", "partition": partition, "members": 2}
    told = document["provenance"]
    assert told["config_sha256"] == hashlib.sha256(b"folds: all\n").hexdigest()
    assert told["splits_sha256"] is None
    assert told["fingerprint_sha256"] is not None
    (MEMBERS[1].root(tmp_path) / "schedule.json").unlink()
    assert load_model(assemble(tmp_path, MEMBERS, Settings(), {}, Chosen())).document["training"]["seconds"] is None
