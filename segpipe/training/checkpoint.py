"""Checkpoints: written whole or not at all, read without executing anything."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO

from segpipe.errors import ModelError
from segpipe.io.atomic import replacing

_AVERAGED = "averaged.module."
_PLAIN = "network."


class WholeFiles(TorchCheckpointIO):
    """How `trainer.save_checkpoint` writes: next to its place, then renamed.

    Lightning's own way goes through the system's folder for temporary files, which may be another disk, and leaves a file there when
    the disk of the run is full.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """In the first rank alone.

        Raises:
            ConfigError: `path` cannot be written.
        """
        content = io.BytesIO()
        torch.save(checkpoint, content)
        with replacing(Path(path)) as temporary:
            temporary.write_bytes(content.getbuffer())


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
