"""`dataset.json`: what the Medical Segmentation Decathlon and nnU-Net write about a data set."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segpipe.dataset.finding import Finding
from segpipe.errors import DataError

FILE = "dataset.json"
NAMES = "labels.json"
"""Beside two folders: what label values are called. `segpipe serve --corrections` writes it, and people may."""


@dataclass(frozen=True)
class Description:
    """Attributes:
    path: the file.
    values: all it holds.
    channels: channel names in order (`modality`, or `channel_names`); empty when not given.
    label_names: value to name; empty when not given.
    findings: labels that cannot be trained as they are declared.
    """

    path: Path
    values: dict[str, Any]
    channels: tuple[str, ...]
    label_names: dict[int, str]
    findings: tuple[Finding, ...]


def read_description(path: Path) -> Description:
    """Read a `dataset.json`.

    Raises:
        DataError: no JSON object, or channels or labels that cannot be understood.
    """
    values = read_json(path)
    if not isinstance(values, dict):
        raise DataError(f"{path}: holds a {type(values).__name__}; must be a JSON object with 'labels': write it again")
    channels = _channels(path, values.get("channel_names", values.get("modality", {})))
    names, findings = _labels(path, values.get("labels", {}))
    return Description(path, values, channels, names, findings)


def read_names(folder: Path) -> tuple[dict[int, str], tuple[Finding, ...]]:
    """Names of label values from a data set's `labels.json`: `{"1": "PZ"}`, or that under `labels`, as `segpipe predict` writes it.

    A file of this name that holds something else is somebody else's: it is told, and the labels keep their numbers.

    Returns:
        Value to name, empty when there is no such file; and what cannot be used of it.
    """
    path = folder / NAMES
    if not path.is_file():
        return {}, ()
    try:
        values = read_json(path)
        return _labels(path, values.get("labels", values) if isinstance(values, dict) else values)
    except DataError as error:
        what = f"is not used ({str(error).removeprefix(f'{path}: ')}); labels keep their numbers"
        cure = 'make it {"0": "background", "1": "name"}, or take it away and set dataset.label_names'
        return {}, (Finding("warning", "", str(path), what, cure),)


def read_json(path: Path) -> Any:
    """Any JSON file, with or without a byte-order mark.

    Raises:
        DataError: unreadable or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error}); must be a JSON file: check the file and its permissions") from error
    except (json.JSONDecodeError, RecursionError) as error:
        raise DataError(f"{path}: is not valid JSON ({error}): correct it") from error


def _channels(path: Path, declared: Any) -> tuple[str, ...]:
    if isinstance(declared, list):
        return tuple(str(name) for name in declared)
    if isinstance(declared, str):
        return (declared,)
    if not isinstance(declared, dict) or not all(_whole(key) for key in declared):
        raise DataError(f'{path}: the channels are {declared!r}; must be {{"0": "T2", "1": "ADC"}}: correct them')
    return tuple(str(declared[key]) for key in sorted(declared, key=int))


def _labels(path: Path, declared: Any) -> tuple[dict[int, str], tuple[Finding, ...]]:
    """Names of label values, from `{"1": "Anterior"}` as from `{"Anterior": 1}`; regions are named value by value."""
    if isinstance(declared, list):
        declared = dict(enumerate(declared))
    if not isinstance(declared, dict):
        raise DataError(f'{path}: the labels are {declared!r}; must be {{"0": "background", "1": "name"}}: correct them')
    names: dict[int, str] = {}
    findings: list[Finding] = []
    regions: set[int] = set()
    for key, item in declared.items():
        value, name = (item, str(key)) if not isinstance(item, str) else (key, item)
        if isinstance(value, list) and len(value) == 1:
            value = value[0]
        if isinstance(value, list) and all(_whole(part) for part in value):
            regions |= {int(part) for part in value}
            findings.append(_region(path, name, value))
        elif _whole(value):
            names[int(value)] = name
        else:
            raise DataError(f'{path}: the label {key!r} is {item!r}; must be a whole number, {{"1": "name"}} or {{"name": 1}}: correct it')
    return {**{value: f"label {value}" for value in regions if value not in names}, **names}, tuple(findings)


def _whole(value: Any) -> bool:
    try:
        return not isinstance(value, bool) and float(value) == int(float(value))
    except (TypeError, ValueError, OverflowError):
        return False


def _region(path: Path, name: str, values: list[Any]) -> Finding:
    shown = ", ".join(str(value) for value in values)
    cure = "name single values in dataset.label_names; a region is the sum of its classes"
    what = f"the region {name!r} joins the values {shown}; each value is trained as a class of its own"
    return Finding("warning", "", str(path), what, cure)
