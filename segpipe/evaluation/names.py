"""What label values are called, and which one is the background."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from segpipe.errors import ConfigError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LabelNames:
    """Attributes:
    background: the value that is no label.
    names: by label value; a value without a name is called `label 7`.
    ignore: truth values whose voxels nobody has judged.
    """

    background: int = 0
    names: dict[int, str] = field(default_factory=dict)
    ignore: tuple[int, ...] = ()

    def name(self, value: int) -> str:
        """Name of a label value."""
        return self.names.get(value, f"label {value}")


def find_label_names(
    prediction: Path, truth: Path, given: Mapping[str, str], background: int | None = None, ignore: Sequence[int] = ()
) -> LabelNames:
    """Names from, each over the next: `given`, `labels.json` with the predictions, `dataset.json` in or above the truth's folder.

    Args:
        prediction: file or folder; `segpipe predict` leaves `labels.json` in the folder.
        truth: file or folder.
        given: names by value, as the user typed them: `{"1": "Anterior"}`.
        background: the user's choice; None: from `labels.json`, else 0.
        ignore: the user's choice; empty: the value that `dataset.json` calls `ignore`.

    Raises:
        ConfigError: when a key of `given` is no whole number.
    """
    for key in given:
        if not _is_whole(key):
            raise ConfigError(f"label name {key}={given[key]}: key is {key!r}; must be a label value, a whole number such as 1")
    truth_folder = truth if truth.is_dir() else truth.parent
    shipped = _read(prediction if prediction.is_dir() else prediction.parent, "labels.json")
    dataset = _read(truth_folder, "dataset.json") or _read(truth_folder.parent, "dataset.json")
    found_background = shipped.get("background")
    if background is None:
        background = found_background if isinstance(found_background, int) else 0
    names = _names(dataset.get("labels")) | _names(shipped.get("labels")) | {int(key): name for key, name in given.items()}
    names.pop(background, None)
    ignore = tuple(ignore) or tuple(value for value, name in names.items() if name.strip().lower() == "ignore")
    if background in ignore:
        raise ConfigError(f"the value {background} is the background and to be ignored: choose one of the two")
    return LabelNames(background, {value: name for value, name in names.items() if value not in ignore}, tuple(ignore))


def _read(folder: Path, name: str) -> dict[str, Any]:
    """A JSON object, empty when there is none; names are a comfort, so that a damaged file is told and passed over."""
    path = folder / name
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        log.warning("%s: not readable as JSON (%s); labels keep their numbers", path, error)
        return {}
    return found if isinstance(found, dict) else {}


def _names(labels: object) -> dict[int, str]:
    """Names by value, from `{"1": "Anterior"}` as well as from `{"Anterior": 1}`; regions of several values are left out."""
    result: dict[int, str] = {}
    for key, value in labels.items() if isinstance(labels, dict) else ():
        if isinstance(value, str) and _is_whole(key):
            result[int(key)] = value
        elif isinstance(value, int) and not isinstance(value, bool):
            result[value] = str(key)
    return result


def _is_whole(text: object) -> bool:
    try:
        int(str(text))
    except ValueError:
        return False
    return True
