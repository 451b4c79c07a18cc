"""A stack -> its volume in RAS+ mm, or the reason why there is none."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segpipe.dicom.layout import Layout, spread
from segpipe.dicom.pixels import is_turned_over, read_values, value_type
from segpipe.dicom.policy import Policy
from segpipe.dicom.stack import Stack
from segpipe.dicom.straighten import Lean, evenly, lean_of, lie_back, stand_upright
from segpipe.dicom.verdict import judge
from segpipe.errors import DataError
from segpipe.geometry.grid import Grid, Volume

log = logging.getLogger(__name__)

_SEVERAL = 1.5


@dataclass(frozen=True, eq=False)
class Scan:
    """A stack, read.

    Attributes:
        volume: (1, I, J, K): i along a row, j along a column, k by height along the normal; integers where nothing
            has to be computed, else float32.
        lean: how a tilted stack was made upright; None where the volume has the slices as they lie.
        notes: what was repaired, one phrase each.
        modalities: [Modality] of each channel; `read_stack` leaves them to who knows all channels.
    """

    volume: Volume
    lean: Lean | None
    notes: tuple[str, ...]
    modalities: tuple[str, ...] = ()

    @property
    def grid(self) -> Grid:
        """Where label maps lie: on the slices as they were taken, also where the volume is another."""
        return self.volume.grid if self.lean is None else self.lean.slices

    def back(self, labels: NDArray[Any]) -> NDArray[Any]:
        """A label map (I, J, K) of the volume, on `grid`."""
        return labels if self.lean is None else lie_back(labels, self.lean)


def read_stack(stack: Stack, policy: Policy) -> Scan:
    """Read and, where the policy says so, repair a stack.

    Raises:
        DataError: the policy refuses it, a file cannot be decoded, or several pictures of one place differ.
    """
    verdict = judge(stack, policy)
    layout = stack.layout
    if verdict.action == "refuse" or layout is None:
        raise DataError(f"series {stack.name}: {verdict.why}")
    array = _read(stack, layout)  # (1, I, J, K)
    notes = tuple(note for note in (verdict.why, _note_of_negative(stack)) if note)
    if verdict.action == "resample" and layout.kind == "tilted" and layout.grid is not None:
        lean = lean_of(layout.grid)
        return Scan(stand_upright(array, lean), lean, notes)
    if verdict.action == "resample":
        grid, at = spread(stack.planes, layout)
        return Scan(evenly(array, np.array(layout.heights), grid, at), None, notes)
    if layout.grid is None:
        raise DataError(f"series {stack.name}: {layout.what}")
    return Scan(Volume(array, layout.grid), None, notes)


def _note_of_negative(stack: Stack) -> str:
    return "its grey values are turned over (MONOCHROME1)" if is_turned_over(stack.first) else ""


def _read(stack: Stack, layout: Layout) -> NDArray[Any]:
    """The values of each place, (1, I, J, K); of copies the first, once all are found to be alike.

    Raises:
        DataError: see `read_stack`.
    """
    first = stack.first
    count = len(layout.heights)
    array = np.zeros((count, first.rows, first.columns), dtype=value_type(stack.planes))
    filled = np.zeros(count, dtype=bool)
    for number, values in read_values(stack.planes):
        place = layout.places[number]
        fresh = values.astype(array.dtype)
        if filled[place] and not np.array_equal(fresh, array[place]):
            raise DataError(_differ(stack, layout, number))
        array[place], filled[place] = fresh, True
    if array.dtype == np.int32 and np.iinfo(np.int16).min <= array.min() and array.max() <= np.iinfo(np.int16).max:
        array = array.astype(np.int16)
    return array.transpose(2, 1, 0)[None]  # (K, J, I) -> (1, I, J, K)


def _differ(stack: Stack, layout: Layout, number: int) -> str:
    place = layout.places[number]
    alike = [plane.path.name for plane, where in zip(stack.planes, layout.places, strict=True) if where == place]
    usual = len(layout.places) / len(layout.heights)
    several = f"; a place has {usual:.2g} of them: a time series, or phases that headers do not tell apart" if usual > _SEVERAL else ""
    where = f"at {layout.heights[place]:.2f} mm ({', '.join(dict.fromkeys(alike))})"
    return f"series {stack.name}: has different pictures of one place, {where}{several}; must have one: keep the right one"
