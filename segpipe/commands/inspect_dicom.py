"""`segpipe inspect` of a place that holds DICOM: studies, series, stacks, and what predict would do with each."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from segpipe.commands.outcome import Outcome
from segpipe.dataset.load import LAYOUTS
from segpipe.dicom.listing import Listing, list_stacks
from segpipe.dicom.plane import Plane
from segpipe.dicom.policy import Policy, parse_policy
from segpipe.dicom.stack import LeftOut, Stack
from segpipe.dicom.verdict import classes_of, judge
from segpipe.errors import DataError
from segpipe.io.atomic import write_text
from segpipe.io.find import find_files, is_scan
from segpipe.settings import DatasetSettings

log = logging.getLogger(__name__)

MOST_ROWS = 200
"""Rows that the table shows; the JSON file has them all."""
_DOES = {"accept": "predict", "resample": "repair, predict", "refuse": "refuse"}
_STYLES = {"accept": "green", "resample": "yellow", "refuse": "red"}


@dataclass(frozen=True)
class DicomOptions:
    """Attributes:
    policy: `CLASS=ACTION` words.
    ids: show UIDs, descriptions and names, which tell who the patient is.
    """

    policy: tuple[str, ...] = ()
    ids: bool = False


def list_dicom(settings: DatasetSettings, json_path: Path | None, options: DicomOptions) -> Outcome | None:
    """What DICOM lies at the root of `settings`; None where there is none, where a layout was asked for, or one was found.

    Returns:
        Tables; exit code 3 where predict would fail on something.

    Raises:
        ConfigError: an unknown policy, or the JSON file cannot be written.
        DataError: pydicom is not installed.
    """
    root = Path(settings.root).expanduser()
    asked = settings.layout != "auto" or settings.images or settings.labels or settings.pattern
    if asked or not settings.root or not root.exists():
        return None
    policy = parse_policy(options.policy)
    files = find_files(root)
    if any(found(root) for found, _ in LAYOUTS.values()) and any(map(is_scan, files)):
        return None  # a data set with a fault, which its own error tells
    listing = list_stacks(files)
    if not (listing.stacks or listing.left_out or listing.faults):
        return None
    shown: list[Any] = [_stacks_table(listing, policy, options.ids), *_left_table(listing, options.ids), *_faults(listing, root)]
    refused = sum(judge(stack, policy).action == "refuse" for stack in listing.stacks)
    shown.append(_summary(listing, refused))
    if settings.dicom.labels or settings.dicom.series:
        shown.append("labels and series of --dicom are those of a data set: give --layout dicom to see what training would make of them")
    if json_path is not None:
        write_text(json_path, json.dumps(document(listing, policy, options.ids), indent=1) + "\n")
        shown.append(f"everything in {json_path}")
    return Outcome(shown, DataError.exit_code if refused or listing.faults else 0)


def _summary(listing: Listing, refused: int) -> Text:
    studies = len({stack.study for stack in listing.stacks} | {left.study for left in listing.left_out})
    taken = len(listing.stacks) - refused
    text = f"{studies} {'study' if studies == 1 else 'studies'}; predict would segment {taken} scan(s), refuse {refused}"
    text += f", leave out {len(listing.left_out)} group(s) of pictures that are no scan" if listing.left_out else ""
    text += f"; {len(listing.faults)} damaged file(s)" if listing.faults else ""
    return Text(text + f"; {listing.others} other file(s)", style="bold red" if refused or listing.faults else "bold green")


def _table(title: str, ids: bool, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold")
    for column in ("study", "scan", *(("patient", "description", "series UID") if ids else ()), *columns):
        table.add_column(column, overflow="fold", justify="right" if column in ("slices", "pixels", "spacing mm") else "left")
    return table


def _stacks_table(listing: Listing, policy: Policy, ids: bool) -> Table:
    table = _table("DICOM series", ids, "kind", "slices", "pixels", "spacing mm", "class", "predict would", "why")
    for stack in listing.stacks[:MOST_ROWS]:
        verdict = judge(stack, policy)
        first, style = stack.first, _STYLES[verdict.action]
        figures = (str(len(stack.planes)), f"{first.columns}x{first.rows}", _spacing(stack))
        words = (", ".join(classes_of(stack)) or "unusable", _DOES[verdict.action], verdict.why)
        cells = [stack.study, stack.name, *(_identity(first) if ids else ()), first.modality, *figures, *words]
        table.add_row(*(Text(cell, style=style if n == len(cells) - 2 else "") for n, cell in enumerate(cells)))
    if len(listing.stacks) > MOST_ROWS:
        table.add_row(Text(f"and {len(listing.stacks) - MOST_ROWS} more; --json FILE writes them all"))
    return table


def _identity(plane: Plane) -> tuple[str, str, str]:
    return plane.patient, plane.description, plane.series


def _spacing(stack: Stack) -> str:
    layout, first = stack.layout, stack.first
    if first.spacing is None:
        return "-"
    plane = f"{first.spacing[1]:.4g} x {first.spacing[0]:.4g}"
    if layout is None or layout.grid is None:
        return plane
    apart = 1000 * layout.grid.voxel_volume_ml / (first.spacing[0] * first.spacing[1])  # along the normal, tilted or not
    return f"{plane} x {apart:.4g}"


def _left_table(listing: Listing, ids: bool) -> list[Table]:
    if not listing.left_out:
        return []
    table = _table("Left out", ids, "kind", "pictures", "because it is")
    for left in listing.left_out[:MOST_ROWS]:
        first = left.planes[0]
        cells = (left.study, left.name, *(_identity(first) if ids else ()), first.modality, str(len(left.planes)), left.why)
        table.add_row(*map(Text, cells))
    return [table]


def _faults(listing: Listing, root: Path) -> list[Table]:
    if not listing.faults:
        return []
    table = Table(title="Damaged files", title_justify="left", title_style="bold")
    for column in ("file", "what is wrong"):
        table.add_column(column, overflow="fold")
    for fault in listing.faults[:MOST_ROWS]:
        path = fault.path.relative_to(root) if fault.path != root and fault.path.is_relative_to(root) else fault.path
        table.add_row(Text(str(path)), Text(fault.why))
    return [table]


def document(listing: Listing, policy: Policy, ids: bool) -> dict[str, Any]:
    """All that is known, as plain values; without UIDs, descriptions and names unless asked for."""
    return {
        "stacks": [_stack_document(stack, policy, ids) for stack in listing.stacks],
        "left_out": [_left_document(left, ids) for left in listing.left_out],
        "damaged": [{"file": str(fault.path), "why": fault.why} for fault in listing.faults],
        "other_files": listing.others,
    }


def _stack_document(stack: Stack, policy: Policy, ids: bool) -> dict[str, Any]:
    verdict, layout, first = judge(stack, policy), stack.layout, stack.first
    grid = None if layout is None else layout.grid
    return {
        "scan": stack.name,
        "study": stack.study,
        **_ids(first, ids),
        "modality": first.modality,
        "series_number": first.number,
        "slices": len(stack.planes),
        "rows": first.rows,
        "columns": first.columns,
        "classes": list(classes_of(stack)),
        "tilt_degrees": None if layout is None else round(layout.tilt_degrees, 4),
        "affine": None if grid is None else grid.affine.tolist(),
        "predict": verdict.action,
        "why": verdict.why,
        "files": [str(path) for path in stack.paths],
    }


def _left_document(left: LeftOut, ids: bool) -> dict[str, Any]:
    first = left.planes[0]
    pictures = {"modality": first.modality, "pictures": len(left.planes), "why": left.why}
    return {"series": left.name, "study": left.study, **_ids(first, ids), **pictures}


def _ids(plane: Plane, ids: bool) -> dict[str, str]:
    if not ids:
        return {}
    return {"patient": plane.patient, "description": plane.description, "study_uid": plane.study, "series_uid": plane.series}
