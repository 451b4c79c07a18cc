"""The two doors for a user's own classes: `network.target` and `training.callback`. Never opened by a model file."""

from __future__ import annotations

import importlib
import inspect
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


def check_network(target: str) -> None:
    """Refuse a class that `build_trainable` could not build, whatever the plan will be.

    Raises:
        ConfigError: it cannot be imported, or takes other arguments.
    """
    if target:
        _check_call(_import(target, "network.target"), f"network.target {target}", ("in_channels", "classes", "dims"))


def check_callback(target: str) -> None:
    """Refuse a class that `build_callback` could not build.

    Raises:
        ConfigError: it cannot be imported, is no callback, or wants arguments.
    """
    if not target:
        return
    kind = _import(target, "training.callback")
    if isinstance(kind, type) and not issubclass(kind, pl.Callback):
        raise ConfigError(f"training.callback {target}: is no callback; must be a class derived from pytorch_lightning.Callback")
    _check_call(kind, f"training.callback {target}", ())


def build_callback(target: str) -> list[pl.Callback]:
    """The user's Lightning callback, or none.

    Raises:
        ConfigError: it cannot be imported or built, or is not a callback.
    """
    if not target:
        return []
    check_callback(target)
    callback = _import(target, "training.callback")()
    if not isinstance(callback, pl.Callback):
        raise ConfigError(f"training.callback {target}: makes a {type(callback).__name__}; must make a pytorch_lightning.Callback")
    return [callback]


def _check_call(kind: Any, what: str, arguments: tuple[str, ...]) -> None:
    """Whether a class or function takes these arguments, told from its signature, without calling it."""
    if not callable(kind):
        raise ConfigError(f"{what}: is a {type(kind).__name__}; must be a class")
    try:
        signature = inspect.signature(kind)
    except ValueError:  # some classes written in C have none
        return
    try:
        signature.bind(*arguments)
    except TypeError as error:
        raise ConfigError(f"{what}: cannot be built with ({', '.join(arguments)}): {error}; give its other arguments defaults") from error


def _import(path: str, key: str) -> Any:
    module, _, name = path.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"{key} is {path!r}, which cannot be imported ({error}); give package.module.Class") from error
