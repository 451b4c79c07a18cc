"""`predictions.csv`: what became of each scan; written whole after every one, so that a killed run loses nothing."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from segpipe.errors import ConfigError, DataError
from segpipe.io.atomic import write_text

Status = Literal["done", "skipped", "failed"]

_STATUS: dict[str, Status] = {"done": "done", "skipped": "skipped", "failed": "failed"}
PHASES = ("read", "prepare", "network", "restore", "write")
_FIRST = ("case", "input", "output", "status", "reason")
_LAST = ("warning", "model_sha256", "options", "input_stamp")
_SECONDS = "seconds_"
_VOLUME = "volume_ml_"


@dataclass(frozen=True)
class Row:
    """One scan.

    Attributes:
        input: absolute path of its file, several joined by `;`.
        output: label map, relative to the output folder; empty when failed.
        status: done now; skipped: done by an earlier call, its figures kept; failed: see `reason`.
        seconds: by phase.
        volumes_ml: by label name.
        warning: how the scan is unlike those that the model was trained on; empty when it is like them or nothing is known of them.
        model_sha256: of the model file(s).
        options: what else the label map depends on.
        input_stamp: `bytes:modification time` of each input file, joined by `;`; tells whether it changed since.
    """

    case: str
    input: str
    output: str
    status: Status
    reason: str = ""
    seconds: dict[str, float] = field(default_factory=dict)
    volumes_ml: dict[str, float] = field(default_factory=dict)
    warning: str = ""
    model_sha256: str = ""
    options: str = ""
    input_stamp: str = ""


def stamp(images: Iterable[Path]) -> str:
    """Size and modification time of each file, which change when its content does.

    Raises:
        DataError: a file is gone.
    """
    parts = []
    for path in images:
        try:
            found = path.stat()
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error.strerror}") from error
        parts.append(f"{found.st_size}:{found.st_mtime_ns}")
    return ";".join(parts)


class Ledger:
    """The rows of one output folder, by case; rows of earlier calls stay until their case is done again.

    Raises:
        ConfigError: the file is there but no `predictions.csv` of this program.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._rows = {row.case: row for row in _read(path)}

    def get(self, case: str) -> Row | None:
        return self._rows.get(case)

    def put(self, row: Row) -> None:
        """Set the row of its case and write the file.

        Raises:
            ConfigError: it cannot be written.
        """
        self._rows[row.case] = row
        write_text(self._path, _to_csv(sorted(self._rows.values(), key=lambda one: one.case)))


def _to_csv(rows: list[Row]) -> str:
    names = list(dict.fromkeys(name for row in rows for name in row.volumes_ml))
    columns = [*_FIRST, *(_SECONDS + phase for phase in PHASES), *(_VOLUME + name for name in names), *_LAST]
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        plain = {key: getattr(row, key) for key in (*_FIRST, *_LAST)}
        seconds = {_SECONDS + phase: f"{value:.3f}" for phase, value in row.seconds.items()}
        volumes = {_VOLUME + name: f"{value:.6g}" for name, value in row.volumes_ml.items()}
        writer.writerow(plain | seconds | volumes)
    return text.getvalue()


def _read(path: Path) -> list[Row]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            return [_row(values) for values in reader]
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError, csv.Error, KeyError, ValueError, TypeError) as error:
        raise ConfigError(f"{path} is no table of earlier predictions ({error}): delete it, or choose another output folder") from error


def _row(values: dict[str, str]) -> Row:
    status = _STATUS[values["status"]]
    seconds = {key.removeprefix(_SECONDS): float(value) for key, value in values.items() if key.startswith(_SECONDS) and value}
    volumes = {key.removeprefix(_VOLUME): float(value) for key, value in values.items() if key.startswith(_VOLUME) and value}
    values = {"warning": "", **values}  # tables of earlier versions have no such column
    texts = {key: values[key] for key in (*_FIRST, *_LAST) if key != "status"}
    return Row(status=status, seconds=seconds, volumes_ml=volumes, **texts)
