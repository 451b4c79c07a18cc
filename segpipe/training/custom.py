"""The two doors for a user's own classes: `network.target` and `training.callback`. Never opened by a model file."""

from __future__ import annotations

import importlib
from typing import Any

import pytorch_lightning as pl
from torch import Tensor, nn

from segpipe.errors import ConfigError
from segpipe.network.build import build_network
from segpipe.plan.plan import Plan


class SingleHead(nn.Module):
    """Gives any network of `dims` dimensions the `forward_all` and the `steps` that training asks for."""

    def __init__(self, inner: nn.Module, dims: int) -> None:
        super().__init__()
        self.inner = inner
        self.steps = [[1] * dims]

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.inner(x)
        return result

    def forward_all(self, x: Tensor) -> list[Tensor]:
        return [self.inner(x)]


def build_trainable(plan: Plan, target: str = "") -> nn.Module:
    """The network of the plan, or the user's class `target`, built with (in_channels, classes, dims).

    Raises:
        ConfigError: `target` cannot be imported or built.
    """
    if not target:
        return build_network(plan.network, len(plan.channels), plan.outputs, plan.dims)
    kind = _import(target, "network.target")
    try:
        network = kind(len(plan.channels), plan.outputs, plan.dims)
    except TypeError as error:
        raise ConfigError(f"network.target {target}: cannot be built with (in_channels, classes, dims): {error}") from error
    if not isinstance(network, nn.Module):
        raise ConfigError(f"network.target {target}: makes a {type(network).__name__}; must make a torch.nn.Module")
    return SingleHead(network, plan.dims)


def build_callback(target: str) -> list[pl.Callback]:
    """The user's Lightning callback, or none.

    Raises:
        ConfigError: it cannot be imported, or is not a callback.
    """
    if not target:
        return []
    callback = _import(target, "training.callback")()
    if not isinstance(callback, pl.Callback):
        raise ConfigError(f"training.callback {target}: makes a {type(callback).__name__}; must make a pytorch_lightning.Callback")
    return [callback]


def _import(path: str, key: str) -> Any:
    module, _, name = path.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"{key} is {path!r}, which cannot be imported ({error}); give package.module.Class") from error
