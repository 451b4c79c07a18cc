"""Small steps that a GPU at work is not waited for in."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def upload(values: Tensor, device: torch.device) -> Tensor:
    """`values`, made on the CPU, on `device`; a GPU is not waited for, which a plain copy does."""
    if device.type != "cuda":
        return values.to(device)
    return values.pin_memory().to(device, non_blocking=True)


def chosen(batch: Tensor, rows: Sequence[int]) -> Tensor:
    """The patches `rows` (ascending) of a batch (B, ...), (R, ...); the batch itself where they are all of it."""
    return batch if len(rows) == len(batch) else torch.stack([batch[row] for row in rows])
