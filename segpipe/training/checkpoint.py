"""Checkpoints: written whole or not at all, read without executing anything."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from segpipe.errors import ModelError
from segpipe.io.atomic import replacing

_AVERAGED = "averaged.module."
_PLAIN = "network."


def save_checkpoint(trainer: pl.Trainer, path: Path) -> None:
    """Write a checkpoint next to its place and rename it. Every rank must call this; the first one writes."""
    if trainer.world_size == 1:
        with replacing(path) as temporary:
            trainer.save_checkpoint(temporary)
        return
    temporary = path.with_name(f".{path.name}.tmp")
    trainer.save_checkpoint(temporary)
    if trainer.is_global_zero:
        os.replace(temporary, path)  # noqa: PTH105


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The content of a checkpoint: tensors and plain values only.

    Raises:
        ModelError: missing, damaged, or holding anything else.
    """
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise ModelError(f"{path}: is missing; the run has no checkpoint yet: train it first") from error
    except Exception as error:  # a damaged file can fail anywhere in torch's reader
        raise ModelError(f"{path}: cannot be read as a checkpoint; it is damaged or not from segpipe train") from error
    if not isinstance(content, dict) or "state_dict" not in content:
        raise ModelError(f"{path}: is not a checkpoint of segpipe train")
    return content


def step_of(path: Path) -> int:
    """Optimiser steps that a checkpoint's weights have taken.

    Raises:
        ModelError: see `read_checkpoint`.
    """
    return int(read_checkpoint(path).get("global_step", 0))


def network_weights(path: Path) -> dict[str, torch.Tensor]:
    """Weights of the network in a checkpoint: the averaged ones where averaging was on.

    Raises:
        ModelError: see `read_checkpoint`.
    """
    state: dict[str, torch.Tensor] = read_checkpoint(path)["state_dict"]
    prefix = _AVERAGED if any(name.startswith(_AVERAGED) for name in state) else _PLAIN
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
