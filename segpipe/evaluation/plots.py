"""Box plots of the figures over cases."""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING

import numpy as np

from segpipe.evaluation.folder import Evaluation
from segpipe.evaluation.metric import Metric
from segpipe.evaluation.summary import label_means, values_of
from segpipe.evaluation.table import heading

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_DPI = 130
_LONGEST = 28
_BOX = "#4477aa"
_POINT = "#222222"


def box_plot(evaluation: Evaluation, metric: Metric, tolerance_mm: float) -> bytes:
    """PNG of one metric: a row a label and one for the mean over labels, a box over cases and each case as a point.

    The box spans the quartiles with the median in it, whiskers reach to the last case within 1.5 times its width, the diamond is
    the mean. Names carry the number of cases where the metric is defined.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = [(name, values_of(evaluation, value, metric.name)) for value, name in evaluation.labels.items()]
    if len(rows) > 1:
        rows.append(("mean over labels", label_means(evaluation, metric.name)))
    figure = Figure(figsize=(7.0, 1.3 + 0.45 * max(len(rows), 2)), layout="constrained")
    axes = FigureCanvasAgg(figure).figure.subplots()
    _draw(axes, [(name, [x for x in values if not math.isnan(x)]) for name, values in rows])
    axes.set_xlabel(heading(metric, evaluation.picture, tolerance_mm))
    axes.set_title(f"{heading(metric, evaluation.picture, tolerance_mm)}, {len(evaluation.cases)} cases", loc="left", fontsize=11)
    _limits(axes, metric)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI, metadata={"Software": "segpipe"})
    return buffer.getvalue()


def _draw(axes: Axes, rows: list[tuple[str, list[float]]]) -> None:
    """Boxes and points from top to bottom; rows without a value stay empty."""
    places = np.arange(len(rows), 0, -1)
    for place, (_, values) in zip(places, rows, strict=True):
        if not values:
            continue
        axes.boxplot(
            [values],
            positions=[place],
            orientation="horizontal",
            widths=0.55,
            showfliers=False,
            showmeans=True,
            patch_artist=True,
            boxprops={"facecolor": _BOX, "alpha": 0.35, "edgecolor": _BOX},
            medianprops={"color": _BOX, "linewidth": 2},
            meanprops={"marker": "D", "markerfacecolor": "white", "markeredgecolor": _BOX, "markersize": 5, "zorder": 4},
            whiskerprops={"color": _BOX},
            capprops={"color": _BOX},
        )
        spread = np.random.default_rng(0).uniform(-0.18, 0.18, len(values))
        axes.scatter(values, place + spread, s=9, color=_POINT, alpha=0.55, linewidths=0, zorder=3)
    axes.set_yticks(places, [f"{_short(name)}  (n={len(values)})" for name, values in rows])
    axes.set_ylim(0.4, len(rows) + 0.6)
    axes.grid(axis="x", alpha=0.3)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)


def _limits(axes: Axes, metric: Metric) -> None:
    """Shares end at 1 and distances begin at 0; the line of no difference is drawn."""
    low, high = axes.get_xlim()
    if metric.name in ("dice", "iou", "surface_dice"):
        axes.set_xlim(max(low, -0.02), min(high, 1.02))
    elif metric.name in ("hd95_mm", "assd_mm"):
        axes.set_xlim(min(0.0, low), high)
    else:
        axes.axvline(0.0, color="grey", linewidth=1, linestyle="--", zorder=0)


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST else name[: _LONGEST - 3] + "..."
