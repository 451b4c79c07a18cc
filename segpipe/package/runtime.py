"""What computes a model's network: torch, or OpenVINO on a processor; and whether two ways of computing agree."""

from __future__ import annotations

import logging
import math
from dataclasses import replace
from typing import Literal, cast

import torch
from torch import Tensor, nn

from segpipe.errors import ConfigError, ModelError
from segpipe.package.extra import installed, needed
from segpipe.package.model_file import Model
from segpipe.package.openvino_network import OpenVinoNetwork, from_torch

log = logging.getLogger(__name__)

Runtime = Literal["auto", "torch", "openvino"]
"""auto: OpenVINO where it is installed, the device is the processor, the network is not tiny and OpenVINO takes it; else torch."""

LARGEST_GAP = 1e-3
"""Of fp32 logits, absolute plus relative: ten times what kernels that add up in other orders came to over deep networks."""
_TINY = 5e12
"""Weights times voxels of a window (a measure of its multiplications) below which torch is as quick once its weights are laid out for the
processor, and OpenVINO would take longer to load: measured at 5e11 (torch quicker by a sixth to a third) and 6e13 (OpenVINO).

Of the file, not of the clock or of the number of scans, so that a call that goes on with a folder chooses as the one before."""


def in_runtime(model: Model, runtime: Runtime, device: torch.device, threads: int = 0) -> Model:
    """The model with a network that `runtime` computes; its agreement is for the caller to check (`same_logits`).

    Raises:
        ConfigError: OpenVINO on another device than the processor.
        ModelError: ONNX in torch; or OpenVINO is asked for and not installed.
    """
    if model.runtime == "openvino":
        if runtime == "torch":
            raise ModelError(f"{model.path}: ONNX runs in OpenVINO, not in torch: use --runtime auto, or a model.ts")
        return model
    if runtime == "openvino":
        if device.type != "cpu":
            raise ConfigError(
                f"runtime openvino computes on the processor, and the device is {device}: use --device cpu, or --runtime auto"
            )
        needed("openvino")
    wanted = runtime == "openvino" or (runtime == "auto" and device.type == "cpu" and installed("openvino") and not _is_tiny(model))
    if not wanted:
        return model
    return replace(model, network=from_torch(cast(nn.Module, model.network), threads), runtime="openvino")


def in_bf16(model: Model) -> Model:
    """The model computed in bfloat16 where that is its network's own matter; torch's networks get it by autocast (`on_windows`)."""
    return replace(model, network=model.network.in_bf16()) if isinstance(model.network, OpenVinoNetwork) else model


def same_logits(found: Tensor, expected: Tensor) -> bool:
    """Whether fp32 logits of one shape are equal within `LARGEST_GAP`, absolute plus relative to the largest one, as `proof` has it."""
    return bool(((found - expected).abs() <= LARGEST_GAP * (1.0 + expected.abs().max())).all())


def _is_tiny(model: Model) -> bool:
    weights = sum(weight.numel() for weight in cast(nn.Module, model.network).parameters())
    return weights * math.prod(model.plan.patch_size) < _TINY
