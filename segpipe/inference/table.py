"""`predictions.csv`: what became of each scan, as a spreadsheet reads it; the ledger beside it is what counts."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TextIO

from segpipe.errors import ConfigError

TABLE = "predictions.csv"
"""Written into every output folder; a folder that holds one is not searched for scans."""
LEDGER = "predictions.sqlite"
"""Beside it, what counts: see `ledger`."""
PROBABILITIES = "_probabilities.nii.gz"
"""Follows the case in the name of its probability map."""

Status = Literal["started", "done", "skipped", "failed"]

_STATUS: dict[str, Status] = {"started": "started", "done": "done", "skipped": "skipped", "failed": "failed"}
PHASES = ("read", "prepare", "network", "restore", "write")
_FIRST = ("case", "input", "output", "status", "reason")
_LAST = ("warning", "model_sha256", "options", "input_hash", "output_hash")
_SECONDS = "seconds_"
_VOLUME = "volume_ml_"
_PIXELS = "pixels_"


@dataclass(frozen=True)
class Row:
    """One scan.

    Attributes:
        input: absolute path of its file, several joined by `;`; of a series that was fetched or sent, which one it was.
        output: label map, relative to the output folder; empty when failed.
        status: started: its files are being written, or the call was stopped meanwhile; done now; skipped: done by an earlier call, its
            figures kept; failed: see `reason`.
        reason: why it failed or was skipped.
        seconds: by phase.
        volumes_ml: by label name; empty for pictures.
        pixels: by label name, of pictures, which have no millilitres.
        warning: how the scan is unlike those that the model was trained on; empty when it is like them or nothing is known of them.
        model_sha256: of the model file(s).
        options: what else the label map depends on.
        input_hash: of the content of each input file, joined by `;`; tells whether it is still the same scan.
        output_hash: likewise of each file as it was written (see `outputs.output_files`), `*` while it is being written.
    """

    case: str
    input: str
    output: str
    status: Status
    reason: str = ""
    seconds: dict[str, float] = field(default_factory=dict)
    volumes_ml: dict[str, float] = field(default_factory=dict)
    pixels: dict[str, float] = field(default_factory=dict)
    warning: str = ""
    model_sha256: str = ""
    options: str = ""
    input_hash: str = ""
    output_hash: str = ""


def to_csv(rows: Sequence[Row]) -> str:
    """The table of `rows` in their order, as text."""
    text = io.StringIO()
    write_csv(text, rows, rows)
    return text.getvalue()


def write_csv(file: TextIO, rows: Iterable[Row], again: Iterable[Row]) -> None:
    """Write a table with a column for each label that any row has.

    Args:
        rows: in the table's order.
        again: the same, for a first look at their labels; both are gone through once, so that a large table needs no memory.
    """
    names = dict.fromkeys(name for row in again for name in _sizes(row))
    writer = csv.DictWriter(file, [*_FIRST, *(_SECONDS + phase for phase in PHASES), *names, *_LAST], restval="", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        plain = {key: getattr(row, key) for key in (*_FIRST, *_LAST)}
        seconds = {_SECONDS + phase: f"{value:.3f}" for phase, value in row.seconds.items()}
        writer.writerow(plain | seconds | _sizes(row))


def _sizes(row: Row) -> dict[str, str]:
    """Column and text of each label's size."""
    volumes = {_VOLUME + name: f"{ml:.6g}" for name, ml in row.volumes_ml.items()}
    return volumes | {_PIXELS + name: f"{count:.0f}" for name, count in row.pixels.items()}


def read_table(path: Path) -> list[Row]:
    """Every row of a table that this program wrote; none where there is no file.

    Raises:
        ConfigError: the file is there but no `predictions.csv` of this program.
    """
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
    seconds, volumes, pixels = (
        {key.removeprefix(start): float(value) for key, value in values.items() if key.startswith(start) and value}
        for start in (_SECONDS, _VOLUME, _PIXELS)
    )
    values = {"warning": "", "input_hash": "", "output_hash": "", **values}  # tables of earlier versions have no such columns
    texts = {key: values[key] for key in (*_FIRST, *_LAST) if key != "status"}
    return Row(status=status, seconds=seconds, volumes_ml=volumes, pixels=pixels, **texts)


def check_table(path: Path) -> None:
    """Refuse to write over somebody else's table; reads its first line alone.

    Raises:
        ConfigError: the file is there, and its columns are not ours.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            columns = next(csv.reader(file), [])
    except FileNotFoundError:
        return
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{path} is no table of earlier predictions ({error}): delete it, or choose another output folder") from error
    missing = [name for name in _FIRST if name not in columns]
    if missing:
        raise ConfigError(
            f"{path} is no table of earlier predictions (it has no column {missing[0]!r}): delete it, or choose another output folder"
        )
