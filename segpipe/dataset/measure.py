"""Read every file of a data set once and note all that the audit and the planner want to know."""

from __future__ import annotations

import hashlib
import logging
import math
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from segpipe.dataset.case import Case, DataSet, Source
from segpipe.dataset.facts import CaseFacts, ImageFacts, LabelFacts, Values
from segpipe.dataset.open import open_series
from segpipe.dataset.structures import structures
from segpipe.errors import SegpipeError
from segpipe.geometry.grid import CORNER_TOLERANCE_MM, Grid, Volume
from segpipe.geometry.orient import closest_axes, permute_flip
from segpipe.io.find import is_picture
from segpipe.io.read import apart_mm, read_label, read_volume
from segpipe.progress import track

log = logging.getLogger(__name__)

T = TypeVar("T")

SAMPLE = 500
"""Ranks kept of each channel of each case: the 0.5 and 99.5 percentiles of the data set lie well inside them."""
_RANKED_VOXELS = 400_000
"""Voxels that are sorted for the ranks, evenly spaced over the region."""
_COUNTED_RANGE = 2**16
_MOST_STRUCTURES = 256
"""A label map with more values is an image given by mistake, whose parts nobody wants to know."""
_CHUNK = 2**22
"""Voxels whose double-precision copy is held at once."""
_MOST_WORKERS = 4
"""Each holds one case in memory."""


def measure(data: DataSet, workers: int = 0) -> list[CaseFacts]:
    """Measure all cases in their order, in parallel, showing progress.

    Args:
        workers: threads, each holding one case in memory; 0: one a processor core, at most 4.
    """
    threads = workers or min(_MOST_WORKERS, os.cpu_count() or 1)
    pool = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="measure")
    try:
        return list(
            track(
                pool.map(lambda case: measure_case(case, data.ignore), data.cases),
                f"reading {len(data.cases)} cases",
                total=len(data.cases),
            )
        )
    finally:
        pool.shutdown(cancel_futures=True)


def measure_case(case: Case, ignore: tuple[int, ...] = ()) -> CaseFacts:
    """Measure one case, one file after the other; a file that cannot be read is noted and does not stop the others.

    Args:
        ignore: label values that are no structure.
    """
    files = _files(case) if case.source is None else _series(case, case.source)
    label, label_error = files.label, files.label_error
    mask = label.array[0] != 0 if label is not None and label.channels == 1 else None
    if mask is not None and label is not None and ignore:
        mask &= ~np.isin(label.array[0], ignore)
    images: list[ImageFacts] = []
    grid: Grid | None = None
    box: NDArray[np.int64] | None = None
    for path, volume, error in files.images:
        if volume is None:
            images.append(ImageFacts(str(path), error))
            continue
        grid = grid or volume.grid
        images.append(replace(_image_facts(path, volume, grid, mask), notes=files.notes if not images else ()))
        box = _joined(box, _nonzero_box(volume.array)) if volume.grid.shape == grid.shape else box
    if (
        label is not None
        and case.label is not None
        and case.source is None
        and grid is not None
        and _stated_here(case.label, label, case.images[0], grid)
    ):
        label = Volume(label.array, grid)
    label_facts = None if case.label is None else replace(_label_facts(case.label, label, label_error, grid), notes=files.label_notes)
    if grid is None:
        return CaseFacts(case.name, tuple(images), label_facts)
    axes, flipped = closest_axes(grid)
    i, j, k = axes
    share = float(np.prod(box[1] - box[0]) / np.prod(grid.shape)) if box is not None else 1.0
    return CaseFacts(
        case.name,
        tuple(images),
        label_facts,
        ras_shape=(grid.shape[i], grid.shape[j], grid.shape[k]),
        ras_spacing_mm=(grid.spacing_mm[i], grid.spacing_mm[j], grid.spacing_mm[k]),
        orientation="" if is_picture(case.images[0]) else _orientation(axes, flipped),
        nonzero_share=share,
    )


@dataclass(frozen=True, eq=False)
class _Files:
    """What lies in a case: each image as its path, its volume or none, and why there is none; read when its turn comes."""

    label: Volume | None
    label_error: str
    images: Iterable[tuple[Path, Volume | None, str]]
    notes: tuple[str, ...] = ()
    label_notes: tuple[str, ...] = ()


def _files(case: Case) -> _Files:
    label, error = _read(case.label, read_label) if case.label is not None else (None, "")
    return _Files(label, error, ((path, *_read(path, read_volume)) for path in case.images))


def _series(case: Case, source: Source) -> _Files:
    found, error = _read(case.images[0], lambda _: open_series(source))
    if found is None:
        return _Files(None, error, [(path, None, error) for path in case.images])
    scan, labels = found.scan, found.labels
    channels = [(path, Volume(scan.volume.array[n : n + 1], scan.volume.grid), "") for n, path in enumerate(case.images)]
    return _Files(found.label, found.error, channels, scan.notes, () if labels is None else labels.notes)


def _stated_here(path: Path, label: Volume, scan: Path, grid: Grid) -> bool:
    """Whether either of the two places that a NIfTI header may state (sform, qform) is the scan's."""
    return label.grid.shape == grid.shape and not label.grid.same_as(grid) and apart_mm(path, scan) <= CORNER_TOLERANCE_MM


def _read(path: Path, read: Callable[[Path], T]) -> tuple[T | None, str]:
    """The volume (or whatever is read), or why there is none."""
    try:
        return read(path), ""
    except SegpipeError as error:
        return None, str(error)
    except Exception as error:  # a damaged file can fail anywhere in its decoder, and must not stop the audit of the others
        log.debug("reading %s", path, exc_info=True)
        return None, f"{path}: cannot be read ({type(error).__name__}: {error})"


def _image_facts(path: Path, volume: Volume, first: Grid, mask: NDArray[np.bool_] | None) -> ImageFacts:
    shape = volume.grid.shape
    region = mask if mask is not None and mask.shape == shape and mask.any() else None
    whole = tuple(_values(channel) for channel in volume.array)
    return ImageFacts(
        str(path),
        picture=is_picture(path),
        shape=shape,
        spacing_mm=volume.grid.spacing_mm,
        distance_mm=_distance(first, volume.grid),
        nonfinite=int(volume.array.size) - sum(values.count for values in whole),
        content=_content(path, volume),
        whole=whole,
        foreground=tuple(_values(_inside(channel, region)) for channel in volume.array) if region is not None else (),
    )


def _label_facts(path: Path, label: Volume | None, error: str, first: Grid | None) -> LabelFacts:
    if label is None:
        return LabelFacts(str(path), error)
    voxels, not_whole = _count(label.array)
    whole = label.channels == 1 and not not_whole and len(voxels) <= _MOST_STRUCTURES
    centres, components = structures(label.array[0], voxels, label.grid) if whole else ({}, {})
    return LabelFacts(
        str(path),
        channels=label.channels,
        shape=label.grid.shape,
        distance_mm=_distance(first, label.grid) if first is not None else 0.0,
        not_whole=not_whole,
        voxels=voxels,
        voxel_ml=label.grid.voxel_volume_ml,
        content=_content(path, label),
        centres=centres,
        components=components,
    )


def _distance(first: Grid, other: Grid) -> float | None:
    distance = first.distance_mm(other)
    return distance if np.isfinite(distance) else None


def _inside(channel: NDArray[Any], region: NDArray[np.bool_]) -> NDArray[Any]:
    """The values in a region, walked through as they lie in memory (NIfTI: the first axis fastest), which is five times faster."""
    return channel.T[region.T] if channel.strides[0] < channel.strides[-1] else channel[region]


def _chunks(array: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """All values in flat pieces, in the order in which they lie in memory."""
    flat = array.ravel(order="K")
    for start in range(0, flat.size, _CHUNK):
        yield flat[start : start + _CHUNK]


def _values(array: NDArray[Any]) -> Values:
    """Moments of the finite values; chunks are merged after Chan, Golub and LeVeque 1983."""
    count, mean, squares, low, high = 0, 0.0, 0.0, np.inf, -np.inf
    for chunk in _chunks(array):
        part = chunk if chunk.dtype.kind in "iub" else chunk[np.isfinite(chunk)]
        if part.size == 0:
            continue
        part_mean = float(part.mean(dtype=np.float64))
        step = part_mean - mean
        total = count + part.size
        deviations = part.astype(np.float64) - part_mean
        squares += float(np.dot(deviations, deviations)) + step * step * count * part.size / total
        mean += step * part.size / total
        count = total
        low, high = min(low, float(part.min())), max(high, float(part.max()))
    if count == 0:
        return Values()
    return Values(count, low, high, mean, float(np.sqrt(squares / count)), sample_of(array))


def sample_of(array: NDArray[Any]) -> tuple[float, ...]:
    """Values at the middle of `SAMPLE` equal shares of the sorted finite values."""
    flat = array.ravel(order="K")
    step = flat.size // _RANKED_VOXELS + 1
    while math.gcd(step, flat.size) > 1:  # a step with a factor of an axis would look at a part of its planes only
        step += 1
    few = flat[::step].astype(np.float64)
    few = np.sort(few[np.isfinite(few)])
    if few.size == 0:
        return ()
    ranks = ((np.arange(SAMPLE) + 0.5) / SAMPLE * few.size).astype(np.int64)
    return tuple(few[ranks].tolist())


def _content(path: Path, volume: Volume) -> str:
    """Hash over the shape and the values as float32, slice by slice; neither the stored type nor, of volumes, the order of axes matters."""
    array = volume.array if is_picture(path) else permute_flip(volume.array, *closest_axes(volume.grid))
    digest = hashlib.blake2b(repr(array.shape).encode(), digest_size=16)
    with np.errstate(over="ignore", invalid="ignore"):
        for k in range(array.shape[3]):
            digest.update(np.ascontiguousarray(array[..., k], dtype=np.float32).tobytes())
    return digest.hexdigest()


def _count(array: NDArray[Any]) -> tuple[dict[int, int], int]:
    """Voxels of each whole value, and the number of voxels that hold no whole number."""
    found: dict[int, int] = {}
    not_whole = 0
    for chunk in _chunks(array):
        if chunk.dtype.kind == "f":
            whole = np.isfinite(chunk) & (chunk == np.rint(chunk))
            not_whole += int(whole.size - np.count_nonzero(whole))
            numbers = chunk[whole].astype(np.int64)
        else:
            numbers = chunk.astype(np.int64)
        for value, count in _tally(numbers):
            found[value] = found.get(value, 0) + count
    return dict(sorted(found.items())), not_whole


def _tally(numbers: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Each value and how often it occurs; counted, not sorted, where the range is small."""
    if numbers.size == 0:
        return []
    low, high = int(numbers.min()), int(numbers.max())
    if high - low > _COUNTED_RANGE:
        values, counts = np.unique(numbers, return_counts=True)
        return list(zip(values.tolist(), counts.tolist(), strict=True))
    counts = np.bincount(numbers - low)
    return [(low + int(step), int(counts[step])) for step in np.flatnonzero(counts)]


def _nonzero_box(array: NDArray[Any]) -> NDArray[np.int64] | None:
    """First and one past the last index (2, 3) of the voxels that are not zero in some channel; None where all are zero."""
    nonzero = array[0] != 0
    for channel in array[1:]:
        nonzero |= channel != 0
    box = np.zeros((2, 3), dtype=np.int64)
    for axis in range(3):
        there = np.flatnonzero(nonzero.any(axis=tuple(a for a in range(3) if a != axis)))
        if there.size == 0:
            return None
        box[:, axis] = there[0], there[-1] + 1
    return box


def _joined(one: NDArray[np.int64] | None, other: NDArray[np.int64] | None) -> NDArray[np.int64] | None:
    if one is None or other is None:
        return other if one is None else one
    return np.stack([np.minimum(one[0], other[0]), np.maximum(one[1], other[1])])


def _orientation(axes: tuple[int, int, int], flipped: tuple[bool, bool, bool]) -> str:
    """`RAS`-like letters: towards which side of the patient each voxel axis runs."""
    letters = ["", "", ""]
    for world, (axis, against) in enumerate(zip(axes, flipped, strict=True)):
        letters[axis] = ("RAS", "LPI")[against][world]
    return "".join(letters)
