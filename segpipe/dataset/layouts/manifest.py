"""A list of the cases: a CSV or JSON file with `case, image[, image_2 ...], label, group, fold`; paths count from its folder."""

from __future__ import annotations

import csv
import difflib
import io
import re
from pathlib import Path
from typing import Any

from segpipe.dataset.case import DEFAULT_CHANNEL, DataSet
from segpipe.dataset.finding import Finding
from segpipe.dataset.layouts.claim import Claim, settle
from segpipe.dataset.layouts.description import read_description, read_json
from segpipe.errors import DataError
from segpipe.io.find import split_name
from segpipe.settings import DatasetSettings

NAMES = ("manifest.csv", "manifest.json")
_KNOWN = ("case", "label", "group", "fold")
_IMAGE = re.compile(r"image(?:[_ ]?(?P<name>.+))?", re.IGNORECASE)
_MEANT = {
    "group": ("patient", "subject", "participant", "person"),
    "fold": ("split", "set", "subset", "partition", "cv"),
}
"""What others call a column; overlooked, patients would part in a split or a fixed split would be drawn anew."""
_LIKENESS = 0.85
"""Share of letters (difflib's ratio) from which a column is a known one with a slip: `groups`, `foldd`, but not `folder`."""


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
    all_columns = tuple(dict.fromkeys(column for _, row in rows for column in row))
    columns = _image_columns(path, all_columns)
    channels = names or tuple(_channel_name(column, number, len(columns)) for number, column in enumerate(columns))
    claims = [_claim(path, row, columns, number) for number, row in rows]
    cases, findings = settle(claims, channels)
    there = {*all_columns, *(["group"] if settings.group else [])}
    unknown = [_unknown(path, column, there) for column in all_columns if column not in ("", *_KNOWN, *columns)]
    return DataSet(root, "manifest", cases, channels, label_names, (*unknown, *findings))


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


def _image_columns(path: Path, columns: tuple[str, ...]) -> tuple[str, ...]:
    """The columns of the channels: `image`, which is number 1, and numbered ones by their number, then named ones as they stand.

    Raises:
        DataError: no image column, or no label column.
    """
    images = tuple(column for column in columns if column not in _KNOWN and _IMAGE.fullmatch(column))
    missing = [name for name, there in (("image", images), ("label", "label" in columns)) if not there]
    if missing:
        raise DataError(f"{path}: has no column {missing[0]!r} (columns: {', '.join(columns)}); must have case, image, label: add it")
    numbered = [column for column in images if _channel(column).isdecimal()]
    return (*sorted(numbered, key=lambda column: int(_channel(column))), *(column for column in images if column not in numbered))


def _channel(column: str) -> str:
    """What stands behind `image`: a name or a number, 1 where there is none."""
    hit = _IMAGE.fullmatch(column)
    return hit["name"] if hit and hit["name"] else "1"


def _channel_name(column: str, number: int, count: int) -> str:
    """`image_adc` is the channel adc; `image`, `image_2` have no names and are counted from 0."""
    name = _channel(column)
    if not name.isdecimal():
        return name
    return DEFAULT_CHANNEL if count == 1 else f"channel {number}"


def _unknown(path: Path, column: str, there: set[str]) -> Finding:
    """A column that is not read: an error where it seems to be a known one that is not there, else a warning."""
    meant = _meant(column)
    if meant and meant not in there:
        what = f"the column {column!r} is not read; it seems to be {meant!r}"
        return Finding("error", "", str(path), what, f"rename it to {meant}, or take it out")
    known = f"read are {', '.join(_KNOWN)} and image, image_2 ..."
    return Finding("warning", "", str(path), f"the column {column!r} is not read ({known})", "take it out, or rename it to one of these")


def _meant(column: str) -> str:
    """The known column that an unknown one stands for, by its name (`patient_id`) or but for a slip (`groups`); else empty."""
    word = re.sub(r"[_ -]?(id|no|nr|number|name)s?$", "", column) or column
    fits = (known for known in _KNOWN if difflib.get_close_matches(word, (known, *_MEANT.get(known, ())), 1, _LIKENESS))
    return next(fits, "")


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
