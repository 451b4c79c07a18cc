"""Intensities: a scan's own unit -> what the network was trained on, channel by channel as the plan says."""

from __future__ import annotations

from collections.abc import Callable

import torch

from segpipe.errors import DataError
from segpipe.plan.plan import Channel, Plan

_FLAT = 1e-6
"""A channel whose standard deviation is below this share of its largest value is constant, but for float32 rounding."""


def normalise(image: torch.Tensor, plan: Plan) -> torch.Tensor:
    """The image itself, normalised in place: a large scan fits into memory once more often. Mean and standard deviation of `zscore` are the
    scan's own.

    With `plan.nonzero` they are taken over the voxels at which any channel is non-zero, and all others become 0 there,
    which is the mean (after Isensee et al. 2021, Suppl. 2).

    Args:
        image: (C, I, J, K) float32, in the scan's unit.

    Returns:
        (C, I, J, K) float32, finite.

    Raises:
        DataError: NaN or infinite voxels.
    """
    for number, channel in enumerate(plan.channels):
        _check_finite(image[number], channel.name)
    inside = (image != 0).any(dim=0) if plan.nonzero else None  # (I, J, K)
    for number, channel in enumerate(plan.channels):
        _NORMALISE[channel.normalisation](image[number], channel, inside)
    return image


def _check_finite(values: torch.Tensor, name: str) -> None:
    if bool(torch.isfinite(torch.stack(torch.aminmax(values))).all()):  # NaN comes through; no copy of a large scan
        return
    bad = values.numel() - int(torch.isfinite(values).sum())
    if bad:
        raise DataError(f"channel {name} holds {bad} NaN or infinite voxels; all must be finite numbers: repair or leave out the scan")


def _zscore(values: torch.Tensor, channel: Channel, inside: torch.Tensor | None) -> None:
    sample = values if inside is None else values[inside]
    if sample.numel() == 0:
        values.zero_()
        return
    variance, mean = torch.var_mean(sample, correction=0)
    deviation = float(variance) ** 0.5
    if deviation <= _FLAT * max(float(sample.max()), -float(sample.min())):
        values.zero_()
        return
    values.sub_(mean).div_(deviation)
    if inside is not None:
        values.masked_fill_(~inside, 0.0)


def _ct(values: torch.Tensor, channel: Channel, inside: torch.Tensor | None) -> None:
    values.clamp_(channel.lower, channel.upper).sub_(channel.mean).div_(channel.std or 1.0)


def _rescale(values: torch.Tensor, channel: Channel, inside: torch.Tensor | None) -> None:
    values.sub_(channel.lower).div_((channel.upper - channel.lower) or 1.0)


def _none(values: torch.Tensor, channel: Channel, inside: torch.Tensor | None) -> None:
    """As it is."""


_NORMALISE: dict[str, Callable[[torch.Tensor, Channel, torch.Tensor | None], None]] = {
    "zscore": _zscore,
    "ct": _ct,
    "rescale": _rescale,
    "none": _none,
}
