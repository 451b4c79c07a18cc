"""The memory of a scan, told before it is segmented."""

from __future__ import annotations

import dataclasses
import logging

import numpy as np
import pytest

from segpipe.errors import DataError
from segpipe.geometry.grid import Grid, Volume
from segpipe.inference.need import PROCESS_GB, Asked, need_of, walk_of
from segpipe.inference.predictor import Predictor
from segpipe.inference.walk import Walk
from segpipe.plan.plan import Label
from segpipe.prepare.prepare import uncropped

from .conftest import MakeModel, blocks_volume


def scan_of(*shape: int) -> Volume:
    return Volume(np.zeros((1, *shape), dtype=np.int16), Grid((shape[0], shape[1], shape[2]), np.eye(4)))


def test_larger_scans_probabilities_and_several_models_need_more(make_model: MakeModel) -> None:
    one, other = make_model("a.ts").plan, make_model("b.ts", spacing_mm=(0.5, 0.5, 0.5)).plan
    small, large = scan_of(60, 60, 60), scan_of(300, 300, 300)
    asked, shares = Asked(1, 0.5, False, False), Asked(1, 0.5, False, True)
    needs = [
        need_of([[one]], small, asked),
        need_of([[one]], large, asked),
        need_of([[one]], large, shares),
        need_of([[one], [other]], large, asked),
    ]
    assert [need.gb for need in needs] == sorted(need.gb for need in needs)
    assert needs[0].gb < 0.7 < needs[2].gb


def test_models_with_different_plans_need_a_few_planes_of_each_class_and_probabilities_the_whole_once(make_model: MakeModel) -> None:
    labels = tuple(Label(index, index, f"label {index}") for index in range(60))
    solid, flat = make_model("a.ts", patch_size=(64, 64, 64)).plan, make_model("b.ts", dims=2, patch_size=(200, 200, 1)).plan
    plans = [[dataclasses.replace(plan, labels=labels)] for plan in (solid, flat)]
    short, long = (scan_of(200, 200, length) for length in (200, 400))
    few, more = (need_of(plans, scan, Asked(1, 0.5, False, False)).gb for scan in (short, long))
    whole_gb = 4 * 60 * long.array.size / 1e9
    assert few - PROCESS_GB < 0.15 * whole_gb and more - few < 0.05 * whole_gb  # twice as long: only the scan itself, prepared twice
    kept = need_of(plans, long, Asked(1, 0.5, False, True)).gb
    assert kept - more == pytest.approx(whole_gb)
    limited = Asked(1, 0.5, False, False, limit_gb=0.5 * (more + kept))
    assert need_of(plans, long, limited).gb == more
    with pytest.raises(DataError, match="leave out --probabilities"):
        need_of(plans, long, dataclasses.replace(limited, probabilities=True))


def test_the_walk_is_chosen_where_planes_are_needed(make_model: MakeModel) -> None:
    solid, flat = make_model("a.ts").plan, make_model("b.ts", dims=2, axes=(1, 2, 0), patch_size=(40, 40, 1)).plan
    grid = scan_of(40, 40, 40).grid
    traces = [uncropped(grid, plan) for plan in (solid, flat)]
    assert walk_of([[solid]], traces[:1], Asked(1, 0.5, False, False)) is None
    assert walk_of([[solid]], traces[:1], Asked(1, 0.5, False, True)) is not None
    assert walk_of([[solid], [flat]], traces, Asked(1, 0.5, False, False)) == Walk(0, False)  # across its slices


def test_the_batch_is_made_smaller_to_keep_a_limit_and_a_scan_that_does_not_fit_is_refused(make_model: MakeModel) -> None:
    plan, scan = make_model(patch_size=(64, 64, 64)).plan, scan_of(100, 100, 100)
    free = need_of([[plan]], scan, Asked(64, 0.5, False, False))
    assert free.batch == 64
    limit = need_of([[plan]], scan, Asked(8, 0.5, False, False)).gb
    kept = need_of([[plan]], scan, Asked(64, 0.5, False, False, limit_gb=limit))
    assert 1 <= kept.batch <= 8
    assert kept.gb <= limit
    with pytest.raises(DataError, match=r"takes about .* GB to segment, and --memory-gb is 0.1: give more"):
        need_of([[plan]], scan, Asked(64, 0.5, False, False, limit_gb=0.1))


def test_the_next_scan_takes_memory_of_its_own_which_is_told_where_there_is_one(
    make_model: MakeModel, caplog: pytest.LogCaptureFixture
) -> None:
    plan = make_model(patch_size=(64, 64, 64)).plan
    small, large = (need_of([[plan]], scan_of(*shape), Asked(1, 0.5, False, False)) for shape in ((60, 60, 60), (300, 300, 300)))
    read = 300**3 * (2 + 4) / 1e9  # int16 and float32, each once
    assert small.beside_gb < read < large.beside_gb < 2.5 * read
    predictor = Predictor([make_model("again.ts")])
    with caplog.at_level(logging.INFO, logger="segpipe"):
        predictor.preparation.prepare(blocks_volume(), False)
        assert "of memory" in caplog.text and "more while" not in caplog.text
        Predictor([make_model("other.ts")]).preparation.prepare(blocks_volume(), False, followed=True)
    assert "GB of memory, and up to 0.01 GB more while the next one is read" in caplog.text


def test_a_prediction_keeps_the_limit_and_tells_what_it_takes(make_model: MakeModel, caplog: pytest.LogCaptureFixture) -> None:
    model = make_model()
    with caplog.at_level(logging.INFO, logger="segpipe"):
        predictor = Predictor([model], memory_gb=8.0)
        first = predictor.predict(blocks_volume()).labels
        predictor.predict(blocks_volume())
    assert caplog.text.count("of memory") == 1
    assert np.array_equal(first, Predictor([model]).predict(blocks_volume()).labels)
    with pytest.raises(DataError, match="--memory-gb"):
        Predictor([model], memory_gb=0.01).predict(blocks_volume())


def test_a_pass_holds_no_more_windows_than_the_scan_has_and_each_network_its_own_number(make_model: MakeModel) -> None:
    solid, flat = make_model("a.ts", patch_size=(64, 64, 64)).plan, make_model("b.ts", dims=2, patch_size=(16, 16, 1)).plan
    tiny, asked = scan_of(64, 64, 20), Asked(0, 0.5, False, False)
    one = need_of([[solid]], tiny, dataclasses.replace(asked, batch=1)).gb
    assert need_of([[solid]], tiny, asked).gb == need_of([[solid]], tiny, dataclasses.replace(asked, batch=50)).gb == one
    both = need_of([[solid], [flat]], tiny, asked).gb  # many small windows of the one at once, and one of the other
    assert both < one + 0.05
