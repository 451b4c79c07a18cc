"""What the model file says of its making: metrics, settings, provenance."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from segpipe.plan.plan import Plan
from segpipe.training.run_folder import RunFolder


def model_document(root: Path, plan: Plan) -> dict[str, Any]:
    """Metrics and provenance of the run in `root`, as plain values; what is missing is None.

    No path and no name of a case goes into it: a model file leaves the house, the names of patients do not.
    """
    run = RunFolder(root)
    validation = _json(run.validation) or {}
    schedule = _json(run.schedule) or {}
    return {
        "task": plan.task,
        "metrics": {key: validation.get(key) for key in ("cases", "dice", "mean_dice", "checkpoint")},
        "training": {key: schedule.get(key) for key in ("steps", "seconds", "schedule")},
        "provenance": {
            "config_sha256": _hash(run.config),
            "splits_sha256": _hash(run.splits),
            "fingerprint_sha256": _hash(run.fingerprint),
            "environment": {key: value for key, value in (_json(run.environment) or {}).items() if key != "command"},
        },
    }


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def _hash(path: Path) -> str | None:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else None
