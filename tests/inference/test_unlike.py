"""Scans that are unlike the training scans are said to be, others are not."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segpipe.errors import ModelError
from segpipe.geometry.grid import Grid, Volume
from segpipe.inference.folder import FolderOptions, predict_folder
from segpipe.inference.predictor import Predictor
from segpipe.inference.unlike import differences, known_of, odd_volumes, other_modalities
from segpipe.io.write import write_volume
from segpipe.package.model_file import Model
from segpipe.plan.plan import Channel, Plan

TOLD: dict[str, Any] = {
    "cases": 3,
    "spacing_mm": {"lowest": [0.5, 0.5, 3.0], "highest": [0.7, 0.7, 3.0]},
    "channels": [{"name": "CT", "low": [-1024.0, -990.0], "high": [800.0, 1400.0]}],
}
CT = Channel("CT", "ct", -200.0, 300.0, 40.0, 60.0)


def scan(spacing: tuple[float, float, float] = (0.6, 0.6, 3.0), low: float = -1000.0, high: float = 1000.0) -> Volume:
    values = np.linspace(low, high, 20 * 20 * 10, dtype=np.float32)
    return Volume(np.random.default_rng(0).permutation(values).reshape(1, 20, 20, 10), Grid((20, 20, 10), np.diag([*spacing, 1.0])))


def phrases(volume: Volume, plan: Plan, channel: Channel = CT, **changes: Any) -> list[str]:
    known = known_of({"training_data": TOLD}, 1)
    assert known is not None
    return differences(volume, dataclasses.replace(plan, channels=(channel,), **changes), known)


def test_a_scan_like_those_of_the_training_is_passed(plan: Plan) -> None:
    assert phrases(scan(), plan) == []
    assert phrases(scan((1.39, 0.26, 5.9), -1024.0, 1800.0), plan) == []  # within a factor of two; a quarter of the width over the end


def test_a_spacing_more_than_twice_away_is_told_with_its_axis_and_the_range(plan: Plan) -> None:
    assert phrases(scan((1.5, 0.6, 3.0)), plan) == ["spacing along x is 1.5 mm, in training 0.5 to 0.7 mm"]
    assert phrases(scan((0.6, 0.6, 1.0)), plan) == ["spacing along z is 1 mm, in training 3 mm"]


def test_the_axes_are_those_of_the_patient_and_not_of_the_file(plan: Plan) -> None:
    volume = scan()
    turned = np.zeros((4, 4))
    turned[2, 0], turned[0, 1], turned[1, 2], turned[3, 3] = 3.0, 0.6, 0.6, 1.0  # the file's first axis runs along z
    assert phrases(Volume(volume.array, Grid((20, 20, 10), turned)), plan) == []
    turned[2, 0], turned[0, 1] = 0.6, 3.0
    assert [phrase.split(" is")[0] for phrase in phrases(Volume(volume.array, Grid((20, 20, 10), turned)), plan)] == [
        "spacing along x",
        "spacing along z",
    ]


def test_a_network_on_slices_does_not_mind_the_distance_between_them(plan: Plan) -> None:
    assert phrases(scan((0.6, 0.6, 9.0)), plan, dims=2) == []
    assert len(phrases(scan((0.6, 0.6, 9.0)), plan, dims=2, axes=(1, 2, 0))) == 1


def test_a_field_of_view_more_than_twice_away_is_told_of_the_axes_that_the_network_sees(plan: Plan) -> None:
    view = {"lowest": [10.0, 30.0, 80.0], "highest": [12.0, 40.0, 90.0]}  # the scan has 12, 12 and 30 mm
    known = known_of({"training_data": {**TOLD, "field_of_view_mm": view}}, 1)
    assert known is not None
    there = dataclasses.replace(plan, channels=(CT,))
    y, z = "field of view along y is 12 mm, in training 30 to 40 mm", "field of view along z is 30 mm, in training 80 to 90 mm"
    assert differences(scan(), there, known) == [y, z]
    assert differences(scan(), dataclasses.replace(there, dims=2), known) == [y]
    turned = np.zeros((4, 4))
    turned[1, 0], turned[0, 1], turned[2, 2], turned[3, 3] = 1.3, 0.6, 3.0, 1.0  # the file's first axis runs along y: 26 mm
    assert differences(Volume(scan().array, Grid((20, 20, 10), turned)), there, known) == [z]
    with pytest.raises(ModelError, match="training_data cannot be understood"):
        known_of({"training_data": {**TOLD, "field_of_view_mm": {"lowest": [1.0], "highest": [2.0]}}}, 1)


def test_ct_with_an_offset_or_cut_is_told_and_padding_is_not(plan: Plan) -> None:
    assert "in training -1024 to -990" in phrases(scan(low=24.0, high=2024.0), plan)[0]
    assert "lowest" in phrases(scan(low=0.0, high=255.0), plan)[0]
    assert phrases(scan(low=-3024.0), plan) == []


def test_intensities_that_are_scaled_scan_by_scan_have_no_range(plan: Plan) -> None:
    assert phrases(scan(low=0.0, high=1e6), plan, Channel("MR", "zscore")) == []
    assert phrases(scan(low=0.0, high=1e6), plan, Channel("PET", "none")) != []


def test_files_of_earlier_versions_tell_nothing_and_damaged_ones_are_refused() -> None:
    assert known_of({}, 1) is None
    assert known_of({"training_data": {**TOLD, "spacing_mm": None}}, 1) is not None
    for damaged in ({**TOLD, "channels": []}, {**TOLD, "spacing_mm": 3}, {**TOLD, "channels": [{"low": [2, 1], "high": [0, 1]}]}, {}):
        with pytest.raises(ModelError, match="training_data cannot be understood"):
            known_of({"training_data": damaged}, 1)


def test_the_warning_reaches_the_log_and_the_table_and_the_scan_is_segmented(
    make_model: Callable[..., Model], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = make_model(channels=(Channel("CT", "none"),))
    told = {"training_data": {**TOLD, "channels": [{"name": "CT", "low": [0.0, 0.0], "high": [2.0, 2.0]}]}}
    predictor = Predictor([dataclasses.replace(model, document={**model.document, **told})])
    write_volume(tmp_path / "in/like.nii.gz", scan(low=0.0, high=2.0))
    write_volume(tmp_path / "in/thick.nii.gz", scan((0.6, 0.6, 8.0), 0.0, 2.0))
    with caplog.at_level(logging.WARNING):
        rows = {row.case: row for row in predict_folder(predictor, tmp_path / "in", tmp_path / "out", FolderOptions())}
    assert [row.status for row in rows.values()] == ["done", "done"]
    assert (rows["like"].warning, rows["thick"].warning) == ("", "spacing along z is 8 mm, in training 3 mm")
    assert "thick is unlike the training scans" in caplog.text
    assert "like is unlike" not in caplog.text.replace("thick is unlike", "")
    again = {row.case: row for row in predict_folder(predictor, tmp_path / "in", tmp_path / "out", FolderOptions())}
    assert again["thick"].warning == rows["thick"].warning
    assert again["thick"].status == "skipped"


@pytest.mark.parametrize(("low", "high"), [((-1024.0, -990.0), (250.0, 3071.0)), ((-1000.0, -150.0), (250.0, 1400.0))])
def test_one_scan_with_metal_or_one_tight_crop_does_not_hide_an_offset(
    plan: Plan, low: tuple[float, float], high: tuple[float, float]
) -> None:
    told = {**TOLD, "channels": [{"name": "CT", "low": list(low), "high": list(high)}]}
    known = known_of({"training_data": told}, 1)
    assert known is not None
    there = dataclasses.replace(plan, channels=(CT,))
    assert differences(scan(low=-1000.0, high=1000.0), there, known) == []
    assert "lowest values of CT are about 3" in differences(scan(low=24.0, high=2024.0), there, known)[0]


def test_a_constant_channel_is_told_however_it_is_normalised(plan: Plan) -> None:
    volume = Volume(np.full((1, 20, 20, 10), 7.0, np.float32), scan().grid)
    for channel in (CT, Channel("CT", "zscore")):
        assert phrases(volume, plan, channel) == ["CT is constant"]


@pytest.mark.parametrize(
    ("now", "then", "normalisation", "told"),
    [
        ("CT", "MR", "zscore", ["one is CT, in training MR"]),
        ("MR", "MR", "zscore", []),
        ("CT", "", "zscore", []),
        ("MR", "", "ct", ["one is MR, in training CT"]),
        ("CT", "", "ct", []),
        ("", "MR", "zscore", []),
    ],
)
def test_another_modality_is_told_where_both_are_known(plan: Plan, now: str, then: str, normalisation: Any, told: list[str]) -> None:
    channel = {"name": "one", "low": [0.0, 0.0], "high": [2.0, 2.0]} | ({"modality": then} if then else {})
    known = known_of({"training_data": {**TOLD, "channels": [channel]}}, 1)
    assert known is not None
    of_one = dataclasses.replace(plan, channels=(Channel("one", normalisation),))
    assert other_modalities((now,), of_one, known) == told
    assert other_modalities((), of_one, known) == []


def test_volumes_far_from_those_of_the_training_are_told(plan: Plan) -> None:
    known = known_of({"training_data": {**TOLD, "label_ml": {"10": [1.0, 6.0], "255": [0.0, 2.0]}}}, 1)
    assert known is not None and odd_volumes({"organ": 0.6, "tumour": 0.0}, plan, known) == []
    assert odd_volumes({"organ": 33.9, "tumour": 5.0}, plan, known) == [
        "organ has 33.9 ml, in training 1 to 6 ml",
        "tumour has 5 ml, in training 0 to 2 ml",
    ]
    assert odd_volumes({"organ": 0.0, "tumour": 0.0}, plan, known) == ["organ has 0 ml, in training 1 to 6 ml"]
    older = known_of({"training_data": TOLD}, 1)
    assert older is not None and odd_volumes({"organ": 1e6, "tumour": 0.0}, plan, older) == []
    with pytest.raises(ModelError, match="cannot be understood"):
        known_of({"training_data": {**TOLD, "label_ml": [1, 2]}}, 1)
