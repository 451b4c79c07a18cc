"""What a run or a model file tells of itself, in the words of a package: envelope, labels, provenance; `scores` has the metrics.

A file of a run counts only where the model file names it by its SHA-256.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from segpipe.dicom.terms import colour_of
from segpipe.plan.plan import Plan
from segpipe.training.document import PARTITION, field_of_view, hash_of, json_of, partition_of
from segpipe.training.run_folder import RunFolder

_LEFT_OUT = "(left out)"
_RANGES = ("name", "low", "high")
"""Of a channel; its modality is the card's to tell."""
_PLACES = ("run_dir", "out", "launch")
"""Settings that tell of a machine, never of the model."""


def labels_of(plan: Plan) -> list[dict[str, Any]]:
    """Each label with its value, name, colour and codes; the background is black."""
    found = [
        {"value": plan.labels[0].value, "name": plan.labels[0].name, "colour": [0, 0, 0], "category": None, "type": None, "modifier": None}
    ]
    for number, label in enumerate(plan.segment_labels):
        term = label.term
        codes = {key: _code(getattr(term, key)) if term else None for key in ("category", "type", "modifier")}
        found.append({"value": label.value, "name": label.name, "colour": list(colour_of(number, label)), **codes})
    return found


def _code(code: Any) -> dict[str, str] | None:
    return None if code is None else {"value": code.value, "scheme": code.scheme, "meaning": code.meaning}


def envelope_of(plan: Plan, document: dict[str, Any], run: RunFolder | None, modality: str, body_part: str) -> dict[str, Any]:
    """What scans the model was trained on; None for what neither the model file nor its run tells.

    Args:
        document: of the model file.
        run: None: only the model file is known.
    """
    told = document.get("training_data") or {}
    places = [] if run is None else [run.fingerprint, *sorted(run.root.glob(f"*/{run.fingerprint.name}"))]  # of folds, each has one
    fingerprint = _named(places, document, "fingerprint_sha256")
    return {
        "modality": modality,
        "body_part": body_part,
        "pictures": plan.pictures,
        "cases": told.get("cases"),
        "spacing_mm": told.get("spacing_mm"),
        "field_of_view_mm": told.get("field_of_view_mm") or field_of_view({} if fingerprint is None else json_of(fingerprint)),
        "channels": None if told.get("channels") is None else [{key: one[key] for key in _RANGES} for one in told["channels"]],
        "label_ml": told.get("label_ml"),
    }


def provenance_of(document: dict[str, Any], run: RunFolder | None) -> dict[str, Any]:
    """Resolved settings without any place on a disk, hashes, steps and versions."""
    told = document.get("provenance") or {}
    config = _named([] if run is None else [run.config], document, "config_sha256")
    return {
        "config": None if config is None else _config(config),
        **{key: told.get(key) for key in ("config_sha256", "splits_sha256", "fingerprint_sha256")},
        "training": training_of(document, run) or None,
        "environment": told.get("environment"),
    }


def training_of(document: dict[str, Any], run: RunFolder | None) -> dict[str, Any]:
    """Steps, seconds and division of the cases; what nobody told is left out."""
    told = {key: value for key, value in (document.get("training") or {}).items() if value is not None}
    splits = _named([] if run is None else [run.splits], document, "splits_sha256")
    found = told.get(PARTITION) or partition_of([] if splits is None else [splits])  # files of earlier versions do not tell
    return told | ({} if found is None else {PARTITION: found})


def _named(paths: Iterable[Path], document: dict[str, Any], key: str) -> Path | None:
    """The file of a run that a model file names by its hash: another lies there where a run went on, or the model is of another run."""
    digest = (document.get("provenance") or {}).get(key)
    return next((path for path in paths if digest is not None and hash_of(path) == digest), None)


def _config(path: Path) -> str:
    """The settings of a run as YAML; whatever names a place or a case is left out, because neither may leave the house."""
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    for key in _PLACES:
        values.pop(key, None)
    dataset = values.get("dataset", {})
    for key in ("root", "validation_cases", "dicom", "group", "pattern"):
        if dataset.get(key):
            dataset[key] = _LEFT_OUT
    for key in ("init", "schedule_file", "mlflow"):
        if values.get("training", {}).get(key):
            values["training"][key] = _LEFT_OUT
    text: str = yaml.safe_dump(_without_paths(values), sort_keys=False)
    return text


def _without_paths(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_paths(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_paths(item) for item in value]
    return _LEFT_OUT if isinstance(value, str) and (value.startswith(("/", "~")) or "/" in value or "\\" in value) else value
