"""A `.pt2` file holds the network, and nothing of it is executed, imported or unpickled on reading."""

from __future__ import annotations

import dataclasses
import io
import json
import pickle
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from segpipe.errors import ModelError
from segpipe.network.build import build_network
from segpipe.package.ensemble_network import EnsembleNetwork
from segpipe.package.export import export_kinds
from segpipe.package.model_file import load_model
from segpipe.package.pt2_check import CONSTANTS, GRAPH, SAMPLES, WEIGHTS
from segpipe.plan.plan import NetworkPlan, Plan

SPEC = NetworkPlan("unet", (4, 8), ((3, 3, 3),) * 2, ((1, 1, 1), (2, 2, 2)), deep_supervision=True)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, nn.Module]:
    """The file of two U-Nets as one, and the eager network."""
    torch.manual_seed(0)
    from segpipe.plan.plan import Channel, Label

    labels = (Label(0, 0, "background"), Label(1, 10, "organ"))
    plan = Plan("t", 3, (Channel("T2", "zscore"),), labels, True, (0, 1, 2), None, (16, 12, 8), 1, False, (True,) * 3, SPEC)
    network = EnsembleNetwork([build_network(SPEC, 1, 2, 3).eval() for _ in range(2)]).eval()
    path = tmp_path_factory.mktemp("pt2") / "model.pt2"
    proof = export_kinds(network, plan, {"licence": "CC0"}, {"pt2": path})["pt2"]
    assert proof["case"] == {"kind": "synthetic case", "shape": [1, 16, 12, 8], "dice": {"organ": 1.0}}
    return path.read_bytes(), network


@pytest.fixture
def path(made: tuple[bytes, nn.Module], tmp_path: Path) -> Path:
    (tmp_path / "model.anything").write_bytes(made[0])
    return tmp_path / "model.anything"


def test_it_is_known_by_its_content_and_computes_what_the_network_does_at_any_size(path: Path, made: tuple[bytes, nn.Module]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = load_model(path)
    assert (model.kind, model.runtime, model.document["licence"]) == ("pt2", "torch", "CC0")
    for shape in ((1, 1, 16, 12, 8), (3, 1, 9, 7, 11), (1, 1, 32, 16, 4)):
        image = torch.randn(shape)
        with torch.inference_mode():
            assert torch.allclose(model.network(image), made[1](image), atol=1e-4, rtol=1e-4)


def test_no_path_of_the_machine_and_no_pickle_is_in_it(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        content = {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}
    assert b".py" not in content[GRAPH] and content[SAMPLES] == b""
    assert not any(content.startswith(b"\x80") for content in content.values() if content[-1:] == b".")


def changed(path: Path, change: Callable[[str, bytes], bytes], more: dict[str, bytes] | None = None) -> None:
    """The archive with its records changed, by their names within its folder."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(buffer, "w") as target:
        for name in source.namelist():
            target.writestr(name, change(name.partition("/")[2], source.read(name)))
        for name, content in (more or {}).items():
            target.writestr(f"archive/{name}", content)
    path.write_bytes(buffer.getvalue())


def edited(path: Path, record: str, edit: Callable[[Any], None]) -> None:
    def change(name: str, content: bytes) -> bytes:
        if name != record:
            return content
        told = json.loads(content)
        edit(told)
        return json.dumps(told).encode()

    changed(path, change)


class Evil:
    """A pickle of it makes a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.target,)


def refused(path: Path, message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        load_model(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_pickles_are_refused_wherever_torch_would_read_them(made: tuple[bytes, nn.Module], path: Path, tmp_path: Path) -> None:
    owned = tmp_path / "owned"
    evil = pickle.dumps(Evil(owned))
    changed(path, lambda name, content: evil if name == SAMPLES else content)
    refused(path, f"record {SAMPLES}")

    def pickled(told: Any) -> None:
        next(iter(told["config"].values()))["use_pickle"] = True

    path.write_bytes(made[0])
    edited(path, WEIGHTS, pickled)
    changed(path, lambda name, content: evil if name == "data/weights/weight_0" else content)
    refused(path, "a pickle in data/weights")
    for name in ("data/constants/opaque_obj_0", "data/constants/custom_obj_0", "data/weights/model.pt", "data/aotinductor/model/a.so"):
        path.write_bytes(made[0])
        changed(path, lambda _, content: content, {name: evil})
        refused(path, f"record {name}")
    path.write_bytes(made[0])
    edited(path, CONSTANTS, lambda told: told["config"].update(a={"path_name": "opaque_obj_0", "use_pickle": True}))
    refused(path, "a pickle in data/constants")
    assert not owned.exists()


def first(told: Any, key: str) -> dict[str, Any]:
    """The first object within that has `key`."""
    if isinstance(told, dict):
        if key in told:
            return told
        told = list(told.values())
    for item in told if isinstance(told, list) else ():
        found = first(item, key)
        if found:
            return found
    return {}


DEFAULTDICT = '[1, {"type": "collections.defaultdict", "context": "a", "children_spec": []}]'
CODE = "__import__('pathlib').Path('owned').touch()"


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda told: first(told, "expr_str").update(expr_str=CODE), "expr_str"),
        (lambda told: first(told, "expr_str").update(expr_str="Symbol('s0').__class__"), "expr_str"),
        (lambda told: told.update(guards_code=[CODE]), "guards_code"),
        (lambda told: first(told, "target").update(target="torch.serialization.os.system"), "target"),
        (lambda told: first(told, "target").update(target="os.system"), "operator"),
        (lambda told: first(told, "target").update(target="torch.ops.aten.from_file.default"), "target"),
        (lambda told: first(told, "target").update(metadata={"stack_trace": "a"}), "operator|metadata|stack"),
        (lambda told: first(told, "in_spec").update(in_spec=DEFAULTDICT), "in_spec"),
        (lambda told: first(told, "in_spec").update(in_spec='[1, {"__enum__": true, "fqn": "antigravity:a"}]'), "in_spec"),
        (lambda told: first(told, "as_tensor").update(as_tensor={"name": 'x"); import os; ("'}), "name"),
        (lambda told: told.update({"a b": 1}), "a key"),
    ],
)  # fmt: skip
def test_a_graph_that_asks_for_more_than_operators_on_tensors_is_refused(path: Path, tmp_path: Path, edit: Any, message: str) -> None:
    edited(path, GRAPH, edit)
    refused(path, message)
    assert not Path("owned").exists()


def test_damage_and_other_versions_are_told_in_one_line(made: tuple[bytes, nn.Module], path: Path) -> None:
    path.write_bytes(made[0][: len(made[0]) // 2])
    refused(path, "is cut off")
    data = bytearray(made[0])
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    refused(path, "is damaged")
    path.write_bytes(made[0])
    edited(path, GRAPH, lambda told: told["schema_version"].update(major=99))
    refused(path, "cannot read the network")
    path.write_bytes(made[0])
    changed(path, lambda name, content: b"[]" if name == GRAPH else content)
    refused(path, "is not of the format")
    path.write_bytes(made[0])
    changed(path, lambda name, content: b"{}" if name == "extra/segpipe.json" else content)
    refused(path, "is not of the format segpipe-model")


def test_two_records_of_one_name_are_damage(path: Path) -> None:
    with warnings.catch_warnings(), zipfile.ZipFile(path, "a") as archive:
        warnings.simplefilter("ignore")
        archive.writestr(f"archive/{GRAPH}", b"{}")
    refused(path, "is damaged")


def test_a_network_that_takes_some_sizes_only_is_not_written(tmp_path: Path, plan: Plan) -> None:
    class Even(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = torch.cat([x, x[:, :1]], dim=1)
            return y if x.shape[2] == 9 else y * 2

    with pytest.raises(ModelError, match="exported|differs|fails"):
        export_kinds(Even(), dataclasses.replace(plan, patch_size=(18, 10, 6)), {}, {"pt2": tmp_path / "a.pt2", "ts": tmp_path / "a.ts"})
    assert not list(tmp_path.iterdir())
