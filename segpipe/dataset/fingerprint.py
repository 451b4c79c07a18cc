"""What the planner knows of a data set: sizes, spacings, intensities, label values; never the scans themselves."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from segpipe.dataset.case import DEFAULT_CHANNEL, DataSet, Meaning
from segpipe.dataset.facts import CaseFacts, LabelFacts, Values
from segpipe.dataset.structures import mirrored_pairs
from segpipe.errors import DataError

_COLOURS = ("red", "green", "blue")


@dataclass(frozen=True)
class ChannelStats:
    """Intensities of one channel in the foreground of the whole data set, in the scans' own unit; each case counts alike.

    Attributes:
        p005, p50, p995: the 0.5, 50 and 99.5 percentiles.
        low, high: of the **whole** scans: lowest and highest, over the cases, of the 0.5 and of the 99.5 percentile.
    """

    name: str
    minimum: float
    maximum: float
    mean: float
    std: float
    p005: float
    p50: float
    p995: float
    low: tuple[float, float] = (0.0, 0.0)
    high: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True)
class Fingerprint:
    """Measured on the cases with an image and a label map that can be read.

    Attributes:
        cases: how many those are.
        picture: whether they are pictures (no millimetres).
        spacings_mm: of each case along x, y, z (the scan's axes closest to RAS).
        shapes: voxels of each case along x, y, z.
        channels: intensities where a label is, else in the whole scan.
        label_values: that occur, ascending, background included.
        label_voxels: value to voxels in the data set.
        label_cases: value to number of cases in which it occurs.
        label_names: value to name, for every declared and every found value.
        nonzero_share: median share of a scan that the bounding box of its non-zero voxels takes.
        ignore: label values of voxels that nobody has judged; not among the `label_values`.
        label_ml: value to its smallest and largest volume over all cases, 0 where a case lacks it (of pictures: thousandths of a pixel).
        label_components: value to the median number of its parts in the cases that have it.
        label_centres: value to its mean centre along x, y, z, as a share of the scan.
        mirrored: pairs of values that lie left and right of each other in every case; none in pictures.
        label_meanings: value to what the data set says that it is; of DICOM alone.
        modalities: of each channel, see `DataSet`.
    """

    cases: int
    picture: bool
    spacings_mm: tuple[tuple[float, float, float], ...]
    shapes: tuple[tuple[int, int, int], ...]
    channels: tuple[ChannelStats, ...]
    label_values: tuple[int, ...]
    label_voxels: dict[int, int]
    label_cases: dict[int, int]
    label_names: dict[int, str]
    nonzero_share: float
    ignore: tuple[int, ...] = ()
    label_ml: dict[int, tuple[float, float]] = field(default_factory=dict)
    label_components: dict[int, float] = field(default_factory=dict)
    label_centres: dict[int, tuple[float, float, float]] = field(default_factory=dict)
    mirrored: tuple[tuple[int, int], ...] = ()
    label_meanings: dict[int, Meaning] = field(default_factory=dict)
    modalities: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, in which the keys of the label dicts become text."""
        return dataclasses.asdict(self)


def fingerprint(data: DataSet, facts: list[CaseFacts]) -> Fingerprint:
    """Sum up what `measure` found.

    Raises:
        DataError: no case has an image and a label map that can be read, or the cases differ in their channels.
    """
    usable = [case for case in facts if case.readable and case.images and case.label is not None]
    if not usable:
        raise DataError(f"{data.root}: no case has an image and a label map that can be read; run segpipe inspect for the reasons")
    voxels: dict[int, int] = {}
    cases: dict[int, int] = {}
    for case in usable:
        for value, count in (case.label.voxels if case.label else {}).items():
            if value in data.ignore:
                continue
            voxels[value] = voxels.get(value, 0) + count
            cases[value] = cases.get(value, 0) + 1
    values = [value for value in sorted(voxels) if value != 0]
    picture = all(image.picture for case in usable for image in case.images)
    names = {value: "background" if value == 0 else f"label {value}" for value in voxels}
    return Fingerprint(
        cases=len(usable),
        picture=picture,
        spacings_mm=tuple(case.ras_spacing_mm for case in usable),
        shapes=tuple(case.ras_shape for case in usable),
        channels=_channels(data, usable),
        label_values=tuple(sorted(voxels)),
        label_voxels=dict(sorted(voxels.items())),
        label_cases=dict(sorted(cases.items())),
        label_names=dict(sorted((names | data.label_names).items())),
        ignore=data.ignore,
        label_meanings=data.meanings,
        modalities=data.modalities,
        label_components=_over_cases(usable, values, lambda label, value: label.components.get(value)),
        label_centres=_centres(usable, values),
        mirrored=() if picture else tuple(mirrored_pairs([case.label for case in usable if case.label], values)),
        label_ml={value: _range_ml(usable, value) for value in sorted(voxels)},
        nonzero_share=float(np.median([case.nonzero_share for case in usable])),
    )


def _over_cases(usable: list[CaseFacts], values: list[int], figure: Callable[[LabelFacts, int], float | None]) -> dict[int, float]:
    """Median over the cases that have one."""
    each = {value: [figure(case.label, value) for case in usable if case.label] for value in values}
    known = {value: [one for one in found if one is not None] for value, found in each.items()}
    return {value: float(np.median(found)) for value, found in known.items() if found}


def _centres(usable: list[CaseFacts], values: list[int]) -> dict[int, tuple[float, float, float]]:
    each = {value: [case.label.centres[value] for case in usable if case.label and value in case.label.centres] for value in values}
    means = {value: np.mean(found, axis=0).tolist() for value, found in each.items() if found}
    return {value: (mean[0], mean[1], mean[2]) for value, mean in means.items()}


def _range_ml(usable: list[CaseFacts], value: int) -> tuple[float, float]:
    volumes = [case.label.voxels.get(value, 0) * case.label.voxel_ml for case in usable if case.label]
    return min(volumes), max(volumes)


def _channels(data: DataSet, usable: list[CaseFacts]) -> tuple[ChannelStats, ...]:
    each = [channel_values(case) for case in usable]
    counts = {len(values) for values in each}
    if len(counts) > 1:
        found = " or ".join(map(str, sorted(counts)))
        raise DataError(f"{data.root}: cases have {found} channels; all must have the same number: see segpipe inspect")
    picture = all(image.picture for case in usable for image in case.images)
    names = channel_names(data.channels, counts.pop(), picture)
    whole = [[values for image in case.images for values in image.whole] for case in usable]
    return tuple(
        _joined(name, [values[number] for values in each], [values[number] for values in whole]) for number, name in enumerate(names)
    )


def channel_values(case: CaseFacts) -> list[Values]:
    """Intensities of each channel of a case: where a label is, else in the whole scan."""
    return [values for image in case.images for values in (image.foreground or image.whole)]


def channel_names(declared: tuple[str, ...], count: int, picture: bool) -> tuple[str, ...]:
    """One name a channel: the three of a colour picture are red, green and blue, those of another file are numbered."""
    if len(declared) == count:
        return declared
    if len(declared) != 1:
        raise DataError(f"{len(declared)} channels are named ({', '.join(declared)}), but each case has {count}: correct dataset.channels")
    name = declared[0]
    if count == len(_COLOURS) and (name.lower() == "rgb" or (picture and name == DEFAULT_CHANNEL)):
        return _COLOURS
    return tuple(f"{name} {number}" for number in range(count))


def _joined(name: str, each: list[Values], whole: list[Values]) -> ChannelStats:
    """Every case with the same weight: mean of the means, and the spread within and between cases."""
    measured = [values for values in each if values.count]
    if not measured:
        return ChannelStats(name, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0)
    means = np.array([values.mean for values in measured])
    squares = np.array([values.std**2 for values in measured])
    sample = np.concatenate([np.array(values.sample) for values in measured])
    low, middle, high = (float(p) for p in np.percentile(sample, [0.5, 50.0, 99.5]))
    lows, highs = zip(*(ends(values.sample) for values in whole if values.count), strict=True)
    return ChannelStats(
        name,
        minimum=min(values.minimum for values in measured),
        maximum=max(values.maximum for values in measured),
        mean=float(means.mean()),
        std=float(np.sqrt(squares.mean() + means.var())),
        p005=low,
        p50=middle,
        p995=high,
        low=(min(lows), max(lows)),
        high=(min(highs), max(highs)),
    )


def ends(sample: Sequence[float]) -> tuple[float, float]:
    """The 0.5 and the 99.5 percentile of a sample of `measure.sample_of`, between which nearly all values of a scan lie."""
    low, high = np.percentile(np.asarray(sample), [0.5, 99.5])
    return float(low), float(high)
