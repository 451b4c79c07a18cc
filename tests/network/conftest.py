"""Weights from a peer's network into ours."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest
import torch
from torch import nn

Transplant = Callable[[Iterable[nn.Module], Iterable[nn.Module]], None]


def kind(layer: nn.Module) -> str:
    name = type(layer).__name__
    return next((word for word in ("ConvTranspose", "Conv", "Norm", "PReLU") if word in name), name)


def with_parameters(modules: Iterable[nn.Module]) -> dict[str, list[nn.Module]]:
    """Layers that have parameters, by kind, in the order of their modules."""
    found: dict[str, list[nn.Module]] = {}
    for module in modules:
        for layer in module.modules():
            if not list(layer.children()) and list(layer.parameters()):
                found.setdefault(kind(layer), []).append(layer)
    return found


def transplant_layers(peer: Iterable[nn.Module], own: Iterable[nn.Module]) -> None:
    """Random scales, shifts, slopes and statistics into the peer, then all of the peer's into ours, layer for layer."""
    sources, targets = with_parameters(peer), with_parameters(own)
    assert {key: len(value) for key, value in sources.items()} == {key: len(value) for key, value in targets.items()}
    with torch.no_grad():
        for key in sources:
            for source, target in zip(sources[key], targets[key], strict=True):
                state = source.state_dict(keep_vars=True)
                for name, value in state.items():
                    if name == "bias" and "Conv" in key and target.bias is None:
                        value.zero_()  # before a normalisation; ours has none
                    elif name == "running_var" or key == "PReLU":
                        value.uniform_(0.2, 2)
                    elif value.dim() == 1:
                        value.normal_()
                for name, value in target.state_dict(keep_vars=True).items():
                    assert value.shape == state[name].shape
                    value.copy_(state[name])


@pytest.fixture
def transplant() -> Transplant:
    return transplant_layers
