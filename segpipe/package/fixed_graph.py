"""A network -> the graph of plain operators that one input shape goes through, for runtimes that know neither Python nor TorchScript."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx


def fixed_graph(module: nn.Module, shape: tuple[int, ...], where: torch.device | str = "cpu") -> GraphModule:
    """Record what `module` does with (B, C, *spatial) inputs of `shape`; its weights are shared, not copied.

    Tensors without content go through a scripted network, and are said to be on a GPU: there our networks take plain operators with the
    channels first, where on a processor they rearrange maps, which other runtimes do in their own way. Nothing of it needs a GPU.

    Args:
        where: the graph is to compute.

    Raises:
        RuntimeError, TypeError, ValueError: its way depends on what the voxels are, or it cannot be followed.
    """
    device = "cuda" if any(isinstance(part, torch.jit.ScriptModule) for part in module.modules()) else "cpu"
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    with warnings.catch_warnings(), mode, torch.no_grad():
        warnings.simplefilter("ignore")
        with _replaced(module, device) as (real, fake):
            image = torch.empty(shape, device=device)
            graph: GraphModule = make_fx(lambda x, *weights: module(x), _in_plain_words(), "real")(image, *fake)
    _, *places = [node for node in graph.graph.nodes if node.op == "placeholder"]
    for number, (place, weight) in enumerate(zip(places, real, strict=True)):
        graph.register_buffer(f"weight_{number}", weight.detach())
        with graph.graph.inserting_before(place):
            place.replace_all_uses_with(graph.graph.get_attr(f"weight_{number}"))
        graph.graph.erase_node(place)
    for node in graph.graph.nodes:
        if node.target is torch.ops.aten.slice.Tensor and _is_whole(node.args):
            node.replace_all_uses_with(node.args[0])  # x[:] without bounds, which OpenVINO does not take
        if "device" in node.kwargs:
            node.kwargs = {**node.kwargs, "device": torch.device(where)}
    graph.graph.eliminate_dead_code()
    graph.recompile()
    return graph


def _is_whole(arguments: tuple[Any, ...]) -> bool:
    """Whether a slice (x, dim, start, end, step) is all of x."""
    start, end, step = [*arguments[2:], None, None, None][:3]
    return start in (None, 0) and end in (None, sys.maxsize) and step in (None, 1)


def _in_plain_words() -> dict[Any, Callable[..., Tensor]]:
    """Operators that other runtimes do not know, in those that they do."""
    aten = torch.ops.aten
    pads = {
        aten.replication_pad2d.default: _replicated,
        aten.replication_pad3d.default: _replicated,
        aten.reflection_pad2d.default: _reflected,
        aten.reflection_pad3d.default: _reflected,
    }
    scalars = {  # TorchScript has operators of their own for numbers
        aten.add.Scalar: lambda x, other: x + other,
        aten.sub.Scalar: lambda x, other: x - other,
        aten.mul.Scalar: lambda x, other: x * other,
        aten.div.Scalar: lambda x, other: x / other,
    }
    return {**pads, **scalars, aten._prelu_kernel.default: _prelu}


def _replicated(x: Tensor, padding: Sequence[int]) -> Tensor:
    """(..., *sizes) with margins (last axis first, before and after) of its outermost voxels."""
    for axis, before, after in _margins(x, padding):
        size = x.shape[axis]
        x = torch.cat([*[x.narrow(axis, 0, 1)] * before, x, *[x.narrow(axis, size - 1, 1)] * after], axis)
    return x


def _reflected(x: Tensor, padding: Sequence[int]) -> Tensor:
    """As `_replicated`, mirrored at the outermost voxels."""
    for axis, before, after in _margins(x, padding):
        size = x.shape[axis]
        head = [x.narrow(axis, place, 1) for place in range(before, 0, -1)]
        tail = [x.narrow(axis, size - 2 - place, 1) for place in range(after)]
        x = torch.cat([*head, x, *tail], axis)
    return x


def _margins(x: Tensor, padding: Sequence[int]) -> list[tuple[int, int, int]]:
    """(axis, before, after) of each axis with a margin."""
    pairs = [(x.dim() - 1 - place, padding[2 * place], padding[2 * place + 1]) for place in range(len(padding) // 2)]
    return [pair for pair in pairs if pair[1] or pair[2]]


def _prelu(x: Tensor, weight: Tensor) -> Tensor:
    return torch.where(x > 0, x, weight * x)


@contextmanager
def _replaced(module: nn.Module, device: str) -> Iterator[tuple[list[Tensor], list[Tensor]]]:
    """The module's weights (real, fake), with the fake ones in their places as long as the context lasts."""
    places: list[tuple[nn.Module, str, Tensor]] = []
    for part in module.modules():
        for kind in (part._parameters, part._buffers):
            places += [(part, name, value) for name, value in list(kind.items()) if value is not None]
    fake = [torch.empty(value.shape, dtype=value.dtype, device=device) for _, _, value in places]
    try:
        for (part, name, _), value in zip(places, fake, strict=True):
            _put(part, name, value)
        yield [value for _, _, value in places], fake
    finally:
        for part, name, value in places:
            _put(part, name, value)


def _put(part: Any, name: str, value: Tensor) -> None:
    if isinstance(part, torch.jit.ScriptModule):
        part._c.setattr(name, value)  # the module's own setattr takes parameters only
    elif name in part._parameters:
        part._parameters[name] = value
    else:
        part._buffers[name] = value
