"""A compiled network learns as the eager one does, or the eager one learns as if nobody had asked."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from segpipe.network.build import build_network
from segpipe.plan.plan import NetworkPlan
from segpipe.training.heads import Heads

MESSAGE = "training.compile: the network is not compiled: "


def network(**changes: Any) -> nn.Module:
    torch.manual_seed(0)
    spec = {"norm": "batch", "dropout": 0.3, "convolutions": 1} | changes
    return build_network(NetworkPlan("unet", (4, 6), ((3,) * 3,) * 2, ((1,) * 3, (2,) * 3), deep_supervision=True, **spec), 1, 2, 3)


def loss(heads: list[Tensor]) -> Tensor:
    return sum((head.float() - 0.1).square().mean() for head in heads)  # type: ignore[return-value]


def patches(seed: int = 1) -> Tensor:
    return torch.randn(2, 1, 8, 8, 6, generator=torch.Generator().manual_seed(seed))


def learned(net: nn.Module, wanted: bool, bf16: bool = False) -> tuple[Heads, list[Tensor], list[Tensor]]:
    """Heads, gradients of two steps, and buffers after them."""
    heads = Heads(net, wanted)
    for step in range(2):
        torch.manual_seed(step)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            heads.settle(patches(step), loss)
            total = loss(heads(patches(step)))
        total.backward()
    return heads, [weight.grad for weight in net.parameters() if weight.grad is not None], list(net.buffers())


def same(one: list[Tensor], other: list[Tensor]) -> bool:
    return len(one) == len(other) and all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Torch has much to say to its authors while it compiles."""
    return [record.message for record in caplog.records if record.name.startswith("segpipe")]


def failing(graph: Any, inputs: Any) -> Any:
    raise RuntimeError("no compiler\nwhatsoever")


def failing_backward(graph: Any, inputs: Any) -> Any:
    from torch._dynamo.backends.common import aot_autograd

    return aot_autograd(fw_compiler=lambda fx, _: fx.forward, bw_compiler=failing)(graph, inputs)


def wrong(graph: Any, inputs: Any) -> Any:
    return lambda *values: [answer * 1.5 for answer in graph.forward(*values)]


@pytest.mark.usefixtures("uncompiled_backend")
@pytest.mark.parametrize("bf16", [False, True])
def test_a_compiled_network_has_the_gradients_of_the_eager_one(bf16: bool, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="segpipe"):
        heads, gradients, buffers = learned(network(), True, bf16)
    assert [line.partition(" (")[0] for line in told(caplog)] == ["the network is compiled"]
    assert heads.seconds > 0
    _, expected, statistics = learned(network(), False, bf16)
    for found, other in zip(gradients + buffers, expected + statistics, strict=True):
        torch.testing.assert_close(found, other, atol=0.02 if bf16 else 1e-4, rtol=0.05 if bf16 else 1e-3)


@pytest.mark.parametrize(
    ("backend", "reason", "bf16"),
    [
        (failing, "no compiler", False),
        (failing_backward, "no compiler", True),
        (wrong, "its gradients, ", False),
        (wrong, "its gradients, ", True),
    ],
)
def test_where_compiling_fails_or_errs_learning_is_to_the_bit_what_it_is_without(
    backend: Callable[..., Any], reason: str, bf16: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    torch._dynamo.reset()
    monkeypatch.setattr("segpipe.package.compiling.BACKEND", backend)
    monkeypatch.setattr("segpipe.package.compiling.OPTIONS", None)
    heads, gradients, buffers = learned(network(), True, bf16)
    [line] = told(caplog)
    assert line.startswith(MESSAGE) and reason in line and "\n" not in line
    _, expected, statistics = learned(network(), False, bf16)
    assert same(gradients, expected) and same(buffers, statistics)
    assert heads(patches())[0].grad_fn is not None


@pytest.mark.usefixtures("uncompiled_backend")
def test_a_network_is_tried_again_when_other_parts_of_it_learn() -> None:
    net, agreed = network(norm="instance"), []
    heads = Heads(net, True)
    for frozen in (True, True, False, False):
        net.get_submodule("backbone.encoder.0").train(not frozen)
        heads.settle(patches(), loss, lambda yes: agreed.append(yes) or yes)  # type: ignore[func-returns-value]
    assert agreed == [True, True]


@pytest.mark.usefixtures("uncompiled_backend")
def test_one_process_that_cannot_keeps_all_from_compiling(caplog: pytest.LogCaptureFixture) -> None:
    heads = Heads(network(), True)
    heads.settle(patches(), loss, lambda yes: False)
    assert told(caplog) == [MESSAGE + "another process of the training cannot"]
    heads.settle(patches(), loss, lambda yes: pytest.fail("it is settled"))


def test_nothing_is_compiled_that_nobody_asked_for(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr("segpipe.package.compiling.BACKEND", failing)
    heads, _, _ = learned(network(), False)
    assert (heads.seconds, told(caplog)) == (0.0, [])


def test_a_step_that_torch_wants_to_compile_anew_and_cannot_is_eager_and_so_are_the_next(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    torch._dynamo.reset()
    made: list[Any] = []

    def once(graph: Any, inputs: Any) -> Any:
        made.append(inputs)
        return graph.forward if len(made) == 1 else failing(graph, inputs)

    monkeypatch.setattr("segpipe.package.compiling.BACKEND", once)
    monkeypatch.setattr("segpipe.package.compiling.OPTIONS", None)
    net = network(norm="instance", dropout=0.0)
    heads, other = Heads(net, True), patches()[:, :, :6]
    heads.settle(patches(), loss)
    assert told(caplog) == [] and heads(patches())[0].shape == (2, 2, 8, 8, 6)
    for _ in range(2):
        assert same(heads(other), net.forward_all(other))  # type: ignore[operator]
    assert told(caplog) == [MESSAGE + "RuntimeError: no compiler"] and len(made) == 2


def test_what_goes_wrong_while_compiled_code_runs_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    torch._dynamo.reset()
    monkeypatch.setattr("segpipe.package.compiling.BACKEND", "eager")
    monkeypatch.setattr("segpipe.package.compiling.OPTIONS", None)
    heads = Heads(network(norm="instance", dropout=0.0), True)
    heads.settle(patches(), loss)

    def full(image: Tensor) -> list[Tensor]:
        raise torch.OutOfMemoryError("no memory")

    heads._compiled = full
    with pytest.raises(torch.OutOfMemoryError):
        heads(patches())


@pytest.mark.usefixtures("uncompiled_backend")
def test_the_network_keeps_the_names_of_its_weights() -> None:
    net = network()
    before = list(net.state_dict())
    learned(net, True)
    assert list(net.state_dict()) == before
    assert not [name for name in before if "_orig_mod" in name]
