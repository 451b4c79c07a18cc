"""Scans that are unlike those that a model was trained on, by the ranges that its file holds: a warning, never a refusal.

Plain rules. **Spacing** and **field of view** (the scan's extent): along x, y or z more than twice the largest, or less than half the
smallest, of the training scans; a whole head for a model of crops around one organ is found so.
**Intensities**, of channels whose values the network takes in their own unit (CT and everything else that is not scaled scan by scan):
the 0.5 or the 99.5 percentile of the scan lies outside its range over the training scans by more than a quarter of the width that
the training scans fill; of CT, the 0.5 percentile by more than 150 HU. A CT stored with an offset of 1024, cut to 0..255, or another
kind of scan is found so; other patients are not. A **constant** channel is told in any case.
**Modality**, of DICOM: another one than in the training, where that is known, and other than CT for channels in Hounsfield units.

And of the label map: **volumes** more than twice the largest or less than half the smallest of the training label maps, which
knows scans that were told nothing else of: noise, another organ, an inverted image.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from segpipe.dataset.fingerprint import ends
from segpipe.dataset.measure import sample_of
from segpipe.errors import ModelError
from segpipe.geometry.grid import Volume
from segpipe.geometry.orient import closest_axes
from segpipe.plan.plan import Channel, Plan

SPACING_FACTOR = 2.0
"""The rule of planning: axes up to this factor apart are treated alike (Isensee et al. 2021, Suppl. 2)."""
VOLUME_FACTOR = 2.0
INTENSITY_SHARE = 0.25
CT_LOWEST_HU = 150.0
"""How far the lowest values of a CT may lie outside: air and fat have theirs in every patient, only metal and bone reach far up."""
_HU = (-1024.0, 3071.0)
"""What 12 bits of a CT scanner hold; what lies outside is padding or metal."""
_AXES = 3

Range = tuple[float, float]


@dataclass(frozen=True)
class Known:
    """What a model file says of its training scans.

    Attributes:
        spacing_mm: lowest and highest along x, y, z; None for pictures.
        low, high: for each channel the range, over the scans, of the 0.5 and the 99.5 percentile.
        label_ml: range of the volume of each label value; empty for pictures, and where older files do not tell.
        field_of_view_mm: shortest and longest extent along x, y, z; None for pictures, and where older files do not tell.
        modalities: of each channel, such as `MR`; the empty string where the training was on files, which do not tell.
    """

    spacing_mm: tuple[Range, ...] | None
    low: tuple[Range, ...]
    high: tuple[Range, ...]
    label_ml: dict[int, Range] = field(default_factory=dict)
    modalities: tuple[str, ...] = ()
    field_of_view_mm: tuple[Range, ...] | None = None


def known_of(document: dict[str, Any], channels: int) -> Known | None:
    """From the document of a model file; None where it does not tell, as in files that older versions wrote.

    Raises:
        ModelError: it tells, but not as it must.
    """
    told = document.get("training_data")
    if told is None:
        return None
    try:
        along, view = _along(told["spacing_mm"]), _along(told.get("field_of_view_mm"))
        low, high = (tuple(_range(channel[key]) for channel in told["channels"]) for key in ("low", "high"))
        label_ml = {int(value): _range(pair) for value, pair in (told.get("label_ml") or {}).items()}
        modalities = tuple(str(channel.get("modality") or "") for channel in told["channels"])
        if len(low) != channels:
            raise ValueError(f"{len(low)} channels")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelError(f"its training_data cannot be understood ({type(error).__name__}: {error}): export the run again") from error
    return Known(along, low, high, label_ml, modalities, view)


def _along(told: Any) -> tuple[Range, ...] | None:
    if told is None:
        return None
    ranges = tuple(_range(pair) for pair in zip(told["lowest"], told["highest"], strict=True))
    if len(ranges) != _AXES:
        raise ValueError(f"{len(ranges)} axes")
    return ranges


def _range(pair: Any) -> Range:
    low, high = (float(value) for value in pair)
    if not math.isfinite(low) or not math.isfinite(high) or low > high:
        raise ValueError(f"{pair} is no range")
    return low, high


def differences(volume: Volume, plan: Plan, known: Known) -> list[str]:
    """What is unlike the training scans, one phrase each; empty when nothing is.

    Args:
        volume: in the scan's own unit, with the channels of the plan.
    """
    seen = plan.axes[: plan.dims]  # a 2D network sees single slices: the distance between them does not matter
    axes, _ = closest_axes(volume.grid)
    mm = [volume.grid.spacing_mm[axes[world]] for world in range(_AXES)]
    extent = [mm[world] * volume.grid.shape[axes[world]] for world in range(_AXES)]
    found = _apart("spacing", mm, known.spacing_mm, seen) + _apart("field of view", extent, known.field_of_view_mm, seen)
    for number, channel in enumerate(plan.channels):
        if volume.array[number].min() == volume.array[number].max():
            found.append(f"{channel.name} is constant")
            continue
        if channel.normalisation != "zscore":
            found += _intensities(volume, number, channel, (known.low[number], known.high[number]))
    return found


def other_modalities(modalities: Sequence[str], plan: Plan, known: Known) -> list[str]:
    """Channels of another modality than in the training, one phrase each: intensities do not tell an MR from a CT that is scaled by itself.

    Args:
        modalities: of the scan's channels, as its headers tell them; none where it has no such headers.
    """
    found = []
    for channel, now, told in zip(plan.channels, modalities, known.modalities, strict=False):
        then = told or ("CT" if channel.normalisation == "ct" else "")
        if now and then and now != then:
            found.append(f"{channel.name} is {now}, in training {then}")
    return found


def odd_volumes(volumes_ml: dict[str, float], plan: Plan, known: Known) -> list[str]:
    """Labels that are predicted much larger or smaller than any training label map has them, one phrase each.

    Args:
        volumes_ml: of each label but the background, by name.
    """
    found = []
    for label in plan.labels[1:]:
        low, high = known.label_ml.get(label.value, (0.0, math.inf))
        ml = volumes_ml.get(label.name, 0.0)
        if ml > VOLUME_FACTOR * high or ml < low / VOLUME_FACTOR:
            found.append(f"{label.name} has {ml:.4g} ml, in training {_words((low, high))} ml")
    return found


def _apart(what: str, mm: Sequence[float], known: tuple[Range, ...] | None, seen: tuple[int, ...]) -> list[str]:
    if known is None:
        return []
    found = []
    for world in sorted(seen):
        low, high = known[world]
        if mm[world] > SPACING_FACTOR * high or mm[world] < low / SPACING_FACTOR:
            found.append(f"{what} along {'xyz'[world]} is {mm[world]:.3g} mm, in training {_words((low, high))} mm")
    return found


def _intensities(volume: Volume, number: int, channel: Channel, known: tuple[Range, Range]) -> list[str]:
    sample = sample_of(volume.array[number])
    if not sample:
        return []
    bounds = _HU if channel.normalisation == "ct" else (-math.inf, math.inf)
    low, high = ((_clip(pair[0], bounds), _clip(pair[1], bounds)) for pair in known)
    wide = INTENSITY_SHARE * (high[1] - low[0])
    margins = (min(wide, CT_LOWEST_HU) if channel.normalisation == "ct" else wide, wide)
    found = []
    for what, value, (least, most), allowed in zip(("lowest", "highest"), ends(sample), (low, high), margins, strict=True):
        if not least - allowed <= _clip(value, bounds) <= most + allowed:
            found.append(f"{what} values of {channel.name} are about {value:.4g}, in training {_words((least, most))}")
    return found


def _clip(value: float, bounds: Range) -> float:
    return min(max(value, bounds[0]), bounds[1])


def _words(pair: Range) -> str:
    low, high = (f"{value:.4g}" for value in pair)
    return low if low == high else f"{low} to {high}"
