"""`segpipe inspect DATA`: the audit of a data set, as tables and as JSON."""

from __future__ import annotations

import dataclasses
import json
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table
from rich.text import Text

from segpipe.commands.inspect_dicom import DicomOptions, list_dicom
from segpipe.commands.option_words import in_option_words, option_words
from segpipe.commands.outcome import Outcome
from segpipe.dataset.audit import audit, can_train
from segpipe.dataset.case import DataSet
from segpipe.dataset.facts import CaseFacts
from segpipe.dataset.finding import Finding
from segpipe.dataset.fingerprint import Fingerprint, channel_names, fingerprint
from segpipe.dataset.load import load_dataset
from segpipe.dataset.measure import measure
from segpipe.dataset.split import FEW
from segpipe.errors import DataError
from segpipe.io.atomic import check_file, write_text
from segpipe.settings import DatasetSettings

MOST_FINDINGS = 40
"""Findings that the table shows; the JSON file has them all."""
MOST_LABELS = 60
_LARGE = 1000
CANNOT_TRAIN = 3
"""Exit code when there is an error among the findings."""


def inspect(settings: DatasetSettings, json_path: Path | None = None, dicom: DicomOptions | None = None) -> Outcome:
    """Audit a data set; faults and cures name the options of this command. Of a place that is none, and holds DICOM: list its series.

    Args:
        json_path: where everything that was measured and found is written; None: nowhere.
        dicom: what is shown of DICOM.

    Raises:
        ConfigError: a setting does not fit, or the JSON file cannot be written.
        DataError: there is no data set at the root.
    """
    if json_path is not None:
        check_file(json_path)
    try:
        with option_words():
            data = load_dataset(settings)
    except DataError:
        listed = list_dicom(settings, json_path, dicom or DicomOptions())
        if listed is None:
            raise
        return listed
    facts = measure(data)
    findings = [_in_options(finding) for finding in audit(data, facts)]
    try:
        summary: Fingerprint | None = fingerprint(data, facts)
    except DataError:
        summary = None  # the findings tell why
    shown = [_data_table(data, facts), *_measured_tables(data, facts, summary), *_finding_lines(data, findings)]
    if json_path is not None:
        write_text(json_path, json.dumps(_finite(_document(data, facts, findings, summary)), indent=1, allow_nan=False) + "\n")
        shown.append(f"everything in {json_path}")
    return Outcome(shown, 0 if can_train(findings) else CANNOT_TRAIN)


def _in_options(finding: Finding) -> Finding:
    return dataclasses.replace(finding, what=in_option_words(finding.what), cure=in_option_words(finding.cure))


def _figure(value: float) -> str:
    """Four digits, but never an exponent for large numbers."""
    return f"{value:.0f}" if abs(value) >= _LARGE else f"{value:.4g}"


def _table(title: str, *columns: str) -> Table:
    """A table whose first column holds names and the others figures."""
    table = Table(title=title, title_justify="left", title_style="bold")
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number == 0 else "right")
    return table


def _data_table(data: DataSet, facts: list[CaseFacts]) -> Table:
    groups = {case.group for case in data.cases if case.group}
    folds = sorted({case.fold for case in data.cases if case.fold is not None})
    table = Table(title="Data set", title_justify="left", title_style="bold", show_header=False)
    rows = [
        ("path", str(data.root)),
        ("layout", data.layout),
        ("cases", f"{len(data.cases)}, of which {len(data.labelled)} have a label map"),
        ("channels", ", ".join(data.channels)),
        ("patients or sites", str(len(groups)) if groups else "not known"),
        ("folds", ", ".join(map(str, folds)) if folds else "not given"),
        *([("ignored label values", ", ".join(map(str, data.ignore)))] if data.ignore else []),
        ("unreadable cases", str(sum(not case.readable for case in facts))),
    ]
    for name, value in rows:
        table.add_row(name, Text(value))
    return table


def _measured_tables(data: DataSet, facts: list[CaseFacts], summary: Fingerprint | None) -> list[Any]:
    """Tables, and lines below them: a table's own caption would break at the table's width."""
    measured = [case for case in facts if case.ras_shape[0] > 0]
    if not measured:
        return []
    shown = [_grid_table(measured), *_orientation_line(measured), _intensity_table(data, measured)]
    return [*shown, _label_table(measured, summary), *_more_labels_line(summary)] if summary is not None else shown


def _grid_table(facts: list[CaseFacts]) -> Table:
    picture = all(image.picture for case in facts for image in case.images)
    table = _table("Grids", "over the cases", *(("rows", "columns") if picture else ("x", "y", "z")))
    shapes = np.array([case.ras_shape for case in facts])
    spacings = np.array([case.ras_spacing_mm for case in facts])
    if picture:
        shapes = shapes[:, :2]
    parts = [("pixels" if picture else "voxels", shapes), *([] if picture else [("spacing mm", spacings)])]
    for name, values in parts:
        for word, row in (("min", values.min(axis=0)), ("median", np.median(values, axis=0)), ("max", values.max(axis=0))):
            table.add_row(f"{name} {word}", *map(_figure, row))
    return table


def _orientation_line(facts: list[CaseFacts]) -> list[Text]:
    ways = Counter(case.orientation for case in facts if case.orientation)
    return [Text("orientation of the files: " + ", ".join(f"{way} {count}" for way, count in ways.most_common()))] if ways else []


def _intensity_table(data: DataSet, facts: list[CaseFacts]) -> Table:
    """The whole scans: the range over all cases, and how far the cases' own maxima lie apart."""
    table = _table("Intensities (whole scans)", "channel", "min", "mean", "std", "max", "lowest max", "median max")
    whole = [[values for image in case.images for values in image.whole] for case in facts]
    count = Counter(map(len, whole)).most_common(1)[0][0]
    whole = [channels for channels in whole if len(channels) == count]
    names = _names(data, count, all(image.picture for case in facts for image in case.images))
    for number in range(count):
        each = [channels[number] for channels in whole if channels[number].count]
        if each:
            maxima = [values.maximum for values in each]
            middle = (float(np.mean([values.mean for values in each])), float(np.mean([values.std for values in each])))
            figures = (min(values.minimum for values in each), *middle, max(maxima), min(maxima), float(np.median(maxima)))
            table.add_row(Text(names[number]), *map(_figure, figures))
    return table


def _names(data: DataSet, count: int, picture: bool) -> Sequence[str]:
    try:
        return channel_names(data.channels, count, picture)
    except DataError:
        return [f"channel {number}" for number in range(count)]  # the findings tell that the names do not fit


def _label_table(facts: list[CaseFacts], summary: Fingerprint) -> Table:
    unit = "pixels" if summary.picture else "ml"
    table = _table(
        "Labels (size in the cases that have them)", "name", "value", "cases", f"min {unit}", f"median {unit}", f"max {unit}", "parts"
    )
    for value in _label_values(summary)[:MOST_LABELS]:
        sizes = label_sizes(facts, value, summary.picture)
        parts = [summary.label_components[value]] if value in summary.label_components else []
        figures = (min(sizes), float(np.median(sizes)), max(sizes), *parts) if sizes else ()
        name = Text(summary.label_names.get(value, ""))
        table.add_row(name, str(value), str(len(sizes)), *map(_figure, figures))
    return table


def _label_values(summary: Fingerprint) -> list[int]:
    return sorted({*summary.label_values, *summary.label_names})


def _more_labels_line(summary: Fingerprint) -> list[Text]:
    more = len(_label_values(summary)) - MOST_LABELS
    return [Text(f"and {more} more values; --json FILE writes them all")] if more > 0 else []


def label_sizes(facts: list[CaseFacts], value: int, picture: bool) -> list[float]:
    """Volume in ml (pixels in pictures) of a label value in each case that has it."""
    labels = [case.label for case in facts if case.label is not None and value in case.label.voxels]
    return [label.voxels[value] * (1.0 if picture else label.voxel_ml) for label in labels]


def _finding_lines(data: DataSet, findings: list[Finding]) -> list[Any]:
    errors = sum(finding.severity == "error" for finding in findings)
    verdict = "Training cannot start" if errors else "Training can start"
    few = f" Only {len(data.labelled)} labelled case(s): a score on so few says little." if len(data.labelled) < FEW else ""
    line = Text(f"{verdict}: {errors} error(s), {len(findings) - errors} warning(s).{few}", style="bold red" if errors else "bold green")
    if not findings:
        return [line]
    table = Table(title="Findings", title_justify="left", title_style="bold", show_lines=True)
    for column in ("", "case", "file", "what is wrong", "cure"):
        table.add_column(column, overflow="fold")
    for finding in findings[:MOST_FINDINGS]:
        style = "red" if finding.severity == "error" else "yellow"
        texts = (finding.case, _relative(finding.file, data.root), finding.what, finding.cure)
        table.add_row(Text(finding.severity, style=style), *(Text(text) for text in texts))
    more = len(findings) - MOST_FINDINGS
    return [table, *([f"and {more} more; --json FILE writes them all"] if more > 0 else []), line]


def _relative(file: str, root: Path) -> str:
    folder = root if root.is_dir() else root.parent
    path = Path(file)
    return str(path.relative_to(folder)) if path.is_relative_to(folder) and path != folder else file


def _document(data: DataSet, facts: list[CaseFacts], findings: list[Finding], summary: Fingerprint | None) -> dict[str, Any]:
    """All that is known, as plain values."""
    by_name = {case.name: case for case in data.cases}
    values = summary.label_values if summary is not None else ()
    picture = summary.picture if summary is not None else False
    sizes = {str(value): label_sizes(facts, value, picture) for value in values}
    unit = "pixels" if picture else "ml"
    return {
        "root": str(data.root),
        "layout": data.layout,
        "can_train": can_train(findings),
        "counts": {
            "cases": len(data.cases),
            "labelled": len(data.labelled),
            "unreadable": sum(not case.readable for case in facts),
            "errors": sum(finding.severity == "error" for finding in findings),
            "warnings": sum(finding.severity == "warning" for finding in findings),
        },
        "channels": list(data.channels),
        "labels": {
            value: {
                "name": summary.label_names.get(int(value), "") if summary is not None else "",
                "cases": len(each),
                unit: {"min": min(each), "median": float(np.median(each)), "max": max(each)},
            }
            for value, each in sizes.items()
            if each
        },
        "findings": [dataclasses.asdict(finding) for finding in findings],
        "fingerprint": summary.to_dict() if summary is not None else None,
        "cases": [{"group": by_name[case.case].group, "fold": by_name[case.case].fold, **case.to_dict()} for case in facts],
    }


def _finite(value: Any) -> Any:
    """JSON knows no NaN and no infinity: they become null; dict keys become text."""
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
