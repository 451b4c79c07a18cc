"""An axial T2-weighted MR of a prostate with its two zones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from segpipe.dataset.phantom.draws import Array, Draws, Points, blur
from segpipe.dataset.phantom.scene import Frame, Orientation, Size, as_volume, draw_offset, draw_tilt, ellipsoid, paint
from segpipe.geometry.grid import Volume

PERIPHERAL, TRANSITION = 1, 2
_ORIENTATIONS: tuple[Orientation, ...] = ("LPS", "LPS", "LPS", "RAS", "LAS", "SPL")

# Signal of tissues, before receiver gain: fat 1.
_FAT, _MUSCLE, _MARROW, _CORTEX = 1.0, 0.2, 0.78, 0.08
_URINE, _WALL, _GAS = 1.35, 0.3, 0.06


def phantom_prostate(rng: np.random.Generator, size: Size = "demo") -> tuple[Volume, Volume]:
    """A T2-like scan (int16, arbitrary units) and its label map (uint8: 1 peripheral zone, 2 transition zone).

    Size `demo`: about 106x100x18 voxels of 0.7x0.7x3.3 mm; `small`: the same anatomy on voxels nearly three times as wide.
    One scan in three is oblique; arrays run in different orientations.
    """
    draws = Draws(rng)
    frame = _frame(draws, size)
    grid = frame.grid()
    at = frame.points(grid)
    gland = _gland(draws)
    zones = _zones(draws, at, gland)
    image = _pelvis(draws, at, gland)
    image = _prostate(draws, image, at, zones)
    label = np.where(zones.transition > 0.0, TRANSITION, PERIPHERAL) * (zones.whole > 0.0)
    return as_volume(_acquire(draws, image, at, frame), np.int16, grid), as_volume(label, np.uint8, grid)


def _frame(draws: Draws, size: Size) -> Frame:
    fine = draws.integer(60, 80) / 100.0
    thick = draws.integer(28, 38) / 10.0
    wide, deep, high = draws.uniform(70.0, 78.0), draws.uniform(66.0, 74.0), draws.uniform(56.0, 64.0)
    if size == "small":
        fine, thick = fine * 2.7, thick * 1.5
    voxels = (int(wide / fine), int(deep / fine), int(high / thick))
    orientation = draws.choice(_ORIENTATIONS)
    return Frame(voxels, (fine, fine, thick), orientation, draw_tilt(draws, draws.integer(0, 2) == 0), draw_offset(draws))


@dataclass(frozen=True)
class _Gland:
    """Radii in mm along x, y, z, and the centre."""

    radii: tuple[float, float, float]
    centre: tuple[float, float, float]


class _Zones(NamedTuple):
    """Depths in mm below the surface of the whole gland and of the transition zone, (I, J, K), negative outside."""

    whole: Array
    transition: Array


def _gland(draws: Draws) -> _Gland:
    radii = (draws.uniform(21.0, 27.0), draws.uniform(14.5, 19.0), draws.uniform(16.0, 21.0))
    centre = (draws.uniform(-4.0, 4.0), draws.uniform(1.0, 7.0), draws.uniform(-3.0, 3.0))
    return _Gland(radii, centre)


def _zones(draws: Draws, at: Points, gland: _Gland) -> _Zones:
    """The gland narrows to its apex and is dented by the rectum; the transition zone lies in front and above."""
    (rx, ry, rz), (cx, cy, cz) = gland.radii, gland.centre
    x, y, z = at[0] - cx, at[1] - cy, at[2] - cz
    taper = 1.0 + 0.22 * np.clip(z / rz, -1.0, 1.0)
    lumps = draws.field(at, 14.0) * 1.3
    dent = 3.0 * np.clip(1.0 - (x * x) / (0.3 * rx * rx), 0.0, 1.0)
    whole = ellipsoid((x / taper, y - np.where(y < 0.0, dent * 0.5, 0.0), z), (0.0, 0.0, 0.0), gland.radii) + lumps
    share = draws.uniform(0.6, 0.78)
    inner = (rx * share, ry * (share + 0.06), rz * (share + 0.1))
    middle = (draws.uniform(-1.0, 1.0), ry * (0.92 - share), rz * (0.85 - share))
    lobes = 2.2 * np.clip(1.0 - np.abs(x) / 5.0, 0.0, 1.0) * np.where(y < middle[1], 1.0, 0.4)
    core = ellipsoid((x, y, z), middle, inner) + draws.field(at, 9.0) * 1.1 - lobes
    return _Zones(whole, np.minimum(core, whole - np.where(y > middle[1], 0.3, 1.5)))


def _pelvis(draws: Draws, at: Points, gland: _Gland) -> Array:
    """Everything around: fat, obturator and levator muscles, pubic bones, bladder, rectum, veins."""
    (rx, ry, rz), (cx, cy, cz) = gland.radii, gland.centre
    x, y, z = at
    fine, coarse = draws.field(at, 4.0), draws.field(at, 16.0)
    image = _FAT * (0.92 + 0.05 * fine + 0.06 * coarse)
    strands = 0.45 - 5.0 * np.abs(draws.field(at, 9.0) + 0.4 * fine) - 2.0 * np.abs(coarse)
    image = paint(image, strands, 0.6, 1.5)
    lean = rx + 8.0 + draws.uniform(-1.0, 2.0) + 0.12 * (y - cy)  # the obturators' inner face, nearer at the back
    obturator = np.minimum(np.abs(x - cx) - lean, 9.0 - np.abs(y - cy - 4.0) * 0.35 + coarse)
    image = paint(image, obturator + fine * 0.6, _MUSCLE * (1.0 + 0.25 * fine))
    image = _pubis(draws, image, at, gland)
    plexus = 3.6 - np.abs(ellipsoid((x, y, z), (cx, cy, cz), (rx + 3.5, ry + 2.5, rz + 4.0))) + 3.0 * (draws.field(at, 4.0) - 0.6)
    image = paint(image, np.where(y > cy - 0.7 * ry, plexus, -5.0), draws.uniform(0.9, 1.2))
    bladder = ellipsoid(at, (cx, cy + 5.0, cz + rz + draws.uniform(9.0, 13.0)), (24.0, 17.0, 13.0)) + 1.2 * coarse
    image = paint(paint(image, bladder, _WALL), bladder - 2.6, _URINE)
    return _rectum(draws, image, at, gland)


def _pubis(draws: Draws, image: Array, at: Points, gland: _Gland) -> Array:
    """Two pubic rami in front with dark cortex, marrow nearly as bright as fat."""
    x, y, z = at
    (_, ry, rz), (cx, cy, cz) = gland.radii, gland.centre
    front = cy + ry + draws.uniform(12.0, 15.0)
    for side in (-1.0, 1.0):
        ramus = ellipsoid((x - 0.25 * (z - cz) * side, y, z), (cx + side * 16.0, front, cz - 0.6 * rz), (14.0, 7.5, 20.0))
        image = paint(image, ramus, _CORTEX)
        image = paint(image, ramus - 1.6, _MARROW * (0.9 + 0.12 * draws.field(at, 5.0)))
    return image


def _rectum(draws: Draws, image: Array, at: Points, gland: _Gland) -> Array:
    """The rectum behind the gland, held by the levator sling: wall, then stool or gas."""
    x, y, z = at
    (rx, ry, _), (cx, cy, cz) = gland.radii, gland.centre
    radius = draws.uniform(8.0, 12.0)
    back = cy - ry - radius - draws.uniform(0.0, 1.5)
    tube = radius - np.sqrt((x - cx) * (x - cx) + 1.3 * (y - back) * (y - back)) + draws.field(at, 10.0) + 0.06 * (z - cz)
    sling = ellipsoid((x, y, 0.0 * z), (cx, cy, 0.0), (rx + 3.6 + 0.1 * (z - cz), cy - back + radius + 2.0, 10.0))
    levator = np.where(y < cy + 0.3 * ry, 1.1 - np.abs(sling + 0.6 * draws.field(at, 6.0)), -5.0)
    image = paint(image, levator, _MUSCLE * 1.15)
    content = _GAS if draws.integer(0, 2) == 0 else 0.45 + 0.18 * draws.field(at, 4.0)
    return paint(paint(image, tube, _WALL), tube - 2.4, content)


def _prostate(draws: Draws, image: Array, at: Points, zones: _Zones) -> Array:
    """Bright septated peripheral zone with dark foci; darker transition zone of whorled nodules; dark stroma in front."""
    peripheral = draws.uniform(0.82, 1.15) + 0.14 * draws.field(at, 2.6) + 0.12 * draws.field(at, 9.0)
    septa = 0.5 - 5.0 * np.abs(draws.field(at, 5.0))
    peripheral = paint(peripheral, septa, peripheral - 0.22)
    for _ in range(draws.integer(0, 2)):
        peripheral = paint(peripheral, _focus(draws, at, zones.whole, 3.5, 6.5), draws.uniform(0.4, 0.55), 3.0)
    transition = draws.uniform(0.48, 0.6) + 0.13 * draws.field(at, 2.6) + 0.1 * draws.field(at, 7.0)
    for _ in range(draws.integer(4, 9)):
        nodule = _focus(draws, at, zones.transition, 2.5, 6.0)
        transition = paint(transition, nodule, 0.27)
        transition = paint(transition, nodule - 0.9, draws.uniform(0.3, 1.05) + 0.12 * draws.field(at, 2.5))
    front = at[1] - (at[1] * (zones.whole > 0.0)).max() + draws.uniform(5.0, 8.0)
    transition = paint(transition, front - np.abs(at[0]) * 0.25, 0.25, 4.0)
    inside = paint(paint(peripheral, zones.transition + 0.5, 0.3), zones.transition - 0.5, transition, 1.0)
    return paint(paint(image, zones.whole + 0.9, 0.32), zones.whole, inside, 1.0)


def _focus(draws: Draws, at: Points, where: Array, smallest: float, largest: float) -> Array:
    """Depth in mm below the surface of a lump whose middle lies where `where` is positive."""
    inside = np.flatnonzero(where > 0.0)
    voxel = int(inside[draws.integer(0, len(inside) - 1)])
    x, y, z = (float(axis.flat[voxel]) for axis in at)
    radius = draws.uniform(smallest, largest)
    return ellipsoid(at, (x, y, z), (radius, radius * draws.uniform(0.7, 1.0), radius)) + 0.6 * draws.field(at, 4.0)


def _acquire(draws: Draws, image: Array, at: Points, frame: Frame) -> Array:
    """Partial volume, coil sensitivity, Rician noise (two independent normal parts), receiver gain."""
    for axis in range(3):
        image = blur(image, axis, 0.1 if axis == frame.thick_axis() else 0.17)
    near = 1.0 + 0.25 * draws.field(at, 60.0) + draws.uniform(-0.003, 0.003) * at[1] + draws.uniform(-0.002, 0.002) * at[0]
    sigma = draws.uniform(0.035, 0.06)
    real = np.clip(image, 0.02, 2.0) * near + sigma * draws.noise(image.shape)
    imaginary = sigma * draws.noise(image.shape)
    return draws.uniform(300.0, 900.0) * np.sqrt(real * real + imaginary * imaginary)
