import csv
import errno
import io
import json
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from PIL import Image
from rich.console import Console

from segpipe.commands.evaluate import EvaluateOptions, evaluate
from segpipe.errors import ConfigError, DataError
from segpipe.evaluation.overlap import dice_per_class
from tests.bundle.conftest import made as made  # noqa: PLC0414 - the fixture

DATA = Path(os.environ.get("SEGPIPE_DATA", Path(__file__).parents[2].parent / "shared" / "data"))
AFFINE = np.array([[0.0, -0.8, 0.0, 5.0], [0.7, 0.0, 0.1, -3.0], [0.0, 0.0, 2.5, 9.0], [0.0, 0.0, 0.0, 1.0]])


def phantom(seed: int, shape=(20, 18, 8)) -> np.ndarray:
    """Two touching blobs with the values 2 and 7, a little different for each seed."""
    centre = np.array(shape) / 2 + np.random.default_rng(seed).uniform(-1, 1, 3)
    i, j, k = (axis - c for axis, c in zip(np.indices(shape), centre, strict=True))
    inside = (i / 6) ** 2 + (j / 5) ** 2 + (k / 3) ** 2 <= 1
    return (inside * np.where(i > 0, 7, 2)).astype(np.uint8)


def save(path: Path, array: np.ndarray, affine=AFFINE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, affine), path)


def text_of(outcome) -> str:
    console = Console(width=80, file=io.StringIO(), record=True)
    for item in outcome.shown:
        console.print(item)
    return console.export_text()


@pytest.fixture
def study(tmp_path):
    """Three cases in subfolders; labels.json as `predict` leaves it."""
    for case in range(3):
        save(tmp_path / "truth" / "site" / f"case_{case}.nii.gz", phantom(case))
        save(tmp_path / "out" / "site" / f"case_{case}.nii.gz", phantom(case + 10))
    (tmp_path / "out" / "labels.json").write_text('{"background": 0, "labels": {"2": "PZ", "7": "TZ"}}', encoding="utf-8")
    (tmp_path / "out" / "predictions.csv").write_text("case\n", encoding="utf-8")
    return tmp_path


def test_a_folder_is_measured_and_all_results_are_written(study):
    options = EvaluateOptions(json=study / "r" / "scores.json", csv=study / "r" / "scores.csv", plots=study / "r" / "plots")
    outcome = evaluate(study / "out", study / "truth", options)
    assert outcome.exit_code == 0
    document = json.loads((study / "r" / "scores.json").read_text(encoding="utf-8"))
    assert document["labels"] == {"2": "PZ", "7": "TZ"}
    assert [row["case"] for row in document["cases"]] == [f"site/case_{i}" for i in range(3) for _ in range(2)]
    expected = dice_per_class(phantom(11), phantom(1), 8)
    assert [row["dice"] for row in document["cases"][2:4]] == pytest.approx([expected[1], expected[6]])
    low, high = document["summary"]["mean"]["dice"]["ci95"]
    assert low <= document["summary"]["mean"]["dice"]["mean"] <= high
    with (study / "r" / "scores.csv").open(encoding="utf-8") as file:
        assert len(list(csv.DictReader(file))) == 6
    assert sorted(path.name for path in (study / "r" / "plots").iterdir()) == [
        "assd_mm.png", "dice.png", "hd95_mm.png", "iou.png", "surface_dice.png",
        "volume_difference_ml.png",
    ]  # fmt: skip
    text = text_of(outcome)
    assert "PZ" in text
    assert "TZ" in text
    assert max(map(len, text.splitlines())) <= 80 or str(study) in text


def test_figures_equal_monai_on_files_with_another_spacing_and_orientation(study):
    import torch
    from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance, compute_surface_dice

    affine = np.diag([0.7, 0.8, 2.5, 1.0])[[1, 2, 0, 3]]
    save(study / "one" / "a.nii.gz", phantom(3), affine)
    save(study / "two" / "a.nii.gz", phantom(14), affine)
    evaluate(study / "one", study / "two", EvaluateOptions(json=study / "r.json", tolerance_mm=1.1))
    rows = json.loads((study / "r.json").read_text(encoding="utf-8"))["cases"]
    sides = [torch.from_numpy(np.stack([array == value for value in (2, 7)])[None]).float() for array in (phantom(3), phantom(14))]
    kept = {"include_background": True, "spacing": (0.7, 0.8, 2.5)}
    hd95 = compute_hausdorff_distance(*sides, percentile=95, **kept)[0].tolist()
    assd = compute_average_surface_distance(*sides, symmetric=True, **kept)[0].tolist()
    near = compute_surface_dice(*sides, [1.1, 1.1], **kept)[0].tolist()
    assert [row["hd95_mm"] for row in rows] == pytest.approx(hd95, abs=1e-5)
    assert [row["assd_mm"] for row in rows] == pytest.approx(assd, abs=1e-5)
    assert [row["surface_dice"] for row in rows] == pytest.approx(near, abs=1e-6)


def test_a_missing_prediction_gives_results_and_exit_code_3(study):
    (study / "out" / "site" / "case_1.nii.gz").unlink()
    save(study / "out" / "extra.nii.gz", phantom(0))
    outcome = evaluate(study / "out", study / "truth", EvaluateOptions(json=study / "r.json"))
    assert outcome.exit_code == 3
    document = json.loads((study / "r.json").read_text(encoding="utf-8"))
    assert document["missing"] == {"prediction": ["site/case_1"], "truth": ["extra"]}
    assert document["summary"]["2"]["dice"]["n"] == 2
    assert "site/case_1" in text_of(outcome)


def test_missing_predictions_can_be_allowed(study):
    (study / "out" / "site" / "case_1.nii.gz").unlink()
    assert evaluate(study / "out", study / "truth", EvaluateOptions(allow_missing=True)).exit_code == 0


def test_a_broken_case_is_told_and_the_others_are_measured(study):
    (study / "out" / "site" / "case_0.nii.gz").write_bytes(b"\x1f\x8b broken")
    outcome = evaluate(study / "out", study / "truth", EvaluateOptions(json=study / "r.json"))
    assert outcome.exit_code == 3
    document = json.loads((study / "r.json").read_text(encoding="utf-8"))
    assert [row["case"] for row in document["errors"]] == ["site/case_0"]
    assert "case_0.nii.gz" in document["errors"][0]["error"]
    assert len(document["cases"]) == 4


def test_a_single_pair_in_two_formats_is_measured(study):
    save(study / "a.nii.gz", phantom(1), np.diag([-0.7, -0.8, 2.5, 1.0]))
    image = SimpleITK.ReadImage(str(study / "a.nii.gz"))
    SimpleITK.WriteImage(image, str(study / "b.nrrd"))
    outcome = evaluate(study / "b.nrrd", study / "a.nii.gz", EvaluateOptions(json=study / "r.json", label_names={"2": "mine"}))
    document = json.loads((study / "r.json").read_text(encoding="utf-8"))
    assert outcome.exit_code == 0
    assert document["labels"] == {"2": "mine", "7": "label 7"}
    assert [row["dice"] for row in document["cases"]] == [1.0, 1.0]
    assert document["summary"]["2"]["dice"]["ci95"] is None


def test_masks_of_pictures_are_measured_with_their_pixel_error(tmp_path):
    truth, predicted = np.zeros((2, 30, 40), np.uint8)
    truth[5:20, 5:30], predicted[5:20, 5:29] = 255, 255
    for name, array in (("p", predicted), ("t", truth)):
        (tmp_path / name).mkdir()
        Image.fromarray(array).save(tmp_path / name / "00.png")
    outcome = evaluate(tmp_path / "p", tmp_path / "t", EvaluateOptions(json=tmp_path / "r.json"))
    document = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))
    assert document["labels"] == {"255": "label 255"}
    assert document["cases"][0]["pixel_error"] == pytest.approx(15 / 1200)
    assert document["unit"] == "pixel"
    assert "HD95 px" in text_of(outcome)


def test_same_input_gives_the_same_bytes(study):
    for name in ("one", "two"):
        evaluate(study / "out", study / "truth", EvaluateOptions(json=study / name, csv=study / f"{name}.csv"))
    assert (study / "one").read_bytes() == (study / "two").read_bytes()
    assert (study / "one.csv").read_bytes() == (study / "two.csv").read_bytes()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"tolerance_mm": -1.0}, "--tolerance is -1"),
        ({"tolerance_mm": float("nan")}, "--tolerance is nan"),
        ({"resamples": 5}, "--resamples is 5"),
        ({"seed": -1}, "--seed is -1"),
        ({"threads": -1}, "--threads is -1"),
        ({"plots": Path("plots.png")}, "must be a folder"),
        ({"label_names": {"x": "y"}}, "whole number"),
    ],
)
def test_bad_options_are_refused_by_name(study, options, words):
    with pytest.raises(ConfigError, match=words):
        evaluate(study / "out", study / "truth", EvaluateOptions(**options))


def test_places_that_cannot_be_written_are_refused_before_measuring(study):
    with pytest.raises(ConfigError, match="a folder has that name"):
        evaluate(study / "out", study / "truth", EvaluateOptions(json=study))
    with pytest.raises(ConfigError, match=r"predictions\.csv"):
        evaluate(study / "out", study / "truth", EvaluateOptions(csv=study / "out" / "predictions.csv" / "scores.csv"))


def test_a_full_disk_is_one_line(study, monkeypatch):
    def full(self, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(ConfigError, match="No space left") as caught:
        evaluate(study / "out", study / "truth", EvaluateOptions(json=study / "r.json"))
    assert "\n" not in str(caught.value)
    assert not (study / "r.json").exists()


def test_missing_and_empty_places_are_refused(study):
    with pytest.raises(DataError, match="nowhere"):
        evaluate(study / "nowhere", study / "truth")
    (study / "empty").mkdir()
    with pytest.raises(DataError, match="empty"):
        evaluate(study / "out", study / "empty")


@pytest.mark.skipif(not (DATA / "Task04_Hippocampus").is_dir(), reason="real scans are not here (SEGPIPE_DATA)")
def test_real_label_maps_against_themselves_are_perfect_and_named(tmp_path):
    truth = DATA / "Task04_Hippocampus" / "labelsTr"
    (tmp_path / "p").mkdir()
    for path in sorted(truth.glob("*.nii.gz"))[:3]:
        (tmp_path / "p" / path.name).symlink_to(path)
    outcome = evaluate(tmp_path / "p", truth, EvaluateOptions(json=tmp_path / "r.json", allow_missing=True))
    document = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))
    assert outcome.exit_code == 0
    assert document["labels"] == {"1": "Anterior", "2": "Posterior"}
    figures = document["summary"]["mean"]
    assert (figures["dice"]["mean"], figures["hd95_mm"]["mean"], figures["surface_dice"]["mean"]) == (1.0, 0.0, 1.0)


def test_swapped_folders_are_pointed_out_and_one_folder_is_refused(study, caplog):
    evaluate(study / "out", study / "truth")
    assert "swapped" not in caplog.text
    evaluate(study / "truth", study / "out")
    assert "were PRED and TRUTH swapped?" in caplog.text
    with pytest.raises(ConfigError, match="is given as prediction and as truth"):
        evaluate(study / "out", study / "out")


def test_a_scan_given_as_truth_is_one_line(study):
    noise = np.random.default_rng(0).integers(0, 3000, phantom(0).shape).astype(np.int16)
    for case in range(3):
        save(study / "truth" / "site" / f"case_{case}.nii.gz", noise)
    with pytest.raises(DataError, match=r"a label map has at most 256: is it a scan\?"):
        evaluate(study / "out", study / "truth")


def test_intervals_of_few_cases_are_put_into_words(study):
    assert "3 cases only: the intervals say little" in " ".join(text_of(evaluate(study / "out", study / "truth")).split())


def test_a_name_for_a_value_that_no_truth_holds_is_pointed_out(study, caplog):
    outcome = evaluate(study / "out", study / "truth", EvaluateOptions(label_names={"2": "gland", "5": "foo"}))
    assert outcome.exit_code == 0 and "gland" in text_of(outcome)
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [
        "--label 5=foo: no truth holds a label 5, the name is not used: check the value"
    ]


@pytest.mark.parametrize("kind", ["folder", "package.zip", "model.ts", "model.onnx"])
def test_a_model_or_package_is_told_to_predict_first(study, made, kind):
    given = made / kind if kind != "model.onnx" else study / "model.onnx"
    if kind == "model.onnx":
        given.write_bytes(b"onnx")
    for pair in ((given, study / "truth"), (study / "out", given)):
        with pytest.raises(
            DataError, match=f"{kind}: is a model or a package, and label maps are compared: segpipe predict .* SCANS OUT, then"
        ):
            evaluate(*pair)
