"""How a training calls its network: as it is, or compiled where that was asked for and gives the same."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn

from segpipe.package.compiling import compiled, failed, plain, reason_of
from segpipe.package.pt2 import quiet

log = logging.getLogger(__name__)

Loss = Callable[[list[Tensor]], Tensor]
"""Logits of every head -> the loss of a step."""

_NEAR, _NEAR_BF16 = 0.02, 0.25
"""Gradients of the compiled network may lie so far from the eager ones, as a share of their length.

Measured on U-Nets and V-Nets: up to 0.005 in float32, where the eager ones lie up to 0.004 from those in float64 (a voxel at the bend of an
activation falls to either side); 0.02 to 0.09 in bfloat16, where the eager ones lie 0.03 to 0.11 from those in float32."""


class Heads:
    """Logits of every head of a network that learns, finest first.

    Compiled code is another way of calling the same network: its weights and their names, its averaged copy, and what is validated,
    written and exported know nothing of it.

    Args:
        network: see `SegmentationModule`.
        wanted: whether it is to be compiled.

    Attributes:
        seconds: that compiling and comparing took so far.
    """

    def __init__(self, network: nn.Module, wanted: bool = False) -> None:
        self.seconds = 0.0
        self._network, self._wanted = network, wanted
        self._eager = cast(Callable[[Tensor], list[Tensor]], network.forward_all)
        self._compiled: Callable[[Tensor], list[Tensor]] | None = None
        self._tried: tuple[bool, ...] = ()

    def __call__(self, image: Tensor) -> list[Tensor]:
        """(B, C, *sizes) -> the logits of every head; eager from here on where torch wants to compile anew for this step, and cannot."""
        if self._compiled is None:
            return self._eager(image)
        try:
            return self._compiled(plain(image))
        except Exception as error:  # torch.compile has errors of all kinds
            if not failed(error):
                raise
            self._leave(reason_of(error))
        return self._eager(image)

    def settle(self, image: Tensor, loss: Loss, together: Callable[[bool], bool] = bool) -> None:
        """Before a step: compile where that is still to be done, try it on the step's own patches, and keep to the eager network for good
        if it fails, or gives other gradients.

        Nothing of it is seen by the step: weights, their gradients, running statistics and generators are as they were, so that a
        training that goes on eager is to the bit what it is without being asked to compile.

        Args:
            image: (B, C, *sizes) of the step.
            loss: of its heads.
            together: whether all processes of a training agree.
        """
        if not self._wanted or self._tried == (state := tuple(part.training for part in self._network.modules())):
            return
        started = time.monotonic()
        with untouched(self._network, image.device):
            reason = self._reason_against(image, loss)
        if not together(not reason):
            reason = reason or "another process of the training cannot"
        self._tried, first = state, not self._tried
        self.seconds += time.monotonic() - started
        if reason:
            self._leave(reason)
        elif first:
            log.info("the network is compiled (%.0f s)", self.seconds)

    def _leave(self, reason: str) -> None:
        """Keep to the eager network for good."""
        self._wanted, self._compiled = False, None
        log.warning("training.compile: the network is not compiled: %s", reason)

    def _reason_against(self, image: Tensor, loss: Loss) -> str:
        """Why the compiled network cannot be used; the empty string where it can."""
        weights = [weight for weight in self._network.parameters() if weight.requires_grad]
        random = states_of(image.device)
        expected = gradients_of(loss(self._eager(image)), weights)
        set_generators(image.device, random)
        try:
            with quiet():
                self._compiled = self._compiled or compiled(self._eager)
                found = gradients_of(loss(self._compiled(plain(image))), weights)
        except Exception as error:  # torch.compile has errors of all kinds
            return reason_of(error)
        away, length = distance(found, expected), distance(expected, [None] * len(expected))
        return (
            "" if away <= near(image.device) * length else f"its gradients, {length:.2g} long, are {away:.2g} away from the eager network's"
        )


def gradients_of(loss: Tensor, weights: Sequence[Tensor]) -> list[Tensor | None]:
    """Of the loss, for each of the weights (None where it has no part in it); not gathered in `grad`, which other processes would see."""
    return list(torch.autograd.grad(loss, weights, allow_unused=True))


def near(device: torch.device) -> float:
    """How far gradients of two ways through the same network may lie apart, as a share of their length."""
    return _NEAR_BF16 if torch.is_autocast_enabled(device.type) else _NEAR


def distance(one: Sequence[Tensor | None], other: Sequence[Tensor | None]) -> float:
    """Length of the difference of two gradients; None is zero."""
    total = 0.0
    for left, right in zip(one, other, strict=True):
        parts = [part.detach().double() for part in (left, right) if part is not None]
        if parts:
            total += float((parts[0] - parts[1] if len(parts) == 2 else parts[0]).square().sum())
    return math.sqrt(total)


@contextmanager
def untouched(network: nn.Module, device: torch.device) -> Iterator[None]:
    """Running statistics, generators and the casts that autocast keeps are afterwards as they were."""
    random = states_of(device)
    buffers = [buffer.clone() for buffer in network.buffers()]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, before in zip(network.buffers(), buffers, strict=True):
                buffer.copy_(before)
        set_generators(device, random)
        torch.clear_autocast_cache()


def states_of(device: torch.device) -> list[Any]:
    """States of torch's generators: the CPU's, and a GPU's own."""
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])]


def set_generators(device: torch.device, states: Sequence[Any]) -> None:
    """Put torch's generators back into the states that `states_of` gave."""
    torch.set_rng_state(states[0])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states[1], device)
