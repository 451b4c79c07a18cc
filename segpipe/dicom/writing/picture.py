"""A sheet of slices with labels drawn over them, as an RGB array. Knows no DICOM."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from segpipe.dicom.terms import Colour

Picture = NDArray[np.uint8]
_TILE = 360
"""Pixels of a tile's longer side."""
_TEXT, _SMALL = 18, 15
_MARGIN = 8
_NARROWEST = 600
_OPACITY = 0.35
_PERCENTILES = (1.0, 99.0)
_WHITE, _GREY = (255, 255, 255), (170, 170, 170)


@dataclass(frozen=True, eq=False)
class Tile:
    """One slice.

    Attributes:
        values: (rows, columns).
        segments: (rows, columns) of segment numbers.
        spacing_mm: from row to row, and from column to column.
        ends: where the left, top, right and bottom of the slice point in the patient: `R`, `A`, `L`, `P`.
        caption: below it.
    """

    values: NDArray[np.float64]
    segments: NDArray[np.integer]
    spacing_mm: tuple[float, float]
    ends: tuple[str, str, str, str]
    caption: str


def sheet(tiles: Sequence[Tile], legend: Sequence[tuple[str, Colour]], lines: Sequence[str], columns: int) -> Picture:
    """(rows, columns, 3), uint8: tiles side by side, below them the legend and the lines.

    Args:
        legend: text and colour of each segment, number 1 first.
        lines: broken between words where they are wider than the sheet.
    """
    low, high = np.percentile(np.concatenate([tile.values.ravel() for tile in tiles]), _PERCENTILES)
    colours = [colour for _, colour in legend]
    pictures = [_drawn(tile, (float(low), float(high)), colours) for tile in tiles]
    width, height = max(one.width for one in pictures), max(one.height for one in pictures) + _TEXT + _MARGIN
    rows = -(-len(tiles) // columns)
    entry, across = _TEXT + _MARGIN, max(_NARROWEST, min(columns, len(tiles)) * (width + _MARGIN) + _MARGIN)
    several = max(1, across // _TILE)
    lines = [part for line in lines for part in _wrapped(line, across - 2 * _MARGIN)]
    below = (-(-len(legend) // several) + len(lines)) * entry + _MARGIN
    whole = Image.new("RGB", (across, rows * (height + _MARGIN) + _MARGIN + below))
    draw = ImageDraw.Draw(whole)
    for number, (picture, tile) in enumerate(zip(pictures, tiles, strict=True)):
        row, column = divmod(number, columns)
        x, y = _MARGIN + column * (width + _MARGIN), _MARGIN + row * (height + _MARGIN)
        whole.paste(picture, (x, y))
        draw.text((x, y + picture.height + 2), tile.caption, _GREY, _font(_SMALL))
    y = rows * (height + _MARGIN) + _MARGIN
    for number, (text, colour) in enumerate(legend):
        x = _MARGIN + (number % several) * _TILE
        at = y + number // several * entry
        draw.rectangle((x, at + 2, x + _TEXT, at + _TEXT), colour)
        draw.text((x + _TEXT + _MARGIN, at), text, _WHITE, _font(_TEXT))
    y += -(-len(legend) // several) * entry
    for number, text in enumerate(lines):
        draw.text((_MARGIN, y + number * entry), text, _WHITE, _font(_TEXT))
    return np.asarray(whole)


def _drawn(tile: Tile, limits: tuple[float, float], colours: Sequence[Colour]) -> Image.Image:
    """One slice in its true proportions, its labels tinted with full borders."""
    grey = np.clip((tile.values - limits[0]) / max(limits[1] - limits[0], 1e-6), 0, 1) * 255
    tall, wide = (n * mm for n, mm in zip(grey.shape, tile.spacing_mm, strict=True))
    share = _TILE / max(tall, wide)
    size = (max(1, round(wide * share)), max(1, round(tall * share)))
    base = np.asarray(Image.fromarray(grey.astype(np.uint8)).resize(size, Image.Resampling.BILINEAR), dtype=np.float64)
    numbers = np.asarray(Image.fromarray(tile.segments.astype(np.int32)).resize(size, Image.Resampling.NEAREST))
    rgb = np.repeat(base[..., None], 3, axis=2)
    table = np.array([(0, 0, 0), *colours], dtype=np.float64)
    inside = numbers > 0
    opacity = np.where(_border(numbers), 1.0, _OPACITY)[..., None]
    mixed = rgb * (1 - opacity) + table[numbers] * opacity
    picture = Image.fromarray(np.where(inside[..., None], mixed, rgb).astype(np.uint8))
    _letters(picture, tile.ends)
    return picture


def _border(numbers: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Pixels beside one of another number."""
    padded = np.pad(numbers, 1, mode="edge")
    middle = padded[1:-1, 1:-1]
    around = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
    found: NDArray[np.bool_] = np.logical_or.reduce([one != middle for one in around])
    return found


def _letters(picture: Image.Image, ends: tuple[str, str, str, str]) -> None:
    draw, font = ImageDraw.Draw(picture), _font(_TEXT)
    middle_x, middle_y = picture.width // 2, picture.height // 2
    places = ((4, middle_y, "lm"), (middle_x, 4, "mt"), (picture.width - 4, middle_y, "rm"), (middle_x, picture.height - 4, "mb"))
    for letter, (x, y, anchor) in zip(ends, places, strict=True):
        draw.text((x, y), letter, _WHITE, font, anchor=anchor, stroke_width=2, stroke_fill=(0, 0, 0))


def _wrapped(text: str, width: int) -> list[str]:
    """A text in lines of at most `width` pixels, but for longer words."""
    font, found = _font(_TEXT), [""]
    for word in text.split():
        longer = f"{found[-1]} {word}".strip()
        if found[-1] and font.getlength(longer) > width:
            found.append(word)
        else:
            found[-1] = longer
    return found


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
