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
from numpy.typing import NDArray

from segpipe.io.atomic import replacing
from segpipe.plan.plan import Plan

log = logging.getLogger(__name__)

COLOURS = ("#e6194b", "#3cb44b", "#4363d8", "#ffe119", "#f58231", "#911eb4", "#42d4f4", "#f032e6", "#bfef45", "#fabed4")
Scalar = TypeVar("Scalar", bound=np.generic)
_SLICES = 4
_LEGEND = 8
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


def outline(axes: Axes, mask: NDArray[np.bool_], colour: str, style: str = "solid") -> None:
    """Draw the border of a mask, where there is one; a plane that is one pixel wide has none that matplotlib could draw."""
    if mask.any() and not mask.all() and min(mask.shape) > 1:
        axes.contour(mask, [0.5], colors=[colour], linestyles=style, linewidths=1.0)


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
        image: (I, J, n) slices of the first channel.
        truth, prediction: (I, J, n) class indices.
        slices: number of each slice in the scan.
    """

    case: str
    image: NDArray[np.float32]
    truth: NDArray[np.uint8]
    prediction: NDArray[np.uint8]
    slices: list[int]


def cut_overlay(case: str, image: NDArray[np.float32], truth: NDArray[np.uint8], prediction: NDArray[np.uint8]) -> Overlay:
    """Slices along the last axis through what is labelled; arrays (I, J, K)."""
    slices = _busy_slices(truth | prediction)
    return Overlay(case, image[:, :, slices], truth[:, :, slices], prediction[:, :, slices], slices)


def draw_overlay(overlay: Overlay, path: Path, plan: Plan) -> None:
    """Slices side by side: truth outlined with full lines, prediction with dashed ones; letters tell the patient's sides."""
    truth, prediction, picture = overlay.truth, overlay.prediction, plan.pictures
    figure = Figure(figsize=(3.2 * len(overlay.slices), 3.7), layout="constrained")
    for number, axes in enumerate(np.atleast_1d(figure.subplots(1, len(overlay.slices)))):
        plane = overlay.image[:, :, number]
        low, high = np.percentile(plane, (1, 99))
        axes.imshow(upright(plane, picture), cmap="gray", vmin=low, vmax=max(high, low + 1e-6))
        for index in range(1, int(max(truth.max(), prediction.max())) + 1):
            for labels, style in ((truth, "solid"), (prediction, "dashed")):
                outline(axes, upright(labels[:, :, number] == index, picture), colour(index), style)
        axes.set(xticks=[], yticks=[], xlabel="" if picture else f"slice {overlay.slices[number]}")
        if not picture:
            _letters(axes, plan)
    shown = [label for label in plan.labels[1:] if ((truth == label.index) | (prediction == label.index)).any()][:_LEGEND]
    handles = [Line2D([], [], color=colour(label.index), label=plain(label.name)) for label in shown]
    if handles:
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=8, frameon=False)
    figure.suptitle(f"{plain(overlay.case)}\nfull: truth, dashed: prediction", fontsize=9)
    save_figure(figure, path)


def _letters(axes: Axes, plan: Plan) -> None:
    """Which side of the patient lies at each edge of a slice as `upright` shows it."""
    (left, right), (top, bottom) = (_ENDS[axis] for axis in plan.axes[:2])
    places = ((0.02, 0.5, left), (0.98, 0.5, right), (0.5, 0.98, top), (0.5, 0.02, bottom))
    for x, y, letter in places:
        axes.text(x, y, letter, transform=axes.transAxes, color="gold", fontsize=8, ha="center", va="center")


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
