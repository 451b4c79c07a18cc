"""What the model file says of its making: metrics, settings, provenance."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from segpipe.dataset.split import load_split
from segpipe.package import agreement
from segpipe.plan.plan import Plan
from segpipe.training.run_folder import RunFolder

OUT_OF_FOLD = "last, out of fold"
"""What the metrics of several trainings call their checkpoint: each case is scored by those that held it out."""
PARTITION = "partition"
"""Key of the training: how many cases were trained on, how many were to validate, and whether none of these was trained on."""


def model_document(root: Path, plan: Plan, step: int) -> dict[str, Any]:
    """Metrics and provenance of the run in `root`, as plain values; what is missing is None.

    Args:
        step: at which the exported weights were; metrics and schedule of another step are not theirs, and left out.

    No path and no name of a case goes into it: a model file leaves the house, the names of patients do not.
    """
    run = RunFolder(root)
    validation = json_of(run.validation) or {}
    schedule = json_of(run.schedule) or {}
    if validation.get("step", schedule.get("steps")) != step:
        validation = {}
    if schedule.get("steps") != step:
        schedule = {"steps": step}
    return {
        "task": plan.task,
        "metrics": {key: validation.get(key) for key in ("cases", "dice", "mean_dice", "checkpoint")},
        agreement.KEY: validation.get(agreement.KEY),
        "training_data": _training_data(json_of(run.fingerprint)),
        "training": {key: schedule.get(key) for key in ("steps", "seconds", "schedule")} | {PARTITION: partition_of([run.splits])},
        "provenance": {
            "config_sha256": hash_of(run.config),
            "splits_sha256": hash_of(run.splits),
            "fingerprint_sha256": hash_of(run.fingerprint),
            "environment": {key: value for key, value in (json_of(run.environment) or {}).items() if key != "command"},
        },
    }


def partition_of(paths: Sequence[Path]) -> dict[str, Any] | None:
    """How many cases the trainings of one model were trained on and validated, by the `splits.json` of each.

    Over folds a case that one of them holds out counts as held out, because the networks that did not see it score it.
    """
    if not paths or not all(path.exists() for path in paths):
        return None
    splits = [load_split(path) for path in paths]
    train, validation = ({name for split in splits for name in getattr(split, side)} for side in ("train", "validation"))
    return {"train": len(train), "validation": len(validation), "held_out": all(split.held_out for split in splits)}


def _training_data(fingerprint: dict[str, Any] | None) -> dict[str, Any] | None:
    """Ranges of the data set, by which a prediction knows a scan that is unlike it (`inference.unlike`).

    `spacing_mm` and `field_of_view_mm` hold the lowest and the highest along x, y, z (None for pictures); `low` and `high` of a channel
    the range, over the cases, of the 0.5 and of the 99.5 percentile of the whole scan; `label_ml` the smallest and largest volume of
    each label value; `modality` of a channel is that of its DICOM series.
    A run of an earlier version has no such percentiles: None then.
    """
    if fingerprint is None or not all("low" in channel for channel in fingerprint["channels"]):
        return None
    along = list(zip(*fingerprint["spacings_mm"], strict=True))
    modalities = fingerprint.get("modalities") or [""] * len(fingerprint["channels"])
    return {
        "cases": fingerprint["cases"],
        "spacing_mm": None if fingerprint["picture"] else {"lowest": [min(mm) for mm in along], "highest": [max(mm) for mm in along]},
        "field_of_view_mm": field_of_view(fingerprint),
        "channels": [_channel(*pair) for pair in zip(fingerprint["channels"], modalities, strict=True)],
        "label_ml": None if fingerprint["picture"] else fingerprint.get("label_ml"),
    }


def field_of_view(fingerprint: dict[str, Any]) -> dict[str, list[float]] | None:
    """Smallest and largest extent of the scans along x, y, z, in mm; None for pictures, and where an older fingerprint has no sizes."""
    if fingerprint.get("picture") or not fingerprint.get("shapes"):
        return None
    pairs = zip(fingerprint["shapes"], fingerprint["spacings_mm"], strict=True)
    along = list(zip(*([size * mm for size, mm in zip(shape, spacing, strict=True)] for shape, spacing in pairs), strict=True))
    return {"lowest": [round(min(mm), 3) for mm in along], "highest": [round(max(mm), 3) for mm in along]}


def _channel(measured: dict[str, Any], modality: str) -> dict[str, Any]:
    told = {key: measured[key] for key in ("name", "low", "high")}
    return told | {"modality": modality} if modality else told


def json_of(path: Path) -> Any:
    """What a file of a run holds; None where it is not there."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def hash_of(path: Path) -> str | None:
    """SHA-256 of a file of a run, 64 hexadecimal digits; None where it is not there."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else None
