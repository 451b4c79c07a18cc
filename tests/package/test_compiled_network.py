"""A compiled network gives the numbers of the one that it was made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from segpipe.errors import ModelError
from segpipe.network.build import build_network
from segpipe.package.compiled_network import CompiledNetwork, compiled_model
from segpipe.package.export import export_kinds
from segpipe.package.model_file import Kind, Model, load_model
from segpipe.package.precision import Compute, on_windows
from segpipe.plan.plan import NetworkPlan, Plan

CPU = torch.device("cpu")
Write = Callable[[Kind, nn.Module, Plan], Model]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def written(kind: Kind, network: nn.Module, plan: Plan) -> Model:
        export_kinds(network, plan, {}, {kind: tmp_path / f"model.{kind}"})
        return load_model(tmp_path / f"model.{kind}")

    return written


def windows(plan: Plan, count: int = 3) -> torch.Tensor:
    size = plan.patch_size
    return torch.randn(count, len(plan.channels), *size, generator=torch.Generator().manual_seed(1))


def own(name: str, **changes: Any) -> nn.Module:
    torch.manual_seed(0)
    return build_network(NetworkPlan(name, (4, 6), ((3,) * 3,) * 2, ((1,) * 3, (2,) * 3), **changes), 2, 3, 3)


@pytest.mark.usefixtures("uncompiled_backend")
@pytest.mark.parametrize(("kind", "name"), [("ts", "unet"), ("ts", "vnet"), ("pt2", "")])
def test_a_batch_of_windows_gives_the_logits_of_the_file(write: Write, network: nn.Module, plan: Plan, kind: Kind, name: str) -> None:
    model = write(kind, own(name) if name else network, plan)
    after = compiled_model(model, CPU, False)
    assert (after.runtime, after.plan, model.runtime) == ("compiled", model.plan, "torch")
    with torch.inference_mode():
        torch.testing.assert_close(after.network(windows(plan)), model.network(windows(plan)), atol=1e-5, rtol=1e-4)


@pytest.mark.usefixtures("uncompiled_backend")
def test_bf16_is_as_far_from_fp32_as_that_of_autocast_and_leaves_the_weights_of_the_file(write: Write, plan: Plan) -> None:
    model = write("ts", own("unet", padding="replicate"), plan)
    script: Any = model.network
    before = {name: weight.clone() for name, weight in script.state_dict().items()}
    with torch.inference_mode():
        half = on_windows(compiled_model(model, CPU, True).network, 3, Compute("cpu", True))(windows(plan))
        theirs, full = (on_windows(model.network, 3, Compute("cpu", bf16))(windows(plan)) for bf16 in (True, False))
    assert half.dtype == torch.bfloat16
    away, usual = ((one.float() - full).abs().mean() for one in (half, theirs))
    assert 0 < away < 2 * usual
    assert all(torch.equal(weight, before[name]) and weight.dtype == torch.float32 for name, weight in script.state_dict().items())


def test_one_compilation_serves_every_batch(network: nn.Module, plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []

    def backend(graph: Any, inputs: Any) -> Any:
        made.append(len(made))
        return graph.forward

    monkeypatch.setattr("segpipe.package.compiling.BACKEND", backend)
    monkeypatch.setattr("segpipe.package.compiling.OPTIONS", None)
    compiled = CompiledNetwork(network.eval(), (1, 2, 8, 10, 6), CPU, False)
    with torch.inference_mode():
        for count in (1, 4, 2):
            assert torch.allclose(compiled(windows(plan, count)), network(windows(plan, count)), atol=1e-6)
        assert torch.allclose(compiled(windows(plan).flip(3)), network(windows(plan).flip(3)), atol=1e-6)
    assert made == [0]


def test_what_torch_does_not_compute_is_not_compiled(write: Write, network: nn.Module, plan: Plan) -> None:
    model = replace(write("ts", network, plan), runtime="openvino")
    with pytest.raises(ModelError, match=r"model.ts: openvino computes it, and compiles it by itself: leave out --compile"):
        compiled_model(model, CPU, False)
