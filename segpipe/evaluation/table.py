"""Results for people: tables that fit 80 columns."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from segpipe.evaluation.folder import Evaluation
from segpipe.evaluation.metric import PIXEL_ERROR, Metric, shown_metrics
from segpipe.evaluation.summary import MEAN, Summaries, Summary

NOTHING = "n/a"
_ROWS = 12
"""Case rows that are all shown; of more, only the worst."""
_NAMES = 10
_FEW = 5
"""Below this number of cases an interval says little."""
_DETAILED = 6
"""Labels, the mean among them, up to which each has a row a metric."""


def summary_table(evaluation: Evaluation, summaries: Summaries, tolerance_mm: float) -> Table:
    """Figures over cases: of few labels all of them, a row a metric; of many labels the means, a row a label."""
    rows = {str(value): name for value, name in evaluation.labels.items()}
    if len(rows) != 1:
        rows[MEAN] = "mean"
    detailed = len(rows) <= _DETAILED
    return (_detailed_table if detailed else _mean_table)(evaluation, summaries, rows, tolerance_mm)


def case_table(evaluation: Evaluation) -> Table:
    """Figures of single cases, lowest Dice first; of many only the worst."""
    rows = [(case.case, value, case.score(value)) for case in evaluation.cases for value in evaluation.labels]
    rows.sort(key=lambda row: (math.isnan(row[2].dice), row[2].dice, row[0], row[1]))
    title = "lowest Dice first" if len(rows) <= _ROWS else f"the {_ROWS} lowest Dice of {len(rows)}"
    table = _wide_table(title, "case, label", evaluation.picture)
    for case, value, score in rows[:_ROWS]:
        note = f" ({score.note})" if score.note else ""
        cells = (_number(float(getattr(score, metric.name)), metric) for metric in shown_metrics(evaluation.picture))
        table.add_row(Text(f"{case}, {evaluation.labels[value]}{note}"), *cells)
    return table


def _detailed_table(evaluation: Evaluation, summaries: Summaries, rows: dict[str, str], tolerance_mm: float) -> Table:
    """A row a label and metric, with interval, median and range."""
    table = _table(f"{_cases(len(evaluation.cases))}, 95 % intervals of the mean by bootstrap")
    table.add_column("label", overflow="fold")
    table.add_column("metric", no_wrap=True)
    for title in ("mean", "95 % interval", "median", "min", "max"):
        table.add_column(title, justify="right", no_wrap=True)
    shown = shown_metrics(evaluation.picture)
    for key, name in rows.items():
        for metric in shown:
            figures = summaries[key][metric.name]
            table.add_row(
                Text(name if metric is shown[0] else ""),
                heading(metric, evaluation.picture, tolerance_mm),
                _number(figures.mean, metric),
                _interval(figures, metric),
                *(_number(figure, metric) for figure in (figures.median, figures.minimum, figures.maximum)),
                end_section=metric is shown[-1],
            )
    return table


def _mean_table(evaluation: Evaluation, summaries: Summaries, rows: dict[str, str], tolerance_mm: float) -> Table:
    """A row a label, a column a metric."""
    unit = "px" if evaluation.picture else "mm"
    title = f"means of {_cases(len(evaluation.cases))} (surface Dice at {tolerance_mm:g} {unit})"
    table = _wide_table(title, "label", evaluation.picture)
    for key, name in rows.items():
        table.add_row(Text(name), *(_number(summaries[key][metric.name].mean, metric) for metric in shown_metrics(evaluation.picture)))
    return table


def remarks(evaluation: Evaluation, summaries: Summaries) -> list[Text]:
    """What the tables do not tell: pixel error, undefined figures, missing and broken cases, warnings; one line each."""
    errors = summaries[MEAN][PIXEL_ERROR.name]
    lines = [Text(f"{PIXEL_ERROR.title} {_number(errors.mean, PIXEL_ERROR)}, 95 % interval {_interval(errors, PIXEL_ERROR)}")]
    if 1 < len(evaluation.cases) < _FEW:
        lines.append(Text(f"{_cases(len(evaluation.cases))} only: the intervals say little, for two they are no more than the range"))
    undefined = _undefined(evaluation, summaries)
    lines += [Text(line) for line in undefined[:_NAMES]]
    if len(undefined) > _NAMES:
        lines.append(Text(f"and {len(undefined) - _NAMES} more such lines; --json tells each label's `undefined`"))
    lines += [Text(f"warning: {line}", style="yellow") for line in evaluation.warnings]
    if evaluation.without_truth:
        lines.append(Text(f"{_count(evaluation.without_truth, 'prediction')} without truth, not judged: {_some(evaluation.without_truth)}"))
    if evaluation.without_prediction:
        missing = evaluation.without_prediction
        lines.append(
            Text(
                f"{_count(missing, 'truth')} without prediction, not in the means: {_some(missing)} (no failure with --allow-missing)",
                style="red",
            )
        )
    for case, what in list(evaluation.errors.items())[:_NAMES]:
        lines.append(Text(f"not compared: {case}: {what}", style="red"))
    if len(evaluation.errors) > _NAMES:
        lines.append(Text(f"not compared: {len(evaluation.errors) - _NAMES} more, see --json or --csv", style="red"))
    return lines


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, collapse_padding=True)


def _wide_table(title: str, first: str, picture: bool) -> Table:
    """An empty table with a column a metric, headings over two lines."""
    table = _table(title)
    table.add_column(first, overflow="fold", min_width=8)
    for metric in shown_metrics(picture):
        table.add_column(metric.title.format(unit="px" if picture else "mm").replace(" ", "\n", 1), justify="right", no_wrap=True)
    return table


def heading(metric: Metric, picture: bool, tolerance_mm: float) -> str:
    """A metric's heading with its unit, and the tolerance where it has one."""
    unit = "px" if picture else "mm"
    title = metric.title.format(unit=unit)
    return f"{title} {tolerance_mm:g} {unit}" if metric.name == "surface_dice" else title


def _number(value: float | None, metric: Metric) -> str:
    return NOTHING if value is None or math.isnan(value) else f"{value:.{metric.digits}f}"


def _interval(figures: Summary, metric: Metric) -> str:
    return NOTHING if figures.ci95 is None else " to ".join(f"{x:.{metric.digits}f}" for x in figures.ci95)


def _undefined(evaluation: Evaluation, summaries: Summaries) -> list[str]:
    """How many figures are missing from the means, and why."""
    lines = []
    for value, name in evaluation.labels.items():
        metrics = summaries[str(value)]
        absent, one_sided = metrics["dice"].undefined, metrics["hd95_mm"].undefined - metrics["dice"].undefined
        if absent:
            lines.append(f"{name}: empty in truth and prediction of {_cases(absent)}; left out of its means")
        if one_sided:
            lines.append(f"{name}: empty in truth or prediction of {_cases(one_sided)}; Dice 0, left out of the means of distances")
    return lines


def _cases(count: int) -> str:
    return f"{count} case" if count == 1 else f"{count} cases"


def _count(names: Sequence[str], what: str) -> str:
    return f"{len(names)} {what}" if len(names) == 1 else f"{len(names)} {what}s"


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_NAMES])
    return f"{shown} and {len(names) - _NAMES} more" if len(names) > _NAMES else shown
