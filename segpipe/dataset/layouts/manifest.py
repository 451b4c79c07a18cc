"""A list of the cases: a CSV or JSON file with `case, image[, image_2 ...], label, group, fold`; paths count from its folder."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from typing import Any

from segpipe.dataset.case import DEFAULT_CHANNEL, DataSet
from segpipe.dataset.layouts.claim import Claim, settle
from segpipe.dataset.layouts.description import read_description, read_json
from segpipe.errors import DataError
from segpipe.io.find import split_name
from segpipe.settings import DatasetSettings

NAMES = ("manifest.csv", "manifest.json")
_KNOWN = ("case", "label", "group", "fold")
_IMAGE = re.compile(r"image(?:[_ ]?(?P<name>.+))?", re.IGNORECASE)


def found(root: Path) -> bool:
    """`root` is a CSV or JSON file, or a folder with `manifest.csv` or `manifest.json`."""
    return root.suffix.lower() in (".csv", ".json") if root.is_file() else any((root / name).is_file() for name in NAMES)


def load(root: Path, settings: DatasetSettings) -> DataSet:
    """The listed cases; a case with an empty `label` is unlabelled on purpose and no fault.

    Raises:
        DataError: no such file, no rows, no image column, or a fold that is no number.
    """
    path = _file(root)
    rows, label_names, names = _read_json(path) if path.suffix.lower() == ".json" else (_read_csv(path), {}, ())
    if not rows:
        raise DataError(f"{path}: lists no case; must have one row a case with case, image, label")
    columns = _image_columns(path, rows)
    channels = names or tuple(_channel_name(column, len(columns)) for column in columns)
    claims = [_claim(path, row, columns, number) for number, row in rows]
    cases, findings = settle(claims, channels)
    return DataSet(root, "manifest", cases, channels, label_names, findings)


def _file(root: Path) -> Path:
    if root.is_file():
        return root
    for name in NAMES:
        if (root / name).is_file():
            return root / name
    raise DataError(f"{root}: holds neither {' nor '.join(NAMES)}; layout manifest needs one: add it, or set dataset.root to the file")


Row = tuple[str, dict[str, Any]]
"""Where the row stands (`manifest.csv line 3`) and its values by column in lower case."""


def _read_csv(path: Path) -> list[Row]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error}); must be a CSV file in UTF-8: save it again") from error
    first = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=first.count)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, restkey="")
    rows = []
    try:
        for values in reader:
            if values.get(""):
                cure = f"quote paths with a {delimiter!r}"
                raise DataError(f"{path} line {reader.line_num}: has more values than the header has columns: {cure}")
            row = {_column(key): (value or "").strip() for key, value in values.items() if isinstance(value, str | None)}
            if any(row.values()):
                rows.append((f"{path.name} line {reader.line_num}", row))
    except csv.Error as error:
        raise DataError(f"{path} line {reader.line_num}: is not valid CSV ({error}): correct it") from error
    return rows


def _read_json(path: Path) -> tuple[list[Row], dict[int, str], tuple[str, ...]]:
    """A list of objects, or an object with that list as `cases` and, if wanted, `labels` and `channel_names`."""
    values = read_json(path)
    names: dict[int, str] = {}
    channels: tuple[str, ...] = ()
    if isinstance(values, dict):
        description = read_description(path)
        names, channels = description.label_names, description.channels
        values = values.get("cases")
    if not isinstance(values, list) or not all(isinstance(item, dict) for item in values):
        raise DataError(f'{path}: must be [{{"case": ..., "image": ..., "label": ...}}, ...], or have such a list as "cases": correct it')
    return [(f"{path.name} entry {number}", _spread(item)) for number, item in enumerate(values, 1)], names, channels


def _column(key: Any) -> str:
    name = str(key).strip().lower()
    return "image" if name == "images" else name


def _spread(item: dict[str, Any]) -> dict[str, Any]:
    """Columns in lower case; a list under `image` becomes `image`, `image_2` ..."""
    row: dict[str, Any] = {}
    for key, value in item.items():
        name = _column(key)
        parts = value if isinstance(value, list) else [value]
        for number, part in enumerate(parts, 1):
            row[name if number == 1 else f"{name}_{number}"] = "" if part is None else part
    return row


def _image_columns(path: Path, rows: list[Row]) -> tuple[str, ...]:
    columns = list(dict.fromkeys(column for _, row in rows for column in row))
    images = tuple(column for column in columns if column not in _KNOWN and _IMAGE.fullmatch(column))
    missing = [name for name, there in (("image", images), ("label", "label" in columns)) if not there]
    if missing:
        raise DataError(f"{path}: has no column {missing[0]!r} (columns: {', '.join(columns)}); must have case, image, label: add it")
    return images


def _channel_name(column: str, count: int) -> str:
    """`image_adc` is the channel adc; `image`, `image_2` have no names."""
    hit = _IMAGE.fullmatch(column)
    name = hit["name"] if hit and hit["name"] else ""
    if name and not name.isdigit():
        return name
    return DEFAULT_CHANNEL if count == 1 else f"channel {max(int(name or 1) - 1, 0)}"


def _claim(path: Path, row: dict[str, Any], columns: tuple[str, ...], where: str) -> Claim:
    files = [str(row.get(column, "")) for column in columns]
    if not files[0] and not row.get("case"):
        raise DataError(f"{path}: {where} has neither case nor image: complete or remove it")
    name = str(row.get("case") or "") or split_name(Path(files[0]))[0]
    images = tuple(path.parent / (file or f"({column} is empty)") for file, column in zip(files, columns, strict=True))
    label = path.parent / str(row["label"]) if row.get("label") else None
    return Claim(name.replace("/", "_"), images, label, where, str(row.get("group", "")), _fold(path, row.get("fold", ""), where))


def _fold(path: Path, value: Any, where: str) -> int | None:
    if value in ("", None):
        return None
    try:
        fold = float(value)
    except (TypeError, ValueError):
        fold = -1.0
    if not fold.is_integer() or fold < 0:
        raise DataError(f"{path}: {where} has the fold {value!r}; must be a whole number from 0, or empty")
    return int(fold)
