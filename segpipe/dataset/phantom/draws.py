"""Random numbers and smooth fields that come out the same, bit for bit, on every machine.

Only the raw 64-bit words of PCG64 are used (NumPy promises their sequence for ever; the ziggurat behind `Generator.normal` calls
the C library), and after them only additions, subtractions, multiplications, divisions, comparisons, roundings and square roots:
IEEE 754 rounds each of these correctly, while `exp`, `sin`, matrix products and float sums may differ in the last bit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
T = TypeVar("T")

_TWO_53 = 9007199254740992.0
_HALF_WORDS = 8
_NOISE_SD = 65536.0 * math.sqrt(_HALF_WORDS / 12.0)
"""Standard deviation of the sum of eight uniform 16-bit integers (to six digits: their range is 65535)."""


class Draws:
    """Draws from a NumPy generator.

    Args:
        rng: generator on a 64-bit bit generator, `np.random.Generator(np.random.PCG64(seed))`.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self._bits = rng.bit_generator

    def words(self, count: int) -> NDArray[np.uint64]:
        """The next `count` raw words."""
        return np.atleast_1d(np.asarray(self._bits.random_raw(count), dtype=np.uint64))

    def uniforms(self, count: int, low: float, high: float) -> Array:
        """(count,) numbers in low..high, on a lattice of 2**-53 of that range."""
        unit = (self.words(count) >> np.uint64(11)).astype(np.float64) / _TWO_53
        return unit * (high - low) + low

    def uniform(self, low: float, high: float) -> float:
        """One number in low..high."""
        return float(self.uniforms(1, low, high)[0])

    def integer(self, low: int, high: int) -> int:
        """One integer in low..high, both included."""
        return low + int(self.words(1)[0] % np.uint64(high - low + 1))

    def choice(self, items: Sequence[T]) -> T:
        """One of the items, each as likely."""
        return items[self.integer(0, len(items) - 1)]

    def noise(self, shape: tuple[int, ...]) -> Array:
        """Nearly normal noise of mean 0 and standard deviation 1, never beyond 4.9: sums of eight 16-bit integers."""
        count = 1
        for n in shape:
            count *= n
        words = self.words(2 * count)
        total = np.zeros(2 * count, dtype=np.int64)
        for shift in (0, 16, 32, 48):
            total += ((words >> np.uint64(shift)) & np.uint64(0xFFFF)).astype(np.int64)
        both = total[:count] + total[count:]
        return ((both.astype(np.float64) - _HALF_WORDS * 32767.5) / _NOISE_SD).reshape(shape)

    def field(self, at: Points, scale_mm: float) -> Array:
        """A smooth random field in -1..1 at the given points, (I, J, K), whose lumps are about `scale_mm` wide.

        Value noise: random numbers on a cubic lattice, blended with the smooth step `t * t * (3 - 2 t)`. The lattice lies askew to
        the patient's axes, so that it does not show.
        """
        x, y, z = at
        at = (0.8 * x - 0.6 * y + 0.3 * z, 0.6 * x + 0.8 * y, z - 0.35 * x)
        low = [axis.min() for axis in at]
        cells = [int((axis.max() - start) / scale_mm) + 2 for axis, start in zip(at, low, strict=True)]
        lattice = self.uniforms(cells[0] * cells[1] * cells[2], -1.0, 1.0)
        base, blend = [], []
        for axis, start in zip(at, low, strict=True):
            position = (axis - start) / scale_mm
            index = np.floor(position)
            t = position - index
            base.append(index.astype(np.int64))
            blend.append(t * t * (3.0 - 2.0 * t))
        first = (base[0] * cells[1] + base[1]) * cells[2] + base[2]
        result = np.zeros(first.shape)
        for di, dj, dk in np.ndindex(2, 2, 2):
            corner = lattice[first + ((di * cells[1] + dj) * cells[2] + dk)]
            weight = _share(blend[0], di) * _share(blend[1], dj) * _share(blend[2], dk)
            result = result + corner * weight
        return result


Points = tuple[Array, Array, Array]
"""World coordinates x, y, z in mm of each voxel, each (I, J, K)."""


def _share(blend: Array, side: int) -> Array:
    return blend if side else 1.0 - blend


def soft(depth_mm: Array, width_mm: float) -> Array:
    """Share 0..1 of a voxel inside a shape from its depth below the surface: a smooth step over `width_mm`, one half at 0."""
    t = np.clip(depth_mm / width_mm + 0.5, 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def blur(image: Array, axis: int, side: float) -> Array:
    """Three-point blur with weights (side, 1 - 2 side, side); border voxels repeat."""
    last = image.shape[axis] - 1
    before = np.take(image, [max(n - 1, 0) for n in range(last + 1)], axis=axis)
    after = np.take(image, [min(n + 1, last) for n in range(last + 1)], axis=axis)
    return image * (1.0 - 2.0 * side) + (before + after) * side
