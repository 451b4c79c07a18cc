"""DICOM objects beside label maps: in the ledger like every file, whole or absent, and on the slices."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sqlite3
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray

from segpipe.dicom.terms import parse_term
from segpipe.errors import ConfigError, DataError
from segpipe.inference.folder import FolderOptions, predict_folder
from segpipe.inference.packing import facts_from_json
from segpipe.inference.predictor import Predictor
from segpipe.inference.segment import facts_of
from segpipe.inference.table import Row
from segpipe.io.read import read_volume
from segpipe.io.write import write_label_map, write_volume
from segpipe.pacs.results import objects_of
from segpipe.plan.plan import Label
from tests.dicom.series import Made, Series, enhanced, turned
from tests.dicom.writing.given import faults, needs_highdicom, read, seg_points, true_points
from tests.dicom.writing.test_remarks import comments
from tests.dicom.writing.test_structure_set import rasterised

from .conftest import MakeModel, blocks, blocks_volume, expected_labels

needs_highdicom()

SHAPE = (13, 11, 9)
ALL = "dicom-seg,rtstruct,sr,sc"


@pytest.fixture
def predictor(make_model: MakeModel) -> Predictor:
    return Predictor([make_model()])


def series(**more: Any) -> Series:
    """Blocks that the test's network finds, as slices."""
    stored = blocks(SHAPE)[0].T.astype(np.uint16)  # (K, rows, columns)
    return Series(**{"stored": stored, "size": stored.shape[1:], "heights": [2.5 * k for k in range(stored.shape[0])], **more})


def truth() -> NDArray[Any]:
    """(K, rows, columns)."""
    return expected_labels(blocks(SHAPE)).T


def run(predictor: Predictor, source: Path, out: Path, format: str, **options: Any) -> list[Row]:
    return predict_folder(predictor, source, out, FolderOptions(format, **options))


def test_every_kind_lies_beside_the_label_map_and_on_the_slices(predictor: Predictor, tmp_path: Path) -> None:
    way = series(axes=turned(11, -23, 31))
    made = way.write(tmp_path / "in")
    (row,) = run(predictor, tmp_path / "in", tmp_path / "out", ALL)
    assert row.status == "done"
    names = {path.name for path in (tmp_path / "out").iterdir() if path.name.startswith(row.case)}
    assert names == {row.case + end for end in (".nii.gz", "_seg.dcm", "_rtstruct.dcm", "_sr.dcm", "_sc.dcm")}
    files = {end: tmp_path / "out" / f"{row.case}_{end}.dcm" for end in ("seg", "rtstruct", "sr", "sc")}
    assert [faults(path) for path in files.values()] == [[], [], [], []]
    assert seg_points(read(files["seg"])) == true_points(made, truth(), (10, 255))
    masks = rasterised(read(files["rtstruct"]), way, made)
    assert np.array_equal(masks["organ"], truth() == 10)
    assert np.array_equal(masks["tumour"], truth() == 255)
    text = str(read(files["sr"]))
    for name, value in (("organ", 10), ("tumour", 255)):
        ml = int((truth() == value).sum()) * 0.8 * 0.7 * 2.5 / 1000
        assert row.volumes_ml[name] == pytest.approx(ml)
        assert f"'{ml:.7g}'" in text
    assert len(row.output_hash.split(";")) == 5


def test_what_is_done_is_skipped_and_other_kinds_or_words_are_noticed(predictor: Predictor, tmp_path: Path) -> None:
    series().write(tmp_path / "in")
    out = tmp_path / "out"
    (first,) = run(predictor, tmp_path / "in", out, "dicom-seg,rtstruct")
    seg, contours = out / f"{first.case}_seg.dcm", out / f"{first.case}_rtstruct.dcm"
    before = seg.read_bytes()
    (again,) = run(predictor, tmp_path / "in", out, "rtstruct,dicom-seg")
    assert again.status == "skipped"
    contours.unlink()
    (third,) = run(predictor, tmp_path / "in", out, "dicom-seg,rtstruct")
    assert (third.status, contours.exists()) == ("done", True)
    assert seg.read_bytes() == before
    (fewer,) = run(predictor, tmp_path / "in", out, "dicom-seg")
    assert fewer.status == "done"
    assert not contours.exists()
    assert contours.with_name(contours.name + ".outdated").exists()
    assert seg.read_bytes() == before
    (other,) = run(predictor, tmp_path / "in", out, "dicom-seg", series_number=77)
    assert other.status == "done"
    assert read(seg).SeriesNumber == 77
    (none,) = run(predictor, tmp_path / "in", out, "")
    assert none.status == "done"
    assert not seg.exists()


def test_an_object_that_somebody_has_changed_is_not_replaced(predictor: Predictor, tmp_path: Path) -> None:
    series().write(tmp_path / "in")
    (row,) = run(predictor, tmp_path / "in", tmp_path / "out", "dicom-seg")
    path = tmp_path / "out" / f"{row.case}_seg.dcm"
    path.write_bytes(path.read_bytes() + b"\0\0")
    with pytest.raises(ConfigError, match=r"_seg\.dcm: was changed since it was predicted"):
        run(predictor, tmp_path / "in", tmp_path / "out", "dicom-seg")


def test_objects_beside_a_label_map_that_was_corrected_by_hand_are_no_results(predictor: Predictor, tmp_path: Path) -> None:
    series().write(tmp_path / "in")
    out = tmp_path / "out"
    (row,) = run(predictor, tmp_path / "in", out, "dicom-seg")
    assert objects_of(out, row) == [out / f"{row.case}_seg.dcm"]
    volume = read_volume(out / row.output)
    labels = volume.array[0].astype(np.uint8)
    labels[labels == 10] = 0
    write_label_map(out / row.output, labels, volume.grid)
    (kept,) = run(predictor, tmp_path / "in", out, "dicom-seg")
    assert kept.status == "skipped"
    with pytest.raises(DataError, match="its label map was corrected"):
        objects_of(out, kept)
    (again,) = run(predictor, tmp_path / "in", out, "dicom-seg", overwrite=True)
    assert objects_of(out, again) == [out / f"{row.case}_seg.dcm"]


def test_a_file_that_is_no_series_fails_alone_and_before_anything_where_there_is_no_other(predictor: Predictor, tmp_path: Path) -> None:
    write_volume(tmp_path / "in" / "a.nii.gz", blocks_volume())
    with pytest.raises(ConfigError, match=r"a\.nii\.gz: is no DICOM series"):
        run(predictor, tmp_path / "in", tmp_path / "out", "dicom-seg")
    assert not (tmp_path / "out").exists()
    series().write(tmp_path / "in" / "series")
    rows = run(predictor, tmp_path / "in", tmp_path / "out", "nifti,dicom-seg")
    assert sorted(row.status for row in rows) == ["done", "failed"]
    assert "is no DICOM series" in next(row.reason for row in rows if row.status == "failed")


def test_a_series_without_a_study_fails_before_the_networks(predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in series().write(tmp_path / "in").paths:
        ds = read(path)
        ds.StudyInstanceUID = ""
        ds.save_as(path)
    monkeypatch.setattr(predictor, "parts", lambda *_: pytest.fail("the networks were asked"))
    (row,) = run(predictor, tmp_path / "in", tmp_path / "out", "dicom-seg")
    assert (row.status, row.seconds) == ("failed", {})
    assert "states no StudyInstanceUID" in row.reason


@pytest.mark.parametrize("copies", [False, True])
def test_a_series_in_two_multi_frame_files_fails_before_the_networks_and_a_copy_does_not(
    predictor: Predictor, tmp_path: Path, copies: bool
) -> None:
    whole = series()
    half = len(whole.heights) // 2
    parts = [whole] if copies else [replace_slices(whole, slice(0, half)), replace_slices(whole, slice(half, None))]
    for number, part in enumerate(parts):
        enhanced(part, tmp_path / "in" / f"{number}.dcm")
    if copies:
        shutil.copy(tmp_path / "in" / "0.dcm", tmp_path / "in" / "1.dcm")
    else:
        second = read(tmp_path / "in" / "1.dcm")
        second.SOPInstanceUID = second.file_meta.MediaStorageSOPInstanceUID = "1.2.3.0.10"
        second.save_as(tmp_path / "in" / "1.dcm")
    (row,) = run(predictor, tmp_path / "in", tmp_path / "out", "dicom-seg")
    if copies:
        assert row.status == "done", row.reason
        return
    assert (row.status, row.seconds) == ("failed", {})
    assert "is split over 2 multi-frame files" in row.reason and "--format" in row.reason
    (plain,) = run(predictor, tmp_path / "in", tmp_path / "plain", "")
    assert plain.status == "done"


def replace_slices(whole: Series, part: slice) -> Series:
    return dataclasses.replace(whole, heights=whole.heights[part], stored=whole.values()[part])


def test_ledger_table_and_log_hold_hashes_and_no_name(predictor: Predictor, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    series().write(tmp_path / "in")
    run(predictor, tmp_path / "in", tmp_path / "out", ALL)
    with sqlite3.connect(tmp_path / "out" / "predictions.sqlite") as connection:
        ledger = "\n".join(connection.iterdump())
    connection.close()
    texts = (ledger, (tmp_path / "out" / "predictions.csv").read_text(), (tmp_path / "out" / "labels.json").read_text(), caplog.text)
    for text in texts:
        for word in ("Secret", "SECRET", "1.2.3.", "2.25."):
            assert word not in text


@pytest.mark.parametrize("kind", ["dicom-seg", "rtstruct"])
def test_objects_of_a_tilted_series_lie_on_its_slices(kind: str, predictor: Predictor, tmp_path: Path) -> None:
    k, row, column = np.indices((25, 60, 60))
    heights = 2.5 * np.arange(25)
    shift = np.tan(np.radians(15)) * heights[:, None, None]
    inside = (column * 0.7 - 21) ** 2 + (row * 0.8 + shift - 32) ** 2 + (k * 2.5 - 30) ** 2 < 14**2
    way = series(stored=inside.astype(np.uint16), size=(60, 60), heights=heights, tilt=15)
    made: Made = way.write(tmp_path / "in")
    (done,) = run(predictor, tmp_path / "in", tmp_path / "out", kind)
    (path,) = (tmp_path / "out").glob("*.dcm")
    if kind == "dicom-seg":
        found = seg_points(read(path))[1]
        (true,) = true_points(made, inside.astype(int), (1,)).values()
        dice = 2 * len(found & true) / (len(found) + len(true))
        assert found == true_points(made, read_volume(tmp_path / "out" / done.output).array[0].T, (10,))[1]
    else:
        mask = rasterised(read(path), way, made)["organ"]
        dice = 2 * (mask & inside).sum() / (mask.sum() + inside.sum())
        assert np.array_equal(mask, read_volume(tmp_path / "out" / done.output).array[0].T == 10)
    assert dice >= 0.985


def test_objects_say_what_the_table_warns_of(make_model: MakeModel, tmp_path: Path) -> None:
    model = make_model()
    ranges = {
        "spacing_mm": {"lowest": [0.7, 0.7, 0.5], "highest": [0.8, 0.8, 1.0]},
        "channels": [{"name": "T2", "low": [0, 0], "high": [2, 2], "modality": "MR"}],
    }
    told = {"training_data": {**ranges, "label_ml": {"10": [50.0, 60.0], "255": [0.0, 1.0]}}}
    odd = Predictor([dataclasses.replace(model, document={**model.document, **told})])
    series(tilt=15).write(tmp_path / "in")
    (row,) = run(odd, tmp_path / "in", tmp_path / "out", ALL)
    assert row.status == "done", row.reason
    for phrase in ("tilted by 15", "made upright", "T2 is CT, in training MR", "spacing along z is 2.", "organ has 0."):
        assert phrase in row.warning
    files = sorted((tmp_path / "out").glob("*.dcm"))
    assert [faults(path) for path in files] == [[]] * 4
    contours, overview, seg, _ = map(read, files)
    whole = f"Made by research software. Not for diagnosis. Warnings: {row.warning}"
    assert seg.ImageComments == overview.ImageComments == contours.StructureSetDescription == whole
    assert {item.SegmentDescription for item in seg.SegmentSequence} == {whole}
    assert all("warnings, not for diagnosis" in read(path).SeriesDescription for path in files)
    assert "; ".join(comments(files[3])[1:]) == row.warning


def test_what_cannot_be_asked_for_is_refused(predictor: Predictor, tmp_path: Path) -> None:
    series().write(tmp_path / "in")
    for words, match in (("sr", "dicom-seg,sr"), ("dicom", "for DICOM series also dicom-seg"), ("nrrd,mha,sc", "one format")):
        with pytest.raises(ConfigError, match=match):
            run(predictor, tmp_path / "in", tmp_path / "out", words)
    assert not (tmp_path / "out").exists()


def test_a_fault_while_one_is_written_leaves_no_half_of_it(predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    series().write(tmp_path / "in")
    from segpipe.dicom.writing import results

    monkeypatch.setattr(results, "structure_set", lambda *_: (_ for _ in ()).throw(ValueError("Secret^Name")))
    (row,) = run(predictor, tmp_path / "in", tmp_path / "out", "dicom-seg,rtstruct")
    assert row.status == "failed"
    assert "DICOM results cannot be made (ValueError)" in row.reason
    assert "Secret" not in row.reason
    monkeypatch.undo()
    assert [path.name for path in (tmp_path / "out").glob("*.dcm")] == []
    (row,) = run(predictor, tmp_path / "in", tmp_path / "out", "dicom-seg,rtstruct")
    assert row.status == "done"
    assert all(pydicom.dcmread(path).PixelData for path in (tmp_path / "out").glob("*_seg.dcm"))


def test_objects_of_a_call_that_ended_before_the_label_map_are_known_to_the_next_one(
    predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    series().write(tmp_path / "in")
    out = tmp_path / "out"

    def full(*_: object) -> None:
        raise ConfigError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr("segpipe.inference.segment.write_label_map", full)
        with pytest.raises(ConfigError, match="the disk is full"):
            run(predictor, tmp_path / "in", out, "dicom-seg")
    [left] = out.glob("*_seg.dcm")
    (row,) = run(predictor, tmp_path / "in", out, "")
    assert row.status == "done"
    assert (left.exists(), left.with_name(f"{left.name}.outdated").exists()) == (False, True)


def test_slices_in_an_archive_are_referred_to_like_those_in_a_folder(predictor: Predictor, tmp_path: Path) -> None:
    made = series(axes=turned(11, -23, 31)).write(tmp_path / "slices")
    (tmp_path / "in").mkdir()
    with zipfile.ZipFile(tmp_path / "in" / "cd.zip", "w") as archive:
        for path in made.paths:
            archive.write(path, f"a/{path.name}")
    (row,) = run(predictor, tmp_path / "in", tmp_path / "out", ALL)
    (plain,) = run(predictor, tmp_path / "slices", tmp_path / "plain", ALL)
    for end in ("seg", "rtstruct", "sr", "sc"):
        one, other = (read(tmp_path / out / f"{case}_{end}.dcm") for out, case in (("out", row.case), ("plain", plain.case)))
        assert one.SOPInstanceUID == other.SOPInstanceUID
    assert seg_points(read(tmp_path / "out" / f"{row.case}_seg.dcm")) == true_points(made, truth(), (10, 255))


def test_a_model_without_a_label_table_goes_with_one_that_has_it(make_model: MakeModel, tmp_path: Path) -> None:
    term = parse_term(["SCT 91772007 Organ"])
    labels = (Label(0, 0, "background"), Label(1, 10, "organ", term, (1, 2, 3)), Label(2, 255, "tumour"))
    both = Predictor([make_model("coded.ts", labels=labels), make_model("plain.ts")])
    assert facts_from_json(json.loads(json.dumps(dataclasses.asdict(facts_of(both))))) == facts_of(both)
    series().write(tmp_path / "in")
    (row,) = run(both, tmp_path / "in", tmp_path / "out", "dicom-seg")
    ds = read(tmp_path / "out" / f"{row.case}_seg.dcm")
    assert ds.SegmentSequence[0].SegmentationAlgorithmIdentificationSequence[0].AlgorithmVersion.startswith("2 models ")
    first, second = ds.SegmentSequence
    assert first.SegmentedPropertyTypeCodeSequence[0].CodeValue == "91772007"
    assert second.SegmentedPropertyTypeCodeSequence[0].CodeMeaning == "Anatomical Structure"
