"""Pictures of a run: curves, and validation cases with truth and prediction outlined."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from segpipe.io.atomic import replacing
from segpipe.plan.plan import Plan

log = logging.getLogger(__name__)

COLOURS = ("#e6194b", "#3cb44b", "#4363d8", "#ffe119", "#f58231", "#911eb4", "#42d4f4", "#f032e6", "#bfef45", "#fabed4")
Scalar = TypeVar("Scalar", bound=np.generic)
_SLICES = 3
_LEGEND = 8
_LEGEND_COLUMNS = 4
_PANEL, _PICTURE_PANEL = 4.5, 7.0
"""Longest side of a panel in inches; a picture is the only slice, and two of them fill the width of the sheet."""
_SMALLEST = 1.5
_COLOURS_OF_A_PICTURE = 3
_LINE = 2.4
"""Points; the half of a line that lies outside its label is not drawn."""
_ENDS = (("R", "L"), ("A", "P"), ("S", "I"))
"""Where each world axis ends, RAS: the side to which it runs first."""


@contextmanager
def spared(what: str) -> Iterator[None]:
    """A picture that cannot be drawn or written is told of, and costs nothing but itself."""
    try:
        yield
    except Exception as error:
        log.warning("%s could not be drawn (%s: %s); everything else is kept", what, type(error).__name__, " ".join(str(error).split()))


def plain(text: str) -> str:
    """Text that matplotlib shows as it is: what stands between two dollars it would read as a formula."""
    return text.replace("$", r"\$")


def outline(axes: Axes, mask: NDArray[np.bool_], colour: str) -> None:
    """Draw the border of a mask on its own side only, so that labels that touch do not hide each other, however small a pixel is drawn."""
    if not mask.any():
        return
    axes.autoscale(False)  # the image has set the view; the margin below is no part of it
    rows, columns = mask.shape
    closed = np.pad(mask, 1)  # a contour would be open at the edges otherwise, and there is none of a plane that is one pixel wide
    lines = axes.contour(np.arange(-1, columns + 1), np.arange(-1, rows + 1), closed, [0.5], colors=[colour], linewidths=_LINE)
    lines.set_clip_path(lines.get_paths()[0], axes.transData)


def shown(image: NDArray[np.float32], limits: tuple[float, float], picture: bool) -> NDArray[np.float32]:
    """A plane as it is drawn, from `limits` to 0 and 1: a colour picture (rows, columns, 3), else the first channel (rows, columns).

    Args:
        image: (C, I, J).
    """
    low, high = limits
    values = np.clip((image - low) / max(high - low, 1e-6), 0, 1)
    if picture and len(values) == _COLOURS_OF_A_PICTURE:
        return np.moveaxis(values, 0, -1)
    return upright(values[0], picture)


def save_figure(figure: Figure, path: Path) -> None:
    """Write a PNG whole or not at all."""
    with replacing(path) as temporary:
        FigureCanvasAgg(figure)
        figure.savefig(temporary, format="png")


def draw_curves(rows: list[dict[str, str]], labels: list[str], path: Path) -> None:
    """Loss and learning rate, and Dice per label, over steps, from the rows of metrics.csv."""
    figure = Figure(figsize=(11, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    _curve(left, rows, "loss", "tab:blue")
    left.set(xlabel="step", title="training loss and learning rate")
    left.set_ylabel("loss", color="tab:blue")
    twin = left.twinx()
    _curve(twin, rows, "lr", "tab:grey")
    twin.set_ylabel("learning rate", color="tab:grey")
    for number, name in enumerate([*labels, *(["mean"] if len(labels) > 1 else [])]):
        _curve(right, rows, f"dice {name}", "black" if name == "mean" else COLOURS[number % len(COLOURS)], plain(name))
    right.set(xlabel="step", ylabel="Dice", ylim=(0, 1), title="whole validation scans")
    if right.lines:
        right.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)  # beside the curves, never over them
    save_figure(figure, path)


def _curve(axes: object, rows: list[dict[str, str]], column: str, colour: str, label: str | None = None) -> None:
    points = [(int(row["step"]), float(row[column])) for row in rows if row.get(column)]
    if points:
        axes.plot(*zip(*points, strict=True), color=colour, label=label, marker="." if len(points) < 50 else None)  # type: ignore[attr-defined]


@dataclass(frozen=True, eq=False)
class Overlay:
    """What an overlay shows of a case, so that the whole volumes need not be kept until it is drawn.

    Attributes:
        image: (C, I, J, n) slices.
        truth, prediction: (I, J, n) class indices.
        slices: number of each slice in the scan.
    """

    case: str
    image: NDArray[np.float32]
    truth: NDArray[np.uint8]
    prediction: NDArray[np.uint8]
    slices: list[int]


def cut_overlay(case: str, image: NDArray[np.float32], truth: NDArray[np.uint8], prediction: NDArray[np.uint8]) -> Overlay:
    """Slices along the last axis through what is labelled; image (C, I, J, K), labels (I, J, K)."""
    slices = _busy_slices(truth | prediction)
    return Overlay(case, image[..., slices], truth[:, :, slices], prediction[:, :, slices], slices)


def draw_overlay(overlay: Overlay, path: Path, plan: Plan) -> None:
    """A row a slice, truth outlined on the left, prediction on the right: neither hides the other; letters tell the patient's sides."""
    figure = Figure(figsize=_sheet_size(overlay, plan.pictures), layout="constrained")
    panels = figure.subplots(len(overlay.slices), 2, squeeze=False)
    for number, pair in enumerate(panels):
        limits = np.percentile(overlay.image[..., number], (0.5, 99.5))
        plane = shown(overlay.image[..., number], (limits[0], limits[1]), plan.pictures)
        for axes, labels in zip(pair, (overlay.truth, overlay.prediction), strict=True):
            _panel(axes, plane, labels[:, :, number], plan)
        pair[0].set_ylabel("" if plan.pictures else f"slice {overlay.slices[number]}", fontsize=9)
    for axes, title in zip(panels[0], ("truth", "prediction"), strict=True):
        axes.set_title(title, fontsize=10)
    found = [label for label in plan.labels[1:] if ((overlay.truth == label.index) | (overlay.prediction == label.index)).any()]
    handles = [Line2D([], [], color=colour(label.index), label=plain(label.name)) for label in found[:_LEGEND]]
    if handles:
        columns = min(len(handles), _LEGEND_COLUMNS)
        figure.legend(handles=handles, loc="outside lower center", ncols=columns, fontsize=8, frameon=False)
    figure.suptitle(plain(overlay.case), fontsize=10)
    save_figure(figure, path)


def _sheet_size(overlay: Overlay, picture: bool) -> tuple[float, float]:
    """Width and height in inches for panels of the slices' shape."""
    rows, columns = upright(overlay.truth[:, :, 0], picture).shape
    side = (_PICTURE_PANEL if picture else _PANEL) / max(rows, columns)
    return 2 * max(side * columns, _SMALLEST) + 0.4, len(overlay.slices) * max(side * rows, _SMALLEST) + 1.0


def _panel(axes: Axes, plane: NDArray[np.float32], labels: NDArray[np.uint8], plan: Plan) -> None:
    """One slice with the outlines of its labels (I, J)."""
    axes.imshow(plane, cmap="gray", vmin=0, vmax=1)
    for index in np.unique(labels[labels > 0]):
        outline(axes, upright(labels == index, plan.pictures), colour(int(index)))
    axes.set(xticks=[], yticks=[])
    if not plan.pictures:
        _letters(axes, plan)


def _letters(axes: Axes, plan: Plan) -> None:
    """Which side of the patient lies at each edge of a slice as `upright` shows it: inside the panel, legible on black and on white."""
    (left, right), (top, bottom) = (_ENDS[axis] for axis in plan.axes[:2])
    places = ((0.02, 0.5, "left", "center"), (0.98, 0.5, "right", "center"), (0.5, 0.98, "center", "top"), (0.5, 0.02, "center", "bottom"))
    for (x, y, across, along), letter in zip(places, (left, right, top, bottom), strict=True):
        text = axes.text(x, y, letter, transform=axes.transAxes, color="gold", fontsize=10, ha=across, va=along)
        text.set_path_effects([withStroke(linewidth=2, foreground="black")])


def upright(plane: NDArray[Scalar], picture: bool) -> NDArray[Scalar]:
    """Pictures as they are (rows, columns); slices of RAS volumes with anterior up, as radiologists see them (right on the left)."""
    return plane if picture else plane.T[::-1, ::-1]


def colour(index: int) -> str:
    """Colour of a class, counted from 1; they repeat after ten."""
    return COLOURS[(index - 1) % len(COLOURS)]


def _busy_slices(labels: NDArray[np.uint8]) -> list[int]:
    """Evenly spaced slices through the labelled part."""
    busy = np.flatnonzero(labels.any(axis=(0, 1)))
    if busy.size == 0:
        busy = np.arange(labels.shape[2])
    return sorted({int(busy[round(at)]) for at in np.linspace(0, busy.size - 1, min(_SLICES, busy.size) + 2)[1:-1]})
