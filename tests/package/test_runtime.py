"""Which runtime a model gets by its kind, the device, what is installed and how large it is."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from segpipe.errors import ConfigError, ModelError
from segpipe.package import runtime
from segpipe.package.export import export_model
from segpipe.package.model_file import Model, load_model
from segpipe.package.runtime import in_bf16, in_runtime
from segpipe.plan.plan import Plan

CPU = torch.device("cpu")


@pytest.fixture
def model(tmp_path: Path, network: nn.Module, plan: Plan) -> Model:
    export_model(network, plan, {}, tmp_path / "model.ts")
    return load_model(tmp_path / "model.ts")


def test_auto_takes_openvino_where_it_is_installed_and_the_network_is_not_tiny(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    assert in_runtime(model, "auto", CPU).runtime == "torch"
    monkeypatch.setattr(runtime, "_TINY", 0)
    monkeypatch.setattr(runtime, "from_torch", lambda module, threads: ("openvino", threads))
    for here, expected in ((True, "openvino"), (False, "torch")):
        monkeypatch.setattr(runtime, "installed", lambda name, here=here: here)
        assert in_runtime(model, "auto", CPU, 3).runtime == expected
    assert in_runtime(model, "torch", CPU) is model
    assert in_runtime(model, "auto", torch.device("cuda")) is model


def test_openvino_is_refused_on_a_gpu_and_where_it_is_not_installed(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="computes on the processor"):
        in_runtime(model, "openvino", torch.device("cuda"))
    monkeypatch.setattr("segpipe.package.extra.installed", lambda *names: False)
    with pytest.raises(ModelError, match=r"openvino is not installed.*pip install 'segpipe\[cpu\]'"):
        in_runtime(model, "openvino", CPU)


def test_a_network_of_torch_gets_its_bf16_from_autocast(model: Model) -> None:
    assert in_bf16(model).network is model.network
