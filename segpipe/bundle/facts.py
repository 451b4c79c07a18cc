"""What a run or a model file tells of itself, in the words of a package: envelope, metrics, labels, provenance."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import yaml

from segpipe.dicom.terms import colour_of
from segpipe.evaluation.bootstrap import mean_interval
from segpipe.plan.plan import Plan
from segpipe.training.document import field_of_view
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
    fingerprint = _json(run.fingerprint) if run is not None else None
    return {
        "modality": modality,
        "body_part": body_part,
        "pictures": plan.pictures,
        "cases": told.get("cases"),
        "spacing_mm": told.get("spacing_mm"),
        "field_of_view_mm": told.get("field_of_view_mm") or field_of_view(fingerprint or {}),
        "channels": None if told.get("channels") is None else [{key: one[key] for key in _RANGES} for one in told["channels"]],
        "label_ml": told.get("label_ml"),
    }


def metrics_of(document: dict[str, Any], run: RunFolder | None, held_out: bool | None) -> dict[str, Any]:
    """Dice of each target: mean over the validated cases with a 95 % interval, from the run; from a model file alone the means.

    The cases of a run whose model file tells other means are not those of the file: they are left out.
    """
    told = document.get("metrics") or {}
    means = {name: value for name, value in (told.get("dice") or {}).items() if value is not None}
    each = (_json(run.validation) or {}).get("each", []) if run is not None else []
    dice = {}
    for name, mean in means.items():
        values = [case["dice"][name] for case in each if case.get("dice", {}).get(name) is not None]
        same = bool(values) and math.isclose(sum(values) / len(values), mean, abs_tol=1e-4)
        interval = mean_interval(values) if same else None
        low, high = interval or (None, None)
        dice[name] = {"mean": mean, "low": low, "high": high, "cases": len(values) if same else told.get("cases")}
    return {
        "measure": "Dice, mean over the validated cases",
        "interval": "95 %, bias-corrected bootstrap over cases",
        "held_out": held_out,
        "cases": told.get("cases"),
        "dice": dice,
    }


def provenance_of(document: dict[str, Any], run: RunFolder | None) -> dict[str, Any]:
    """Resolved settings without any place on a disk, hashes, steps and versions."""
    told = document.get("provenance") or {}
    return {
        "config": _config(run.config) if run is not None and run.config.exists() else None,
        **{key: told.get(key) for key in ("config_sha256", "splits_sha256", "fingerprint_sha256")},
        "training": document.get("training"),
        "environment": told.get("environment"),
    }


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


def _json(path: Path) -> dict[str, Any] | None:
    found: dict[str, Any] | None = json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
    return found
