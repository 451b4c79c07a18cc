"""A 2D picture of packed cells with bright membranes, as from a fluorescence microscope."""

from __future__ import annotations

import numpy as np

from segpipe.dataset.phantom.draws import Array, Draws, Points, blur
from segpipe.dataset.phantom.scene import Size, as_volume, ellipsoid, paint
from segpipe.geometry.grid import Grid, Volume

CELL = 255


def phantom_cells(rng: np.random.Generator, size: Size = "demo") -> tuple[Volume, Volume]:
    """An 8-bit grey picture and its mask (255 cell, 0 membrane), both (1, rows, columns, 1) on a grid of one unit a pixel.

    Size `demo`: about 224x240 pixels; `small`: about 88x96. Membranes fade in places, and bright vesicles lie in the cells, so that no
    threshold separates the two.
    """
    draws = Draws(rng)
    shape = _shape(draws, size)
    at = _pixels(shape)
    warped = (at[0] + 3.0 * draws.field(at, 22.0), at[1] + 3.0 * draws.field(at, 22.0), at[2])
    wall, nearest = _cells(draws, warped, draws.uniform(19.0, 26.0))
    thickness = draws.uniform(1.5, 2.1)
    depth = wall - thickness
    image = _stain(draws, at, depth, nearest)
    return as_volume(image, np.uint8, Grid(shape, np.eye(4))), as_volume(np.where(depth > 0.0, CELL, 0), np.uint8, Grid(shape, np.eye(4)))


def _shape(draws: Draws, size: Size) -> tuple[int, int, int]:
    rows, columns = draws.integer(26, 30) * 8, draws.integer(28, 32) * 8
    return (rows * 3 // 8, columns * 3 // 8, 1) if size == "small" else (rows, columns, 1)


def _pixels(shape: tuple[int, int, int]) -> Points:
    row, column = np.arange(shape[0], dtype=np.float64), np.arange(shape[1], dtype=np.float64)
    zero = np.zeros(shape)
    return row[:, None, None] + zero, column[None, :, None] + zero, zero


def _cells(draws: Draws, at: Points, pitch: float) -> tuple[Array, Array]:
    """Distance to the wall between the two nearest of many seeds, in pixels, and a number 0..1 of the nearest cell."""
    seeds = [
        (row * pitch + draws.uniform(-0.4, 0.4) * pitch, column * pitch + draws.uniform(-0.4, 0.4) * pitch, draws.uniform(0.0, 1.0))
        for row in range(-1, int(at[0].max() / pitch) + 3)
        for column in range(-1, int(at[1].max() / pitch) + 3)
    ]
    far = np.full(at[0].shape, 1e12)
    first, second = far, far
    owner = [np.zeros(far.shape), np.zeros(far.shape), np.zeros(far.shape)]
    for seed in seeds:
        x, y = at[0] - seed[0], at[1] - seed[1]
        square = x * x + y * y
        closer = square < first
        second = np.where(closer, first, np.minimum(second, square))
        owner = [np.where(closer, value, old) for value, old in zip(seed, owner, strict=True)]
        first = np.minimum(first, square)
    return (np.sqrt(second) - np.sqrt(first)) * 0.5, owner[2]


def _stain(draws: Draws, at: Points, depth: Array, nearest: Array) -> Array:
    """Grey values: membranes, cytoplasm that differs from cell to cell, nuclei's shade, vesicles, uneven light, noise."""
    plasma = 58.0 + 26.0 * nearest + 12.0 * draws.field(at, 6.0) + 7.0 * draws.field(at, 2.5)
    plasma = plasma - 14.0 * np.clip(depth - 4.0, 0.0, 1.0)
    for _ in range(at[0].size // 900):
        spot = (draws.uniform(0.0, at[0].shape[0]), draws.uniform(0.0, at[0].shape[1]), 0.0)
        radius = draws.uniform(1.2, 2.6)
        plasma = paint(plasma, np.minimum(ellipsoid(at, spot, (radius, radius, radius)), depth), draws.uniform(120.0, 190.0), 1.5)
    membrane = 172.0 + 55.0 * draws.field(at, 18.0) + 10.0 * draws.field(at, 3.0)
    image = paint(membrane, depth, plasma, 1.6)
    for axis in (0, 1):
        image = blur(image, axis, 0.2)
    light = 1.0 + 0.22 * draws.field(at, 90.0)
    return image * light + draws.uniform(9.0, 14.0) * draws.noise(image.shape)
