"""A network of torch that is compiled for one size of window."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn
from torch.fx import GraphModule

from segpipe.errors import ModelError
from segpipe.package.compiling import compiled, plain
from segpipe.package.fixed_graph import fixed_graph
from segpipe.package.model_file import Model
from segpipe.package.pt2 import quiet

RUNTIME = "compiled"
"""What a model says of itself that has such a network: its label maps may differ in a voxel from those of torch as it is."""


class CompiledNetwork:
    """(B, C, *spatial) -> logits (B, N, *spatial), float32, in bf16 bfloat16.

    torch.compile can follow neither TorchScript nor what a `.pt2` file holds of branches; it is given the graph of plain operators that a
    window of the plan's size goes through. Windows go through one by one, so that it is compiled once, whatever the batch.

    Args:
        module: a scripted or exported network; its weights are shared in float32, copied for bfloat16.
        shape: (1, C, *spatial) of a window.
        device: where it is.
        bf16: multiply in bfloat16, as autocast would.

    Raises:
        RuntimeError, TypeError, ValueError: see `fixed_graph`.
    """

    def __init__(self, module: nn.Module, shape: tuple[int, ...], device: torch.device, bf16: bool) -> None:
        graph = fixed_graph(module, shape, device)
        self._kind = device.type
        self._compiled: Callable[[Tensor], Tensor] = compiled(_in_bf16(graph) if bf16 else graph)

    def __call__(self, windows: Tensor) -> Tensor:
        """The first call compiles, and may fail in any way (see `compiled`)."""
        with torch.autocast(self._kind, enabled=False):  # the graph holds its own casts
            outputs = [self._compiled(plain(one)) for one in windows.split(1)]
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs)


def compiled_model(model: Model, device: torch.device, bf16: bool) -> Model:
    """The model with its network compiled, at the first window; whether it then agrees is for the caller to check.

    Raises:
        ModelError: torch does not compute it.
        RuntimeError, TypeError, ValueError: see `fixed_graph`.
    """
    if model.runtime != "torch":
        raise ModelError(f"{model.path}: {model.runtime} computes it, and compiles it by itself: leave out --compile")
    plan = model.plan
    shape = (1, len(plan.channels), *plan.patch_size[: plan.dims])
    with quiet():
        network = CompiledNetwork(cast(nn.Module, model.network), shape, device, bf16)
    return replace(model, network=network, runtime=RUNTIME)


def _in_bf16(graph: GraphModule) -> GraphModule:
    """The same graph with its convolutions in bfloat16, their weights cast once and for all; all else takes what it is given."""
    half = torch.bfloat16
    for node in graph.graph.find_nodes(op="call_function", target=torch.ops.aten.convolution.default):
        for place, argument in enumerate(node.args[:3]):  # image, weight, bias
            if argument is None:
                continue
            if argument.op == "get_attr":
                weight = getattr(graph, argument.target)
                setattr(graph, argument.target, weight.to(half))
                continue
            with graph.graph.inserting_before(node):
                cast_ = graph.graph.call_function(torch.ops.aten._to_copy.default, (argument,), {"dtype": half})
            node.update_arg(place, cast_)
    graph.recompile()
    return graph
