"""A file of a run counts only where the model file names it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from segpipe.bundle.facts import envelope_of, provenance_of, training_of
from segpipe.training.document import hash_of
from segpipe.training.run_folder import RunFolder
from tests.bundle.conftest import PLAN

FINGERPRINT = {"picture": False, "shapes": [[10, 20, 30], [20, 20, 40]], "spacings_mm": [[1.0, 1.0, 2.0], [1.0, 2.0, 2.0]]}


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    found = RunFolder(tmp_path)
    found.config.write_text("seed: 1\ndataset: {root: /home/mueller, validation_cases: [mueller]}\nlaunch: {}\n")
    found.splits.write_text(json.dumps({"version": 1, "train": ["a", "b"], "validation": ["mueller"], "note": ""}))
    (tmp_path / "fold_0").mkdir()
    (tmp_path / "fold_0" / "fingerprint.json").write_text(json.dumps(FINGERPRINT))
    return found


@pytest.fixture
def document(run: RunFolder) -> dict[str, Any]:
    named = {"config_sha256": run.config, "splits_sha256": run.splits, "fingerprint_sha256": run.root / "fold_0/fingerprint.json"}
    return {"provenance": {key: hash_of(path) for key, path in named.items()}, "training": {"steps": 5, "seconds": None}}


def test_what_the_model_file_names_is_told_without_names_of_cases(run: RunFolder, document: dict[str, Any]) -> None:
    told = provenance_of(document, run)
    assert yaml.safe_load(told["config"])["dataset"] == {"root": "(left out)", "validation_cases": "(left out)"}
    assert told["training"] == {"steps": 5, "partition": {"train": 2, "validation": 1, "held_out": True}}
    assert envelope_of(PLAN, document, run, "MR", "x")["field_of_view_mm"] == {"lowest": [10, 20, 60], "highest": [20, 40, 80]}
    assert "mueller" not in json.dumps(told)


def test_files_of_another_training_are_not_told(run: RunFolder, document: dict[str, Any]) -> None:
    """The run went on with other settings, or the model file was copied from elsewhere."""
    for path in (run.config, run.splits, run.root / "fold_0/fingerprint.json"):
        path.write_text(path.read_text() + "\n")
    assert provenance_of(document, run)["config"] is None
    assert "partition" not in training_of(document, run)
    assert envelope_of(PLAN, document, run, "MR", "x")["field_of_view_mm"] is None


def test_the_file_itself_tells_how_the_cases_were_divided(document: dict[str, Any]) -> None:
    partition = {"train": 7, "validation": 2, "held_out": False}
    document["training"]["partition"] = partition
    assert training_of(document, None)["partition"] == partition
