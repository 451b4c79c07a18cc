"""A small abdomen as a CT would show it, in Hounsfield units."""

from __future__ import annotations

import numpy as np

from segpipe.dataset.phantom.draws import Array, Draws, Points, blur
from segpipe.dataset.phantom.scene import Frame, Orientation, Size, as_volume, draw_offset, draw_tilt, ellipsoid, paint
from segpipe.geometry.grid import Volume

LIVER, SPLEEN, TUMOUR = 1, 2, 3
_ORIENTATIONS: tuple[Orientation, ...] = ("LPS", "LPS", "RAS", "LAS", "PSR")

# Hounsfield units.
_AIR, _PADDING = -1000.0, -1024.0
_SKIN, _FAT, _MUSCLE, _BONE, _MARROW = 20.0, -105.0, 55.0, 620.0, 190.0
_NOISE_HU = 26.0
_RIBS_END_MM = 16.0


def phantom_ct(rng: np.random.Generator, size: Size = "demo") -> tuple[Volume, Volume]:
    """A CT-like scan (int16, HU) and its label map (uint8: 1 liver, 2 spleen, 3 tumour in the liver).

    The body is the size of a table-top phantom, about 95x75 mm, so that voxels of about 0.8x0.8x2.5 mm make a small file.
    Air is -1000, what lies beyond the round field of view is padded with -1024. Size `demo`: about 130x110x24 voxels; `small`: the
    same on voxels three times as wide.
    """
    draws = Draws(rng)
    frame = _frame(draws, size)
    grid = frame.grid()
    at = frame.points(grid)
    body = (draws.uniform(43.0, 48.0), draws.uniform(33.0, 38.0))
    image, inside = _body(draws, at, body)
    image = _neighbours(draws, image, at, body)
    image, label = _organs(draws, image, at, body, inside)
    return as_volume(_acquire(draws, image, at), np.int16, grid), as_volume(label, np.uint8, grid)


def _frame(draws: Draws, size: Size) -> Frame:
    fine, thick = draws.integer(76, 88) / 100.0, draws.integer(20, 30) / 10.0
    wide, deep, high = draws.uniform(102.0, 108.0), draws.uniform(88.0, 94.0), draws.uniform(54.0, 64.0)
    if size == "small":
        fine, thick = fine * 3.0, thick * 1.8
    voxels = (int(wide / fine), int(deep / fine), int(high / thick))
    orientation = draws.choice(_ORIENTATIONS)
    return Frame(voxels, (fine, fine, thick), orientation, draw_tilt(draws, draws.integer(0, 3) == 0), draw_offset(draws))


def _body(draws: Draws, at: Points, body: tuple[float, float]) -> tuple[Array, Array]:
    """Air, table, skin, fat, the muscle wall and the fatty cavity; with the depth in mm below the cavity's wall."""
    x, y, z = at
    wide, deep = body
    image = np.full(x.shape, _AIR)
    table = 1.2 - np.abs(y + deep + 3.0 - 0.004 * x * x)
    image = paint(image, table, 120.0)
    flat = (x, y, 0.0 * z)
    outside = ellipsoid(flat, (0.0, 0.0, 0.0), (wide, deep, 40.0)) + 0.8 * draws.field(at, 30.0)
    image = paint(image, outside, _SKIN)
    image = paint(image, outside - 1.2, _FAT + 8.0 * draws.field(at, 6.0))
    wall = outside - draws.uniform(4.0, 7.0) + 0.8 * draws.field(at, 12.0)
    image = paint(image, wall, _MUSCLE + 8.0 * draws.field(at, 5.0))
    inside = wall - 3.5
    image = paint(image, inside, _FAT + 12.0 * draws.field(at, 5.0))
    return _ribs(draws, image, at, wall), inside


def _ribs(draws: Draws, image: Array, at: Points, wall: Array) -> Array:
    """Slanting bone in the wall, but not in front."""
    slope = np.abs(at[0]) * 0.25 - at[1] * 0.5 + at[2] + draws.uniform(0.0, 15.0)
    phase = slope / 15.0
    rib = 2.0 - 7.0 * np.abs(phase - np.rint(phase))
    depth = np.minimum(rib, 1.5 - np.abs(wall - 1.6))
    return paint(image, np.where(at[1] < _RIBS_END_MM, depth, -5.0), _BONE * 0.7)


def _neighbours(draws: Draws, image: Array, at: Points, body: tuple[float, float]) -> Array:
    """What must not be taken for an organ: spine, aorta, kidneys as bright as a spleen, a stomach with gas, bowel."""
    x, y, z = at
    deep = body[1]
    flat = (x, y, 0.0 * z)
    for side in (-1.0, 1.0):
        image = paint(image, ellipsoid(flat, (side * 9.0, 11.0 - deep, 0.0), (8.0, 5.0, 30.0)), _MUSCLE + 6.0 * draws.field(at, 5.0))
    spine = np.maximum(ellipsoid(flat, (0.0, 15.0 - deep, 0.0), (7.5, 6.0, 30.0)), 1.8 - np.abs(x) * 0.8 - np.abs(y + deep - 8.0) * 0.25)
    image = paint(paint(image, spine, _BONE), spine - 1.3, _MARROW + 60.0 * draws.field(at, 3.0))
    image = paint(image, ellipsoid(flat, (4.0, 24.5 - deep, 0.0), (3.6, 3.6, 30.0)), draws.uniform(140.0, 190.0))
    for side in (-1.0, 1.0):
        centre = (side * draws.uniform(18.0, 20.0), 17.0 - deep + draws.uniform(0.0, 2.0), draws.uniform(-20.0, -14.0))
        kidney = ellipsoid(at, centre, (6.5, 5.5, 13.0)) + 0.8 * draws.field(at, 8.0)
        image = paint(image, kidney, draws.uniform(120.0, 150.0) + 10.0 * draws.field(at, 3.0))
        image = paint(image, kidney - 3.5, 30.0)
    for _ in range(draws.integer(5, 8)):
        centre = (draws.uniform(-22.0, 18.0), draws.uniform(-8.0, 14.0), draws.uniform(-30.0, -12.0))
        loop = ellipsoid(at, centre, (draws.uniform(5.0, 8.0), draws.uniform(4.0, 7.0), 7.0)) + draws.field(at, 7.0)
        image = paint(paint(image, loop, 60.0), loop - 1.5, draws.choice((-700.0, 15.0, 25.0, 40.0)))
    return _stomach(draws, image, at)


def _stomach(draws: Draws, image: Array, at: Points) -> Array:
    """On the left in front, water below and gas above its level."""
    stomach = ellipsoid(at, (-13.0, 10.0, 8.0), (12.0, 10.0, 20.0)) + 1.5 * draws.field(at, 14.0)
    level = at[1] - draws.uniform(11.0, 16.0)
    content = paint(np.full(level.shape, 12.0), level, -950.0)
    return paint(paint(image, stomach, 65.0), stomach - 1.6, content)


def _organs(draws: Draws, image: Array, at: Points, body: tuple[float, float], inside: Array) -> tuple[Array, Array]:
    """Liver with vessels and one to three tumours on the right, spleen on the left behind; image and label map."""
    wide, _ = body
    x, y, z = at
    lift = draws.uniform(-2.0, 8.0)
    right = ellipsoid((x, y, z), (wide * 0.42, 0.0, 6.0 + lift), (wide * 0.42, 22.0, 25.0))
    left = ellipsoid((x, y, z), (3.0, 10.0, 12.0 + lift), (21.0, 11.0, 14.0))
    liver = np.minimum(np.maximum(right, left) + 1.8 * draws.field(at, 16.0), inside - 0.8)
    centre = (-wide * draws.uniform(0.56, 0.62), draws.uniform(-13.0, -9.0), draws.uniform(2.0, 10.0))
    spleen = ellipsoid((x, y, z), centre, (draws.uniform(8.5, 10.5), draws.uniform(12.0, 15.0), draws.uniform(14.0, 19.0)))
    hilum = ellipsoid((x, y, z), (centre[0] + 10.5, centre[1] + 3.0, centre[2]), (6.0, 8.0, 12.0))
    spleen = np.minimum(np.minimum(spleen, inside - 0.8) + 0.9 * draws.field(at, 10.0), -hilum)
    liver = np.minimum(liver, -1.0 - spleen)
    image = paint(image, liver, draws.uniform(95.0, 120.0) + 7.0 * draws.field(at, 4.0))
    vessels = 0.9 - 9.0 * np.abs(draws.field(at, 13.0)) - 9.0 * np.abs(draws.field(at, 13.0))
    image = paint(image, np.minimum(vessels, liver - 2.0), draws.uniform(150.0, 180.0))
    image = paint(image, spleen, draws.uniform(110.0, 140.0) + 6.0 * draws.field(at, 4.0))
    image, tumour = _tumours(draws, image, at, liver)
    label = np.where(tumour > 0.0, TUMOUR, LIVER) * (liver > 0.0) + SPLEEN * (spleen > 0.0)
    return image, label


def _tumours(draws: Draws, image: Array, at: Points, liver: Array) -> tuple[Array, Array]:
    """Dark lumps with a brighter rim inside the liver; image and depth below their surface."""
    deepest = float(liver.max())
    inside = np.flatnonzero(liver > 0.45 * deepest)
    tumour = np.full(liver.shape, -10.0)
    for _ in range(draws.integer(1, 3)):
        voxel = int(inside[draws.integer(0, len(inside) - 1)])
        x, y, z = (float(axis.flat[voxel]) for axis in at)
        radius = draws.uniform(4.0, 8.0)
        lump = ellipsoid(at, (x, y, z), (radius, radius * draws.uniform(0.8, 1.2), radius)) + 1.2 * draws.field(at, 6.0)
        tumour = np.maximum(tumour, np.minimum(lump, liver - 0.5))
    image = paint(image, tumour, draws.uniform(70.0, 85.0), 2.0)
    return paint(image, tumour - 2.0, draws.uniform(40.0, 55.0) + 8.0 * draws.field(at, 3.0), 2.5), tumour


def _acquire(draws: Draws, image: Array, at: Points) -> Array:
    """Blur of the kernel, correlated noise, the scanner's floor, and padding outside the round field of view."""
    noise = draws.noise(image.shape) * _NOISE_HU
    for axis in range(3):
        image, noise = blur(image, axis, 0.15), blur(noise, axis, 0.2)
    x, y, _ = at
    radius = draws.uniform(54.0, 57.0)
    return np.where(x * x + y * y > radius * radius, _PADDING, np.maximum(image + noise, _AIR))
