"""Planes -> stacks: what belongs into one volume, and what must not, although it lies in one series."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

import numpy as np

from segpipe.dicom.identity import series_key, series_name, short, why_two_patients
from segpipe.dicom.kind import why_left_out, why_unusable
from segpipe.dicom.layout import Layout, axes_of, lay_out
from segpipe.dicom.plane import Plane
from segpipe.errors import GeometryError

_ORIENTATION_OFF = 5e-5
"""Largest difference of direction cosines within a stack: 0.01 mm at 200 mm from the first pixel."""
_SPACING_OFF = 2e-5
"""Likewise of the spacing, as a share: 0.007 mm over 512 pixels of 0.7 mm."""
_FEWEST = 3
_NEXT_MM = 0.1
_WHOLE = "must be whole: copy or export it again"
_Split = Callable[[Plane], Hashable]
K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True, eq=False)
class Stack:
    """Pictures of one series that make one volume, or the reason why they do not.

    Attributes:
        name: for files and tables; tells nothing of the patient.
        study: hash of the study's UID.
        planes: in the order of `layout.order`, where there is a layout.
        layout: how they lie; None where that cannot be told.
        problem: why no policy can make a volume of it; empty where one may.
    """

    name: str
    study: str
    planes: tuple[Plane, ...]
    layout: Layout | None
    problem: str = ""

    @property
    def first(self) -> Plane:
        """Stands for all where they agree."""
        return self.planes[0]

    @property
    def paths(self) -> tuple[Path, ...]:
        """Its files, each once, in the order of its slices."""
        return tuple(dict.fromkeys(plane.path for plane in self.planes))


@dataclass(frozen=True)
class LeftOut:
    """Pictures of a series that are no scan.

    Attributes:
        name: of the series, see `Stack.name`.
        why: a phrase.
    """

    name: str
    study: str
    planes: tuple[Plane, ...]
    why: str


def group(planes: Iterable[Plane], damaged: Mapping[str, str] | None = None) -> tuple[list[Stack], list[LeftOut]]:
    """Sort planes into the stacks of their series, and set aside what is no scan.

    Args:
        damaged: UIDs of series of which a file could not be read, and its name: no stack of theirs is whole.
    """
    stacks: list[Stack] = []
    left: list[LeftOut] = []
    for _, members in sorted(_by(planes, series_key).items()):
        scans = []
        for why, some in _by(members, why_left_out).items():
            if why:
                left.append(LeftOut(series_name(some[0]), short(some[0].study), tuple(some), why))
            else:
                scans = some
        file = (damaged or {}).get(members[0].series)
        stacks += _named(_incomplete(_stacks(scans), f"lacks a slice, the file {file} is damaged; {_WHOLE}" if file else ""))
    return sorted(stacks, key=lambda one: (one.study, one.first.number or 0, one.name)), left


def _stacks(planes: Sequence[Plane]) -> list[Stack]:
    """The stacks of one series, all under the series' own name."""
    found: list[Stack] = []
    for problem, usable in _by(planes, why_unusable).items():
        if problem:
            found.append(_stack(usable, None, problem))
            continue
        for alike in _by(usable, _hard).values():
            for parallel in _clusters(alike):
                found += [_laid_out(part) for part in _told_apart(parallel)]
    return found


def _incomplete(stacks: list[Stack], why: str) -> list[Stack]:
    """Stacks beside slices of the same series that cannot be used: which of them lack one cannot be told, so that all are refused."""
    lost = next((stack for stack in stacks if stack.problem), None)
    if not why and lost is not None:
        why = f"may lack a slice: the file {lost.first.path.name} of the series {lost.problem}"
    if not why:
        return [replace(stack, problem=_why_short(stack, stacks)) for stack in stacks]
    return [stack if stack.problem or not why else replace(stack, problem=why) for stack in stacks]


def _why_short(stack: Stack, stacks: Sequence[Stack]) -> str:
    """Whether a slice of the same series lies where the next one of this stack would, but differs in a way that no slice of it should."""
    layout = stack.layout
    if layout is None or layout.grid is None or layout.kind not in ("regular", "tilted"):
        return ""
    ends = layout.grid.world(np.array([[0, 0, -1], [0, 0, layout.grid.shape[2]]])) * (-1, -1, 1)
    for other in stacks:
        first = other.first
        if len(other.planes) > 1 or other is stack or first.position is None or first.image_type != stack.first.image_type:
            continue
        if np.linalg.norm(ends - np.array(first.position), axis=1).min() < _NEXT_MM:
            return f"lacks the slice at its end, whose header differs ({first.path.name}: orientation, spacing, size or contrast); {_WHOLE}"
    return ""


def _laid_out(planes: Sequence[Plane]) -> Stack:
    try:
        layout = lay_out(planes)
    except GeometryError as error:
        return _stack(planes, None, f"lies nowhere: {error}")
    return _stack([planes[n] for n in layout.order], layout)


def _stack(planes: Sequence[Plane], layout: Layout | None, problem: str = "") -> Stack:
    return Stack(series_name(planes[0]), short(planes[0].study), tuple(planes), layout, why_two_patients(planes) or problem)


def _hard(plane: Plane) -> Hashable:
    """What pictures of one volume share whatever their places are."""
    return (
        *(plane.rows, plane.columns, plane.samples, plane.photometric, plane.bits_allocated, plane.signed),
        *(plane.modality, plane.image_type, plane.frame_of_reference, plane.units),
        *(None if plane.echo is None else round(plane.echo, 2), plane.b_value, plane.temporal, plane.stack),
    )


def _clusters(planes: Sequence[Plane]) -> list[list[Plane]]:
    """Planes with one orientation and one spacing, up to rounding."""
    found: list[list[Plane]] = []
    for plane in planes:
        home = next((one for one in found if _are_parallel(one[0], plane)), None)
        if home is None:
            found.append([plane])
        else:
            home.append(plane)
    return found


def _are_parallel(one: Plane, other: Plane) -> bool:
    if one.orientation is None or other.orientation is None or one.spacing is None or other.spacing is None:
        return False
    turned = max(abs(a - b) for a, b in zip(one.orientation, other.orientation, strict=True))
    scaled = max(abs(a / b - 1) for a, b in zip(one.spacing, other.spacing, strict=True))
    return turned <= _ORIENTATION_OFF and scaled <= _SPACING_OFF


def _told_apart(planes: Sequence[Plane]) -> list[Sequence[Plane]]:
    """Planes that lie in each other's places are taken apart by what differs between them; else they stay together.

    Acquisition numbers count only so: scanners also number the packages of one interleaved stack, or every slice. Acquisitions that
    lie one above the other are two scans where together they are not evenly spaced.
    """
    if _collide(planes):
        for split in _SPLITS:
            parts = list(_by(planes, split).values())
            if len(parts) > 1 and not any(_collide(part) for part in parts) and min(map(len, parts)) > 1:
                return list(parts)
        return [planes]
    parts = list(_by(planes, _acquisition).values())
    above = len(parts) > 1 and min(map(len, parts)) >= _FEWEST and _are_above_each_other(parts)
    return list(parts) if above and lay_out(planes).kind not in ("regular", "tilted") else [planes]


def _acquisition(plane: Plane) -> Hashable:
    return plane.acquisition


def _acquisition_and_others(plane: Plane) -> Hashable:
    return plane.acquisition, plane.others


def _others(plane: Plane) -> Hashable:
    return plane.others


def _trigger(plane: Plane) -> Hashable:
    return plane.others[:1]


_SPLITS: tuple[_Split, ...] = (_acquisition, _trigger, _others, _acquisition_and_others)


def _heights(planes: Sequence[Plane]) -> list[float]:
    normal = axes_of(planes)[2]
    return [round(float(np.asarray(plane.position) @ normal), 2) for plane in planes]


def _collide(planes: Sequence[Plane]) -> bool:
    """Whether different pictures (not copies of one file) lie in one place."""
    seen: dict[float, Hashable] = {}
    for height, plane in zip(_heights(planes), planes, strict=True):
        picture = (plane.instance or plane.path, plane.frame)
        if seen.setdefault(height, picture) != picture:
            return True
    return False


def _are_above_each_other(parts: Sequence[Sequence[Plane]]) -> bool:
    spans = sorted((min(heights), max(heights)) for heights in map(_heights, parts))
    return all(low[1] < high[0] for low, high in pairwise(spans))


def _named(stacks: list[Stack]) -> list[Stack]:
    """Several stacks of one series get names that say how they differ, and a number where that does not do."""
    if len(stacks) < 2:
        return stacks
    stacks = sorted(stacks, key=_rank)
    words = [word for word in _WORDS if len({word(stack.first) for stack in stacks}) > 1]
    names = ["".join(word(stack.first) for word in words) for stack in stacks]
    counts: dict[str, int] = defaultdict(int)
    result = []
    for stack, name in zip(stacks, names, strict=True):
        counts[name] += 1
        number = f"_{counts[name]}" if names.count(name) > 1 else ""
        result.append(Stack(f"{stack.name}{name}{number}", stack.study, stack.planes, stack.layout, stack.problem))
    return result


def _rank(stack: Stack) -> tuple[object, ...]:
    first = stack.first
    place = (first.orientation or (), first.position or ())
    return (bool(stack.problem), -len(stack.planes), first.image_type, *place, str(first.path), first.frame)


def _word(letters: str, value: float | int | str | None) -> str:
    return "" if value in (None, "") else f"_{letters}{value:g}" if isinstance(value, float) else f"_{letters}{value}"


_WORDS: tuple[Callable[[Plane], str], ...] = (
    lambda plane: _word("te", plane.echo),
    lambda plane: _word("b", plane.b_value),
    lambda plane: _word("t", plane.temporal),
    lambda plane: _word("a", plane.acquisition),
)


def _by(planes: Iterable[Plane], key: Callable[[Plane], K]) -> dict[K, list[Plane]]:
    found = defaultdict[K, list[Plane]](list)
    for plane in planes:
        found[key(plane)].append(plane)
    return dict(found)
