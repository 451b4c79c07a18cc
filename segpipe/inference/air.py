"""Windows of nothing but air: background without asking the network."""

from __future__ import annotations

import torch

from segpipe.package.head import Head
from segpipe.patches.sliding_window import Empty
from segpipe.plan.plan import Plan
from segpipe.prepare.readout import Readout

_CERTAIN = 20.0
"""Logit of what is not asked about."""
UNSEEN = float(torch.finfo(torch.float32).max)
"""Feature where no window has looked; a network that gives it gives no finite logit."""
_ROUNDING = 1e-4
"""What resampling may add to a value that all neighbours have, in units of the normalised image."""


def empty_windows(plan: Plan, readout: Readout) -> Empty | None:
    """Windows of nothing but air, where the plan says that the network is not asked about them: certainly background."""
    if not plan.skip_empty:
        return None
    clipped = tuple((channel.lower - channel.mean) / (channel.std or 1.0) + _ROUNDING for channel in plan.channels)
    first = -_CERTAIN if readout.paint else _CERTAIN
    return Empty(clipped, (first, *(-_CERTAIN for _ in range(plan.outputs - 1))))


def behind(head: Head, features: torch.Tensor, empty: Empty | None) -> torch.Tensor:
    """Logits (N, i, j, k) of features (F, i, j, k); where no window has looked, those of an empty one."""
    with torch.inference_mode():
        scores = head(features)
        if empty is not None:
            unseen = features[0] == UNSEEN
            for plane, value in zip(scores, empty.logits, strict=True):
                plane.masked_fill_(unseen, value)
    return scores
