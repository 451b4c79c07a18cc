"""A folder of scans -> a folder of label maps."""

from __future__ import annotations

import csv
import json
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from segpipe.errors import ConfigError, DataError, GeometryError
from segpipe.geometry.grid import Grid, Volume
from segpipe.inference.folder import FolderOptions, predict_folder, predict_scans
from segpipe.inference.gather import gather
from segpipe.inference.ledger import Ledger
from segpipe.inference.predictor import Part, Predictor
from segpipe.inference.preparation import Ready
from segpipe.inference.table import Row
from segpipe.io.read import read_volume
from segpipe.io.write import write_label_map, write_volume
from segpipe.plan.plan import Channel, Label

from .conftest import MakeModel, blocks, blocks_volume, expected_labels, oblique_grid


@pytest.fixture
def predictor(make_model: MakeModel) -> Predictor:
    return Predictor([make_model()])


@pytest.fixture
def source(tmp_path: Path) -> Path:
    for number, name in enumerate(("a.nii.gz", "sub/b.nrrd", "sub/deep/c.mha")):
        shape = (11 + number, 9, 8)
        write_volume(tmp_path / "in" / name, Volume(blocks(shape), oblique_grid(shape)))
    return tmp_path / "in"


def run(predictor: Predictor, source: Path, out: Path, **options: object) -> dict[str, Row]:
    return {row.case: row for row in predict_folder(predictor, source, out, FolderOptions(**options))}  # type: ignore[arg-type]


def statuses(rows: dict[str, Row]) -> dict[str, str]:
    return {case: row.status for case, row in rows.items()}


def redraw(path: Path) -> None:
    """Another scan of the same name, size and time."""
    volume, times = read_volume(path), path.stat()
    write_volume(path, Volume(volume.array[:, ::-1].copy(), volume.grid))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def table(out: Path) -> dict[str, dict[str, str]]:
    with (out / "predictions.csv").open(newline="", encoding="utf-8") as file:
        return {row["case"]: row for row in csv.DictReader(file)}


def test_each_label_map_has_its_scans_place_name_format_and_grid(predictor: Predictor, source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    rows = run(predictor, source, out)
    for name in ("a.nii.gz", "sub/b.nrrd", "sub/deep/c.mha"):
        scan, label = read_volume(source / name), read_volume(out / name)
        assert label.grid.distance_mm(scan.grid) < 1e-4
        assert np.array_equal(label.array[0], expected_labels(scan.array))
        assert label.array.dtype == np.uint8
    assert np.array_equal(nib.load(out / "a.nii.gz").affine, nib.load(source / "a.nii.gz").affine)
    assert statuses(rows) == {"a": "done", "sub/b": "done", "sub/deep/c": "done"}
    assert sorted(path.name for path in out.iterdir()) == ["a.nii.gz", "labels.json", "predictions.csv", "predictions.sqlite", "sub"]


def test_the_table_tells_status_seconds_volumes_and_model(predictor: Predictor, source: Path, tmp_path: Path) -> None:
    run(predictor, source, tmp_path / "out")
    row = table(tmp_path / "out")["sub/b"]
    assert row["input"] == str((source / "sub/b.nrrd").resolve())
    assert row["output"] == "sub/b.nrrd"
    assert row["status"] == "done"
    assert all(float(row[f"seconds_{phase}"]) >= 0 for phase in ("read", "prepare", "network", "restore", "write"))
    label = read_volume(tmp_path / "out/sub/b.nrrd")
    assert float(row["volume_ml_tumour"]) == pytest.approx((label.array == 255).sum() * label.grid.voxel_volume_ml, rel=1e-5)
    assert row["model_sha256"] == predictor.models[0].sha256


def test_the_names_of_the_labels_lie_beside_the_label_maps(predictor: Predictor, source: Path, tmp_path: Path) -> None:
    run(predictor, source, tmp_path / "out")
    assert json.loads((tmp_path / "out/labels.json").read_text()) == {"background": 0, "labels": {"10": "organ", "255": "tumour"}}


def test_a_single_file_is_segmented_into_the_folder(predictor: Predictor, source: Path, tmp_path: Path) -> None:
    assert statuses(run(predictor, source / "sub/b.nrrd", tmp_path / "out")) == {"b": "done"}
    assert (tmp_path / "out/b.nrrd").is_file()


def test_a_broken_scan_among_three_gives_two_label_maps_and_one_reason(
    predictor: Predictor, source: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (source / "sub/b.nrrd").write_bytes(b"NRRD0004\nbroken")
    rows = run(predictor, source, tmp_path / "out")
    assert statuses(rows) == {"a": "done", "sub/b": "failed", "sub/deep/c": "done"}
    assert str(source / "sub/b.nrrd") in rows["sub/b"].reason
    assert table(tmp_path / "out")["sub/b"]["reason"] == rows["sub/b"].reason
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == ["sub/b failed"]
    assert not (tmp_path / "out/sub/b.nrrd").exists()


def test_a_scan_with_nan_or_too_many_channels_fails_alone(predictor: Predictor, source: Path, tmp_path: Path) -> None:
    array = blocks((6, 6, 6))
    array[0, 1, 1, 1] = np.nan
    write_volume(source / "n.nii.gz", Volume(array, oblique_grid((6, 6, 6))))
    write_volume(source / "m.nii.gz", Volume(blocks((6, 6, 6), 2), oblique_grid((6, 6, 6))))
    rows = run(predictor, source, tmp_path / "out")
    assert "1 NaN or infinite" in rows["n"].reason
    assert "2 channel(s); the model needs 1 (T2)" in rows["m"].reason
    assert list(statuses(rows).values()).count("done") == 3


def test_a_fault_of_the_program_in_one_scan_does_not_stop_the_others(
    predictor: Predictor, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Predictor.parts

    def fails_once(self: Predictor, ready: Ready, *args: Any) -> Iterator[Part]:
        if ready.grid.shape[0] == 12:
            raise ZeroDivisionError("division\nby zero")
        return whole(self, ready, *args)

    monkeypatch.setattr(Predictor, "parts", fails_once)
    rows = run(predictor, source, tmp_path / "out")
    assert rows["sub/b"].reason == f"{source / 'sub/b.nrrd'}: unexpected ZeroDivisionError: division by zero"
    assert list(statuses(rows).values()).count("done") == 2


def test_done_scans_are_skipped_on_a_second_call_and_keep_their_figures(predictor: Predictor, source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = run(predictor, source, out)
    written = (out / "a.nii.gz").stat().st_mtime_ns
    second = run(predictor, source, out)
    assert set(statuses(second).values()) == {"skipped"}
    assert (out / "a.nii.gz").stat().st_mtime_ns == written
    assert second["a"].volumes_ml == pytest.approx(first["a"].volumes_ml, rel=1e-5)
    assert table(out)["a"]["status"] == "skipped"
    assert set(statuses(run(predictor, source, out)).values()) == {"skipped"}


def test_what_changed_is_done_again(predictor: Predictor, source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(predictor, source, out)
    (out / "a.nii.gz").unlink()
    redraw(source / "sub/b.nrrd")
    os.utime(source / "sub/deep/c.mha", ns=(1, 1))  # a copy, say
    assert statuses(run(predictor, source, out)) == {"a": "done", "sub/b": "done", "sub/deep/c": "skipped"}
    assert set(statuses(run(predictor, source, out, probabilities=True)).values()) == {"done"}
    assert set(statuses(run(Predictor(predictor.models, overlap=0.25), source, out)).values()) == {"done"}
    assert set(statuses(run(Predictor(predictor.models * 2, overlap=0.25), source, out)).values()) == {"done"}
    assert set(statuses(run(Predictor(predictor.models * 2, overlap=0.25), source, out)).values()) == {"skipped"}
    assert set(statuses(run(Predictor(predictor.models * 2, overlap=0.25), source, out, overwrite=True)).values()) == {"done"}


def test_a_failed_scan_is_tried_again_and_a_new_one_joins_the_table(predictor: Predictor, source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    good = (source / "sub/b.nrrd").read_bytes()
    (source / "sub/b.nrrd").write_bytes(good[:-20])
    assert statuses(run(predictor, source, out))["sub/b"] == "failed"
    (source / "sub/b.nrrd").write_bytes(good)
    shutil.copy(source / "a.nii.gz", source / "z.nii.gz")
    shutil.rmtree(source / "sub/deep")
    assert statuses(run(predictor, source, out)) == {"a": "skipped", "sub/b": "done", "z": "done"}
    assert set(table(out)) == {"a", "sub/b", "sub/deep/c", "z"}


def test_a_killed_run_loses_nothing_that_was_done(
    predictor: Predictor, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Predictor.parts

    def killed(self: Predictor, ready: Ready, *args: Any) -> Iterator[Part]:
        if ready.grid.shape[0] == 13:
            raise KeyboardInterrupt
        return whole(self, ready, *args)

    monkeypatch.setattr(Predictor, "parts", killed)
    with pytest.raises(KeyboardInterrupt):
        run(predictor, source, tmp_path / "out")
    monkeypatch.undo()
    assert statuses(run(predictor, source, tmp_path / "out")) == {"a": "skipped", "sub/b": "skipped", "sub/deep/c": "done"}


@pytest.mark.parametrize("name", ["nii.gz", ".NRRD", "mha", "nii", "mhd"])
def test_the_format_can_be_chosen(predictor: Predictor, source: Path, tmp_path: Path, name: str) -> None:
    rows = run(predictor, source, tmp_path / "out", format=name)
    for case in ("a", "sub/b", "sub/deep/c"):
        assert rows[case].output == f"{case}.{name.lower().lstrip('.')}"
        assert (tmp_path / "out" / rows[case].output).is_file()


@pytest.mark.parametrize("name", ["jpg", "docx", "nii.gz.gz"])
def test_an_unknown_or_lossy_format_is_refused_before_anything_is_written(
    predictor: Predictor, source: Path, tmp_path: Path, name: str
) -> None:
    with pytest.raises(ConfigError, match="must be one of nii.gz, nii, nrrd"):
        run(predictor, source, tmp_path / "out", format=name)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["png", "tif", ".BMP"])
def test_a_picture_format_is_refused_for_volumes_before_anything_is_computed(
    predictor: Predictor, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(Predictor, "parts", None)
    with pytest.raises(ConfigError, match=rf"--format is {name.lower().lstrip('.')}, a picture; the model was trained on volumes"):
        run(predictor, source, tmp_path / "out", format=name)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["nii.gz", "nrrd", "mha"])
def test_label_maps_of_pictures_may_have_any_format(make_model: MakeModel, tmp_path: Path, name: str) -> None:
    array = (blocks((24, 16, 1)) > 0).astype(np.uint8)
    write_volume(tmp_path / "in/a.png", Volume(array, Grid((24, 16, 1), np.eye(4))))
    rows = run(Predictor([make_model(dims=2, orient=False)]), tmp_path / "in", tmp_path / "out", format=name)
    assert rows["a"].output == f"a.{name}"
    assert np.array_equal(read_volume(tmp_path / "out" / rows["a"].output).array[0], expected_labels(array.astype(np.float32)))


def test_a_format_that_cannot_hold_the_values_fails_with_a_reason(make_model: MakeModel, tmp_path: Path) -> None:
    array = (blocks((24, 16, 1)) > 0).astype(np.uint8)
    write_volume(tmp_path / "in/a.png", Volume(array, Grid((24, 16, 1), np.eye(4))))
    labels = (Label(0, 0, "background"), Label(1, 300, "organ"), Label(2, 301, "tumour"))
    rows = run(Predictor([make_model(dims=2, orient=False, labels=labels)]), tmp_path / "in", tmp_path / "out", format="bmp")
    assert rows["a"].status == "failed" and "do not fit into .bmp" in rows["a"].reason
    assert not list((tmp_path / "out").rglob("*.bmp"))


def test_pictures_give_pictures_and_jpeg_gives_png(make_model: MakeModel, tmp_path: Path) -> None:
    grid = Grid((24, 16, 1), np.eye(4))
    array = (blocks((24, 16, 1)) > 0).astype(np.uint8)
    for name in ("a.png", "b.tif", "d.bmp"):
        write_volume(tmp_path / "in" / name, Volume(array, grid))
    Image.fromarray(array[0, ..., 0]).save(tmp_path / "in/c.jpg")
    predictor = Predictor([make_model(dims=2, orient=False)])
    rows = run(predictor, tmp_path / "in", tmp_path / "out")
    assert {row.output for row in rows.values()} == {"a.png", "b.tif", "c.png", "d.bmp"}
    for name in ("a.png", "b.tif", "d.bmp"):
        assert np.array_equal(read_volume(tmp_path / "out" / name).array[0], expected_labels(array.astype(np.float32)))


def test_probabilities_are_written_beside_the_label_map(predictor: Predictor, source: Path, tmp_path: Path) -> None:
    run(predictor, source, tmp_path / "out", probabilities=True)
    scan, found = read_volume(source / "sub/b.nrrd"), read_volume(tmp_path / "out/sub/b_probabilities.nii.gz")
    assert found.array.shape == (3, *scan.grid.shape)
    assert found.array.dtype == np.float32
    assert found.grid.distance_mm(scan.grid) < 1e-3
    labels = read_volume(tmp_path / "out/sub/b.nrrd").array[0]
    assert np.array_equal(np.array([0, 10, 255])[found.array.argmax(axis=0)], labels)


def test_channels_in_several_files_become_one_case_and_an_incomplete_one_fails(make_model: MakeModel, tmp_path: Path) -> None:
    volume = blocks_volume(channels=2)
    for name in ("p_0000.nii.gz", "p_0001.nii.gz", "q_t2.nii.gz", "q_ADC.nii.gz", "r_0001.nii.gz"):
        channel = int("0001" in name or "ADC" in name)
        write_volume(tmp_path / "in" / name, Volume(volume.array[channel : channel + 1], volume.grid))
    predictor = Predictor([make_model(channels=(Channel("T2", "none"), Channel("ADC", "none")))])
    rows = run(predictor, tmp_path / "in", tmp_path / "out")
    assert statuses(rows) == {"p": "done", "q": "done", "r": "failed"}
    assert "channel T2" in rows["r"].reason
    for case in ("p", "q"):
        assert np.array_equal(read_volume(tmp_path / f"out/{case}.nii.gz").array[0], expected_labels(volume.array))
    assert len(rows["p"].input.split(";")) == 2


def test_channels_on_different_grids_fail_with_both_files_named(make_model: MakeModel, tmp_path: Path) -> None:
    write_volume(tmp_path / "in/p_0000.nii.gz", Volume(blocks((6, 6, 6)), oblique_grid((6, 6, 6))))
    write_volume(tmp_path / "in/p_0001.nii.gz", Volume(blocks((6, 6, 6)), oblique_grid((6, 6, 6), (1.0, 1.0, 1.0))))
    predictor = Predictor([make_model(channels=(Channel("T2", "none"), Channel("ADC", "none")))])
    reason = run(predictor, tmp_path / "in", tmp_path / "out")["p"].reason
    assert "p_0000.nii.gz" in reason
    assert "p_0001.nii.gz" in reason


def test_the_input_folder_is_never_the_output_folder(predictor: Predictor, source: Path) -> None:
    before = {path: path.read_bytes() for path in source.rglob("*") if path.is_file()}
    for out in (source, source / "sub" / ".."):
        with pytest.raises(ConfigError, match="is the input folder"):
            run(predictor, source, out)
    with pytest.raises(ConfigError, match="would be overwritten"):
        run(predictor, source / "a.nii.gz", source)
    assert all(path.read_bytes() == content for path, content in before.items())


def test_files_that_no_prediction_wrote_are_never_replaced_unasked(predictor: Predictor, source: Path, tmp_path: Path) -> None:
    drawn = tmp_path / "drawn"
    drawn.mkdir()
    (drawn / "a.nii.gz").write_bytes(b"drawn by hand")
    with pytest.raises(ConfigError, match=r"a\.nii\.gz: is there already, and would be replaced: .* --overwrite"):
        run(predictor, source, drawn)
    assert [path.name for path in drawn.iterdir()] == ["a.nii.gz"]
    assert (drawn / "a.nii.gz").read_bytes() == b"drawn by hand"
    assert statuses(run(predictor, source, drawn, overwrite=True))["a"] == "done"
    assert statuses(run(predictor, source, drawn))["a"] == "skipped"


def test_outputs_inside_the_input_folder_are_not_segmented_on_the_second_call(predictor: Predictor, source: Path) -> None:
    for _ in range(2):
        assert set(run(predictor, source, source / "out")) == {"a", "sub/b", "sub/deep/c"}


def test_places_that_cannot_be_are_told_in_one_line(predictor: Predictor, source: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for name, message in (("file", "is a file"), ("file/out", "Not a directory"), ("x.nii.gz", "names a file")):
        with pytest.raises(ConfigError, match=message) as caught:
            run(predictor, source, tmp_path / name)
        assert "\n" not in str(caught.value)
    with pytest.raises(DataError):
        run(predictor, tmp_path / "none", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_full_disk_stops_the_run_with_the_place_and_no_half_file(
    predictor: Predictor, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, array: object, grid: Grid) -> None:
        raise ConfigError(f"{path}: cannot be written (No space left on device)")

    monkeypatch.setattr("segpipe.inference.segment.write_label_map", full)
    with pytest.raises(ConfigError, match="No space left"):
        run(predictor, source, tmp_path / "out")
    assert not [path for path in (tmp_path / "out").rglob("*") if path.suffix in (".gz", ".nrrd", ".mha")]


def test_out_of_memory_fails_one_scan_and_says_what_to_lower(
    predictor: Predictor, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_much(self: Predictor, *args: object) -> torch.Tensor:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:124] . DefaultCPUAllocator: can't allocate memory: you tried to allocate")

    monkeypatch.setattr(Predictor, "_network", too_much)
    rows = run(predictor, source, tmp_path / "out")
    assert all("out of memory on cpu in the phase 'network': use --batch 1" in row.reason for row in rows.values())


def test_a_model_of_volumes_refuses_pictures_and_a_model_of_pictures_volumes(
    predictor: Predictor, make_model: MakeModel, source: Path, tmp_path: Path
) -> None:
    Image.fromarray((blocks((12, 9, 1))[0, :, :, 0] * 100).astype(np.uint8)).save(source / "p.png")
    rows = run(predictor, source, tmp_path / "out")
    assert rows["p"].status == "failed" and "is a picture, without millimetres" in rows["p"].reason
    assert rows["a"].status == "done"
    rows = run(Predictor([make_model("p.ts", orient=False, dims=2)]), source, tmp_path / "pictures")
    assert rows["p"].status == "done" and rows["p"].volumes_ml == {} and rows["p"].pixels.keys() == {"organ", "tumour"}
    assert rows["a"].status == "failed" and "is a volume; the model was trained on pictures" in rows["a"].reason
    row = table(tmp_path / "pictures")["p"]
    label = read_volume(tmp_path / "pictures/p.png")
    assert int(row["pixels_organ"]) == (label.array == 10).sum() and not any(key.startswith("volume") for key in row)


def test_replacing_the_label_maps_of_another_model_is_told(
    make_model: MakeModel, source: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run(Predictor([make_model()]), source, tmp_path / "out")
    other = Predictor([make_model("other.ts", flips=(False, False, False))])
    with caplog.at_level("WARNING"):
        assert set(statuses(run(other, source, tmp_path / "out")).values()) == {"done"}
        assert "holds 3 label map(s) of another model" in caplog.text
        caplog.clear()
        run(other, source, tmp_path / "out")
    assert "another model" not in caplog.text


def test_segmenting_again_because_of_other_options_is_told(
    make_model: MakeModel, source: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = make_model()
    run(Predictor([model]), source, tmp_path / "out")
    with caplog.at_level("WARNING"):
        other = Predictor([model], overlap=0.25)
        assert set(statuses(run(other, source, tmp_path / "out")).values()) == {"done"}
        told = "3 scan(s) that are done are segmented again, because they were segmented with other options: "
        told += "overlap=0.5 precision=fp32, now overlap=0.25"
        assert told in caplog.text
        caplog.clear()
        run(other, source, tmp_path / "out")
        run(Predictor([model]), source, tmp_path / "out", overwrite=True)
    assert "other options" not in caplog.text


def test_ctrl_c_says_what_is_done_and_how_to_go_on(
    predictor: Predictor, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real, calls = Predictor.parts, []

    def interrupted(self: Predictor, *args: object, **kwargs: object) -> Iterator[Part]:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(self, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(Predictor, "parts", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(predictor, source, tmp_path / "out")
    assert "stopped after 1 of 3 scan(s)" in caplog.text and "the same command does the others" in caplog.text
    assert statuses(run(predictor, source, tmp_path / "out")) == {"a": "skipped", "sub/b": "done", "sub/deep/c": "done"}


def test_label_maps_given_as_scans_are_passed_over_by_the_table_beside_them(predictor: Predictor, source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(predictor, source, out, probabilities=True)
    with pytest.raises(DataError, match="were IN and OUT swapped"):
        run(predictor, out, tmp_path / "again")
    shutil.copy(source / "a.nii.gz", out / "new.nii.gz")
    assert statuses(run(predictor, out, tmp_path / "again")) == {"new": "done"}
    (out / "predictions.csv").write_text("case,dice\nx,0.5\n")  # somebody's own table
    assert len(run(predictor, out, tmp_path / "all", format="nii.gz")) > 3


def test_each_file_is_judged_for_itself(predictor: Predictor, source: Path, tmp_path: Path) -> None:
    """A table or names of labels in the folder do not make a label map that was drawn by hand a prediction."""
    out = tmp_path / "out"
    run(predictor, source / "a.nii.gz", out)
    (out / "sub").mkdir()
    (out / "sub/b.nrrd").write_bytes(b"drawn by hand")
    with pytest.raises(ConfigError, match=r"b\.nrrd: is there already, and would be replaced"):
        run(predictor, source, out)
    assert (out / "sub/b.nrrd").read_bytes() == b"drawn by hand"
    names = tmp_path / "names"
    names.mkdir()
    (names / "labels.json").write_text('{"labels": {"1": "my own"}}')
    with pytest.raises(ConfigError, match=r"labels\.json: is there already, and no prediction wrote it"):
        run(predictor, source, names)
    assert "my own" in (names / "labels.json").read_text()


@pytest.mark.parametrize("name", ["a_probabilities.nii.gz", "a.raw"])
def test_files_beside_the_label_map_are_not_replaced_either(predictor: Predictor, source: Path, tmp_path: Path, name: str) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / name).write_bytes(b"mine")
    with pytest.raises(ConfigError, match=f"{name}: is there already"):
        run(predictor, source, out, probabilities=True, format="mhd")
    assert (out / name).read_bytes() == b"mine"


def test_a_label_map_that_was_corrected_by_hand_is_kept(
    predictor: Predictor, source: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "out"
    run(predictor, source, out)
    corrected = read_volume(out / "a.nii.gz")
    write_volume(out / "a.nii.gz", Volume(corrected.array[:, ::-1].copy(), corrected.grid))
    kept = (out / "a.nii.gz").read_bytes()
    row = run(predictor, source, out)["a"]
    assert row.status == "skipped" and "was changed since it was predicted, and is kept" in row.reason
    assert "a.nii.gz: was changed since it was predicted, and is kept" in caplog.text
    redraw(source / "a.nii.gz")
    with pytest.raises(ConfigError, match=r"a\.nii\.gz: was changed since it was predicted"):
        run(predictor, source, out)
    assert (out / "a.nii.gz").read_bytes() == kept
    assert statuses(run(predictor, source, out, overwrite=True))["a"] == "done"


def test_the_label_map_of_an_earlier_scan_is_set_aside_when_the_new_one_fails(predictor: Predictor, source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(predictor, source, out)
    before = (out / "a.nii.gz").read_bytes()
    array = blocks((11, 9, 8))
    array[0, 0, 0, 0] = np.nan
    write_volume(source / "a.nii.gz", Volume(array, oblique_grid((11, 9, 8))))
    row = run(predictor, source, out)["a"]
    assert (row.status, row.output) == ("failed", "")
    assert "what an earlier call wrote is now a.nii.gz.outdated" in row.reason
    assert not (out / "a.nii.gz").exists() and (out / "a.nii.gz.outdated").read_bytes() == before
    write_volume(source / "a.nii.gz", Volume(blocks((11, 9, 8)), oblique_grid((11, 9, 8))))
    assert statuses(run(predictor, source, out))["a"] == "done"


def test_another_patients_scan_of_the_same_name_size_and_time_is_not_taken_as_done(predictor: Predictor, tmp_path: Path) -> None:
    for name, array in (("A", blocks((11, 9, 8))), ("B", blocks((11, 9, 8))[:, ::-1])):
        write_volume(tmp_path / name / "case1.nii", Volume(array.copy(), oblique_grid((11, 9, 8))))
        os.utime(tmp_path / name / "case1.nii", (0, 0))
    for name in ("A", "B"):
        assert statuses(run(predictor, tmp_path / name, tmp_path / "out")) == {"case1": "done"}
        expected = expected_labels(read_volume(tmp_path / name / "case1.nii").array)
        assert np.array_equal(read_volume(tmp_path / "out/case1.nii").array[0], expected)


def test_scans_and_label_maps_that_were_moved_or_copied_are_still_done(predictor: Predictor, source: Path, tmp_path: Path) -> None:
    run(predictor, source, tmp_path / "out", probabilities=True)
    source = source.rename(tmp_path / "moved")
    shutil.copytree(tmp_path / "out", tmp_path / "copy", copy_function=shutil.copyfile)
    rows = run(predictor, source, tmp_path / "copy", probabilities=True)
    assert set(statuses(rows).values()) == {"skipped"}
    assert rows["a"].input == str((source / "a.nii.gz").resolve())


@pytest.mark.parametrize("name", ["a.mhd", "a.raw", "a_probabilities.nii.gz"])
def test_an_empty_output_is_predicted_again_and_a_truncated_one_is_told(
    predictor: Predictor, source: Path, tmp_path: Path, name: str
) -> None:
    path = tmp_path / "out" / name
    run(predictor, source, tmp_path / "out", probabilities=True, format="mhd")
    good = path.read_bytes()
    path.write_bytes(b"")
    assert statuses(run(predictor, source, tmp_path / "out", probabilities=True, format="mhd"))["a"] == "done"
    assert path.read_bytes() == good
    path.write_bytes(good[: len(good) // 2])
    with pytest.raises(ConfigError, match=f"{name}: was changed since it was predicted"):
        run(predictor, source, tmp_path / "out", probabilities=True, format="mhd")


def test_a_label_map_of_another_grid_is_not_taken_for_a_corrected_one(predictor: Predictor, source: Path, tmp_path: Path) -> None:
    run(predictor, source, tmp_path / "out", format="nii.gz")
    shutil.copy(tmp_path / "out/sub/b.nii.gz", tmp_path / "out/a.nii.gz")
    with pytest.raises(ConfigError, match=r"a\.nii\.gz: was changed since it was predicted"):
        run(predictor, source, tmp_path / "out", format="nii.gz")


@pytest.mark.parametrize("written", [False, True])
def test_a_call_that_was_stopped_while_it_wrote_goes_on(
    predictor: Predictor, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: bool
) -> None:
    """After the probabilities, or after the label map and before its row."""
    calls = []

    def stopped(path: Path, array: NDArray[Any], grid: Grid) -> None:
        calls.append(path)
        if written or len(calls) != 2:
            write_label_map(path, array, grid)
        if len(calls) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr("segpipe.inference.segment.write_label_map", stopped)
    with pytest.raises(KeyboardInterrupt):
        run(predictor, source, tmp_path / "out", probabilities=True)
    assert table(tmp_path / "out")["sub/b"]["status"] == "started"
    found = statuses(run(predictor, source, tmp_path / "out", probabilities=True))
    assert found == {"a": "skipped", "sub/b": "done", "sub/deep/c": "done"}


def test_a_failure_while_writing_leaves_nothing_that_the_next_call_refuses(
    predictor: Predictor, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(path: Path, array: NDArray[Any], grid: Grid) -> None:
        raise GeometryError(f"{path}: would move voxels")

    monkeypatch.setattr("segpipe.inference.segment.write_label_map", fails)
    rows = run(predictor, source, tmp_path / "out", probabilities=True)
    assert set(statuses(rows).values()) == {"failed"} and rows["a"].reason.endswith("is now a_probabilities.nii.gz.outdated")
    monkeypatch.undo()
    assert set(statuses(run(predictor, source, tmp_path / "out", probabilities=True)).values()) == {"done"}


def test_files_that_another_process_writes_meanwhile_are_not_foreign(
    predictor: Predictor, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The table is read before the other process begins, the files are looked at after it has ended."""
    out, real = tmp_path / "out", Ledger

    def stale(path: Path) -> Ledger:
        ledger = real(path)
        monkeypatch.setattr("segpipe.inference.folder.Ledger", real)
        run(predictor, source, out)
        return ledger

    out.mkdir()
    scans = gather(source, out, ["T2"])
    monkeypatch.setattr("segpipe.inference.folder.Ledger", stale)
    assert {row.status for row in predict_scans(predictor, scans, out, FolderOptions())} <= {"done", "skipped"}


def test_probabilities_of_an_earlier_scan_do_not_stay_beside_the_new_label_map(predictor: Predictor, source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(predictor, source, out, probabilities=True)
    redraw(source / "a.nii.gz")
    assert statuses(run(predictor, source, out)) == {"a": "done", "sub/b": "skipped", "sub/deep/c": "skipped"}
    assert not (out / "a_probabilities.nii.gz").exists() and (out / "a_probabilities.nii.gz.outdated").exists()
    assert statuses(run(predictor, source, out, probabilities=True)) == {"a": "done", "sub/b": "skipped", "sub/deep/c": "skipped"}


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_model_with_other_labels_does_not_rename_those_of_other_cases(
    predictor: Predictor, make_model: MakeModel, source: Path, tmp_path: Path, overwrite: bool
) -> None:
    out = tmp_path / "out"
    run(predictor, source, out)
    names = (out / "labels.json").read_bytes()
    other = Predictor([make_model("other.ts", labels=(Label(0, 0, "background"), Label(1, 10, "liver"), Label(2, 255, "cyst")))])
    with pytest.raises(ConfigError, match=r"labels\.json: has other labels than the model, and the label maps of 2 other case\(s\)"):
        run(other, source / "a.nii.gz", out, overwrite=overwrite)
    assert (out / "labels.json").read_bytes() == names
    assert set(statuses(run(other, source, out, overwrite=overwrite)).values()) == {"done"}  # every label map is replaced
    assert "liver" in (out / "labels.json").read_text()


@pytest.mark.parametrize("memory_gb", [0.0, 8.0])
def test_rows_are_handed_on_in_order_on_the_thread_that_called(
    make_model: MakeModel, source: Path, tmp_path: Path, memory_gb: float
) -> None:
    threads: list[threading.Thread] = []
    before = set(threading.enumerate())
    predictor = Predictor([make_model()], memory_gb=memory_gb)
    rows = predict_folder(predictor, source, tmp_path / "out", FolderOptions(), lambda row: threads.append(threading.current_thread()))
    assert threads == [threading.current_thread()] * len(rows) and set(threading.enumerate()) == before
    assert [row.status for row in rows] == ["done"] * 3


def test_the_memory_of_the_next_scan_is_told_where_there_is_one(
    make_model: MakeModel, source: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        run(Predictor([make_model()]), source / "a.nii.gz", tmp_path / "one")
        assert "GB of memory" in caplog.text and "more while the next one is read" not in caplog.text
        run(Predictor([make_model()]), source, tmp_path / "more")
    assert "more while the next one is read" in caplog.text


def test_a_fault_of_whoever_is_told_of_rows_ends_the_call(predictor: Predictor, source: Path, tmp_path: Path) -> None:
    def full(row: Row) -> None:
        raise ZeroDivisionError(row.case)

    with pytest.raises(ZeroDivisionError, match=r"^a$"):
        predict_folder(predictor, source, tmp_path / "out", FolderOptions(), full)
    assert statuses(run(predictor, source, tmp_path / "out"))["a"] == "skipped"


def test_the_windows_of_each_scan_are_shown_and_each_row_is_handed_on(
    predictor: Predictor, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("segpipe.progress._LINE_EVERY_SECONDS", 0.0)
    rows: list[Row] = []
    with caplog.at_level("INFO"):
        found = predict_folder(predictor, source, tmp_path / "out", FolderOptions(), rows.append)
    assert rows == found
    for case in ("a", "sub/b", "sub/deep/c"):
        assert any(line.startswith(f"windows of {case}: ") for line in caplog.messages)
