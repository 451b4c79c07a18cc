"""The loss of a step and its gradients as one CUDA graph: recorded once, replayed at every step.

A step of a small 3D U-Net is about a thousand kernels of a few microseconds each, which a processor launches more slowly than a GPU
takes them. Replayed from a graph they follow one another without a gap (`docs/results.md` has the figures).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from segpipe.network.segmenter import Segmenter
from segpipe.training.heads import distance, gradients_of, near, set_generators, states_of, untouched

log = logging.getLogger(__name__)

Call = Callable[[Tensor, Tensor], Tensor]
"""Image (B, C, *sizes) and label (B, *sizes) -> the scalar loss."""

_WARM_UP = 3
"""Steps that are taken before recording: libraries choose their kernels and reserve their memory in them."""


class Captured:
    """Calls a loss, from a CUDA graph where there is a GPU and the graph gives the gradients that the call itself gives.

    Only for our own networks: what Python does in another's forward pass besides launching kernels would happen once, and never again.

    Args:
        network: whose weights learn.
        wanted: false: the loss is called as it is.
    """

    def __init__(self, network: nn.Module, wanted: bool) -> None:
        self._network = network
        self._wanted = wanted and isinstance(network, Segmenter)
        self._parts, self._weights = list(network.modules()), list(network.parameters())
        self._recorded: _Recorded | None = None
        self._state: tuple[Any, ...] = ()

    def __call__(self, loss: Call, image: Tensor, label: Tensor) -> Tensor:
        """The loss of a batch; `loss` must be the same function at every call."""
        if not self._wanted or not image.is_cuda:
            return loss(image, label)
        weights = [(weight.requires_grad, weight.data_ptr()) for weight in self._weights]
        state = (image.shape, label.shape, weights, [part.training for part in self._parts])
        if state != self._state:
            self._recorded, self._state = None, state  # the old graph's memory first
            self._recorded = self._record(loss, image, label)
        if self._recorded is None:
            return loss(image, label)
        answer: Tensor = _Replay.apply(self._recorded, image, label, *self._recorded.weights)  # type: ignore[no-untyped-call]
        return answer

    def release(self) -> None:
        """Give the graph's memory back, which nothing else can use; the next step is recorded anew."""
        self._recorded, self._state = None, ()

    def _record(self, loss: Call, image: Tensor, label: Tensor) -> _Recorded | None:
        """None where it cannot be; the step sees nothing of it."""
        weights = [weight for weight in self._weights if weight.requires_grad]
        reason = ""
        recorded: _Recorded | None = None
        kind = image.device.type
        # Casts of weights that autocast keeps from one call to the next would be read from the graph's own memory.
        plain = torch.autocast(kind, torch.get_autocast_dtype(kind), torch.is_autocast_enabled(kind), cache_enabled=False)
        with untouched(self._network, image.device), plain:
            torch.clear_autocast_cache()
            random = states_of(image.device)
            expected = gradients_of(loss(image, label), weights)
            try:
                recorded = _Recorded(loss, image, label, weights)
                set_generators(image.device, random)
                recorded.replay(image, label)
                away, length = distance(recorded.gradients, expected), distance(expected, [None] * len(expected))
                if not away <= near(image.device) * length:
                    reason = f"its gradients, {length:.2g} long, are {away:.2g} away"
            except RuntimeError as error:
                reason = str(error).partition("\n")[0]
                _leave_recording(image.device)
        if reason:
            self._wanted = False
            log.warning("training.cuda_graph: the steps are not replayed from a graph: %s", reason)
            return None
        return recorded


def _leave_recording(device: torch.device) -> None:
    """After a recording that failed the GPU's generator still believes in it (torch 2.11), and refuses to draw: give it a state anew."""
    fresh = torch.Generator(device)
    torch.cuda.default_generators[torch.cuda.current_device()].graphsafe_set_state(fresh.graphsafe_get_state())


class _Recorded:
    """A recorded step: its graph, and the memory that the graph reads and writes.

    Attributes:
        gradients: of each of the weights, None where one has no part in the loss; overwritten by every replay, as `loss` is.
    """

    def __init__(self, loss: Call, image: Tensor, label: Tensor, weights: Sequence[Tensor]) -> None:
        self.weights = list(weights)
        self.image, self.label = image.clone(), label.clone()
        side = torch.cuda.Stream(image.device)
        side.wait_stream(torch.cuda.current_stream(image.device))
        with torch.cuda.stream(side):
            for _ in range(_WARM_UP):
                gradients_of(loss(self.image, self.label), self.weights)
        torch.cuda.current_stream(image.device).wait_stream(side)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph, capture_error_mode="thread_local"):  # loaders go on pinning memory in their threads
            total = loss(self.image, self.label)
            self.gradients = gradients_of(total, self.weights)
            self.loss = total.detach()

    def replay(self, image: Tensor, label: Tensor) -> None:
        self.image.copy_(image)
        self.label.copy_(label)
        self.graph.replay()


class _Replay(torch.autograd.Function):
    """A replay as a step of autograd: the gradients are there when the loss is."""

    @staticmethod
    def forward(ctx: Any, recorded: _Recorded, image: Tensor, label: Tensor, *weights: Tensor) -> Tensor:
        recorded.replay(image, label)
        ctx.recorded = recorded
        return recorded.loss.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, up: Tensor) -> tuple[Tensor | None, ...]:
        found = iter(torch._foreach_mul([one for one in ctx.recorded.gradients if one is not None], up))
        return None, None, None, *(None if one is None else next(found) for one in ctx.recorded.gradients)
