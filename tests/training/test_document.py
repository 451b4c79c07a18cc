"""The model's document holds metrics and hashes, and no name of a case."""

import json
from collections.abc import Callable
from pathlib import Path

from segpipe.plan.plan import Plan
from segpipe.training.document import model_document


def test_metrics_and_provenance_are_taken_from_the_run(tmp_path: Path, make_plan: Callable[[int], Plan]) -> None:
    validation = {"step": 8, "cases": 1, "dice": {"organ": 0.9}, "mean_dice": 0.9, "checkpoint": "last", "each": [{"case": "jane_doe"}]}
    (tmp_path / "validation.json").write_text(json.dumps(validation))
    (tmp_path / "environment.json").write_text(json.dumps({"segpipe": "1", "command": ["segpipe", "/home/jane_doe"]}))
    (tmp_path / "config.yaml").write_text("seed: 1\n")
    document = model_document(tmp_path, make_plan(3), 8)
    assert document["metrics"]["mean_dice"] == 0.9
    assert len(document["provenance"]["config_sha256"]) == 64
    assert "jane_doe" not in json.dumps(document)


def test_what_is_missing_is_none(tmp_path: Path, make_plan: Callable[[int], Plan]) -> None:
    document = model_document(tmp_path, make_plan(3), 8)
    assert document["metrics"]["mean_dice"] is None
    assert document["provenance"]["splits_sha256"] is None


def test_the_ranges_of_the_training_scans_are_told(tmp_path: Path, make_plan: Callable[[int], Plan]) -> None:
    channel = {"name": "CT", "mean": 1.0, "low": [-1000.0, -900.0], "high": [900.0, 1300.0]}
    measured = {"cases": 2, "picture": False, "spacings_mm": [[1, 1, 3], [2, 1, 5]], "channels": [channel]}
    measured |= {"shapes": [[10, 20, 30], [8, 21, 15]]}
    (tmp_path / "fingerprint.json").write_text(json.dumps(measured))
    told = model_document(tmp_path, make_plan(3), 8)["training_data"]
    assert told["spacing_mm"] == {"lowest": [1, 1, 3], "highest": [2, 1, 5]}
    assert told["field_of_view_mm"] == {"lowest": [10, 20, 75], "highest": [16, 21, 90]}
    assert told["channels"] == [{"name": "CT", "low": [-1000.0, -900.0], "high": [900.0, 1300.0]}]
    (tmp_path / "fingerprint.json").write_text(json.dumps({**measured, "modalities": ["CT"]}))
    assert model_document(tmp_path, make_plan(3), 8)["training_data"]["channels"][0]["modality"] == "CT"
    (tmp_path / "fingerprint.json").write_text(json.dumps({**measured, "picture": True}))
    told = model_document(tmp_path, make_plan(3), 8)["training_data"]
    assert (told["spacing_mm"], told["field_of_view_mm"]) == (None, None)
    del channel["low"]
    (tmp_path / "fingerprint.json").write_text(json.dumps(measured))  # of an earlier version
    assert model_document(tmp_path, make_plan(3), 8)["training_data"] is None


def test_figures_of_another_step_than_the_weights_are_left_out(tmp_path: Path, make_plan: Callable[[int], Plan]) -> None:
    (tmp_path / "validation.json").write_text(json.dumps({"step": 8, "cases": 1, "mean_dice": 0.9}))
    (tmp_path / "schedule.json").write_text(json.dumps({"steps": 8, "seconds": 3.0, "schedule": "cosine"}))
    same, later = (model_document(tmp_path, make_plan(3), step) for step in (8, 10))
    assert (same["metrics"]["mean_dice"], same["training"]["seconds"]) == (0.9, 3.0)
    assert (later["metrics"]["mean_dice"], later["training"]) == (None, {"steps": 10, "seconds": None, "schedule": None, "partition": None})
    (tmp_path / "validation.json").write_text(json.dumps({"cases": 1, "mean_dice": 0.9}))  # of an earlier version
    assert model_document(tmp_path, make_plan(3), 8)["metrics"]["mean_dice"] == 0.9


def test_volumes_of_the_labels_are_told_but_not_of_pictures(tmp_path: Path, make_plan: Callable[[int], Plan]) -> None:
    channel = {"name": "CT", "low": [0.0, 1.0], "high": [2.0, 3.0]}
    measured = {"cases": 2, "picture": False, "spacings_mm": [[1, 1, 3]], "channels": [channel], "label_ml": {"1": [0.5, 2.0]}}
    for picture, expected in ((False, {"1": [0.5, 2.0]}), (True, None)):
        (tmp_path / "fingerprint.json").write_text(json.dumps(measured | {"picture": picture}))
        assert model_document(tmp_path, make_plan(3), 8)["training_data"]["label_ml"] == expected


def test_how_the_cases_were_divided_is_told_in_numbers(tmp_path: Path, make_plan: Callable[[int], Plan]) -> None:
    split = {"version": 1, "train": ["a", "b", "jane_doe"], "validation": ["c"], "note": ""}
    (tmp_path / "splits.json").write_text(json.dumps(split))
    document = model_document(tmp_path, make_plan(3), 8)
    assert document["training"]["partition"] == {"train": 3, "validation": 1, "held_out": True}
    assert "jane_doe" not in json.dumps(document)
    (tmp_path / "splits.json").write_text(json.dumps(split | {"validation": ["a", "c"]}))
    assert model_document(tmp_path, make_plan(3), 8)["training"]["partition"]["held_out"] is False
