"""An ONNX file holds network and document, runs in OpenVINO, and brings nothing from elsewhere."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from segpipe.errors import ModelError
from segpipe.package.export import export_kinds
from segpipe.package.extra import installed
from segpipe.package.model_file import DOCUMENT, load_model
from segpipe.package.onnx_file import SHA256
from segpipe.plan.plan import Channel, Label, NetworkPlan, Plan

if not installed("onnx", "onnxscript", "openvino"):
    pytest.skip("needs the extra `cpu`", allow_module_level=True)

import onnx


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv3d(1, 4, 3, padding=1), nn.Conv3d(4, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.relu(self.first(x)))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, nn.Module]:
    torch.manual_seed(0)
    labels = (Label(0, 0, "background"), Label(1, 10, "organ"))
    spec = NetworkPlan("unet", (4,), ((3, 3, 3),), ((1, 1, 1),))
    plan = Plan("t", 3, (Channel("T2", "zscore"),), labels, True, (0, 1, 2), None, (16, 12, 8), 1, False, (True,) * 3, spec)
    network, path = Small().eval(), tmp_path_factory.mktemp("onnx") / "model.onnx"
    export_kinds(network, plan, {"licence": "CC0"}, {"onnx": path})
    return path.read_bytes(), network


@pytest.fixture
def path(made: tuple[bytes, nn.Module], tmp_path: Path) -> Path:
    (tmp_path / "model.ts").write_bytes(made[0])
    return tmp_path / "model.ts"


def edited(path: Path, edit: Any, hashed: bool = True) -> None:
    from segpipe.package.onnx_file import _hash, _set

    model = onnx.ModelProto()
    model.ParseFromString(path.read_bytes())
    edit(model)
    if hashed:
        _set(model, {entry.key: entry.value for entry in model.metadata_props} | {SHA256: _hash(model)})
    path.write_bytes(model.SerializeToString())


def refused(path: Path, message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        load_model(path)
    assert "\n" not in str(caught.value)


def test_it_is_known_by_its_content_and_computes_what_the_network_does_at_any_size(path: Path, made: tuple[bytes, nn.Module]) -> None:
    model = load_model(path)
    assert (model.kind, model.runtime, model.document["licence"]) == ("onnx", "openvino", "CC0")
    for shape in ((1, 1, 16, 12, 8), (3, 1, 9, 7, 11)):
        image = torch.randn(shape)
        with torch.inference_mode():
            assert torch.allclose(model.network(image), made[1](image), atol=1e-4, rtol=1e-4)
    assert b".py" not in path.read_bytes()


def test_weights_in_other_files_are_refused(path: Path) -> None:
    def outside(model: Any) -> None:
        tensor = model.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = 1
        entry = tensor.external_data.add()
        entry.key, entry.value = "location", "/etc/passwd"

    edited(path, outside)
    refused(path, "weights in other files")


def test_operators_of_other_makers_are_refused(path: Path) -> None:
    edited(path, lambda model: setattr(model.graph.node[0], "domain", "com.example"))
    refused(path, "operators of 'com.example'")


def test_damage_is_told_though_onnx_has_no_checksums(path: Path, made: tuple[bytes, nn.Module]) -> None:
    data = bytearray(made[0])
    weights = next(made[1].parameters()).detach().numpy().tobytes()[:32]
    data[data.index(weights) + 10] ^= 1
    path.write_bytes(bytes(data))
    refused(path, "is damaged, or was changed")
    for share in (0.1, 0.5, 0.99):
        path.write_bytes(made[0][: int(len(made[0]) * share)])
        refused(path, "cut off|damaged|holds no")
    path.write_bytes(b"\x08\x07hello")
    refused(path, "is not a model file")


def test_onnx_of_another_program_is_refused(path: Path) -> None:
    edited(path, lambda model: model.ClearField("metadata_props"))
    refused(path, f"holds no {DOCUMENT}")


def test_without_the_packages_the_cure_is_told(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "onnx" else find(name, *rest))
    refused(path, r"onnx is not installed.*pip install 'segpipe\[cpu\]'")


def test_openvino_is_imported_without_what_reports_over_the_network() -> None:
    code = """
import sys, torch
from segpipe.package.openvino_network import from_torch
network = torch.nn.Conv3d(1, 2, 3, padding=1).eval()
print(from_torch(network)(torch.zeros(1, 1, 5, 5, 5)).shape[1], sys.modules.get("openvino_telemetry"))
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (run.stdout, run.returncode) == ("2 None\n", 0), run.stderr


def test_it_does_not_run_on_a_gpu(path: Path) -> None:
    with pytest.raises(ModelError, match="runs on the processor"):
        load_model(path, "cuda")
