"""From the plan's description of a network to the network."""

from __future__ import annotations

from collections.abc import Collection

from segpipe.errors import ConfigError
from segpipe.network.activation import ACTIVATIONS
from segpipe.network.blocks import PADDINGS, initialise
from segpipe.network.normalisation import NORMS
from segpipe.network.segmenter import Segmenter
from segpipe.network.unet import UNet
from segpipe.network.vnet import VNet
from segpipe.plan.plan import NetworkPlan

NETWORKS: dict[str, type[UNet] | type[VNet]] = {"unet": UNet, "vnet": VNet}
"""Architectures by the name that settings use."""

BLOCKS = ("plain", "residual")
POOLS = ("stride", "max", "average")


def build_network(spec: NetworkPlan, in_channels: int, classes: int, dims: int) -> Segmenter:
    """The network with fresh weights (He et al. 2015), drawn from torch's global generator.

    Args:
        spec: architecture, stages and blocks.
        in_channels: channels of the input, at least 1.
        classes: outputs, background included, at least 1.
        dims: 2 or 3.

    Raises:
        ConfigError: a value of `spec` that no network can be built from; the message names it.
    """
    _check(spec, in_channels, classes, dims)
    backbone = NETWORKS[spec.name](spec, in_channels, dims)
    heads = max(1, len(spec.features) - 1) if spec.deep_supervision else 1
    network = Segmenter(backbone, spec.strides, classes, heads)
    initialise(network)
    return network


def _check(spec: NetworkPlan, in_channels: int, classes: int, dims: int) -> None:
    choices: dict[str, Collection[str]] = {
        "name": NETWORKS,
        "block": BLOCKS,
        "norm": NORMS,
        "activation": ACTIVATIONS,
        "pooling": POOLS,
        "padding": PADDINGS,
    }
    for key, allowed in choices.items():
        if getattr(spec, key) not in allowed:
            raise ConfigError(f"network.{key} is {getattr(spec, key)!r}; must be one of {', '.join(allowed)}")
    if dims not in (2, 3):
        raise ConfigError(f"a network has 2 or 3 dimensions, not {dims}: set plan.dims")
    if in_channels < 1 or classes < 1:
        raise ConfigError(f"a network with {in_channels} channels in and {classes} classes out is none; must be 1 or more each")
    if not 0 <= spec.dropout < 1:
        raise ConfigError(f"network.dropout is {spec.dropout}; must be 0 or more and below 1")
    if spec.convolutions < 1:
        raise ConfigError(f"network.convolutions is {spec.convolutions}; must be 1 or more")
    _check_stages(spec, dims)


def _check_stages(spec: NetworkPlan, dims: int) -> None:
    stages = len(spec.features)
    if stages < 1 or min(spec.features) < 1:
        raise ConfigError(f"network.features is {list(spec.features)}; must be one number of channels, 1 or more, for each stage")
    for key, values in (("kernels", spec.kernels), ("strides", spec.strides)):
        if len(values) != stages:
            raise ConfigError(f"network.{key} has {len(values)} stages and network.features {stages}; must be the same number")
        if any(len(value) != dims or min(value) < 1 for value in values):
            raise ConfigError(f"network.{key} is {values}; must have {dims} numbers, 1 or more, for each stage")
    if any(size % 2 == 0 for kernel in spec.kernels for size in kernel):
        raise ConfigError(f"network.kernels is {spec.kernels}; sizes must be odd, so that a convolution keeps the grid")
    if max(spec.strides[0]) > 1:
        raise ConfigError(f"network.strides begins with {spec.strides[0]}; the first stage must have the input's size, all ones")
