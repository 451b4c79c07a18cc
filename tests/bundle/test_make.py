"""A package: what it says, that it proves itself, and that others can read it."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import jsonschema
import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image

from segpipe.bundle import make
from segpipe.bundle.card import read_card
from segpipe.bundle.guide import MISSING
from segpipe.bundle.layout import CARD as CARD_FILE
from segpipe.bundle.layout import DOCUMENT, INFERENCE, METADATA, MODEL, MODELHUB, PAGE
from segpipe.bundle.make import Sources, make_package
from segpipe.bundle.modelhub import modelhub_config
from segpipe.bundle.monai import metadata
from segpipe.bundle.open import open_package
from segpipe.bundle.samples import differences, proves
from segpipe.bundle.unpack import model_in
from segpipe.bundle.verify import verify
from segpipe.commands.export import export
from segpipe.errors import ConfigError, DataError, ModelError
from segpipe.geometry.grid import Grid, Volume
from segpipe.io.read import read_volume
from segpipe.io.write import write_label_map, write_volume
from segpipe.network.build import build_network
from segpipe.package.export import export_kinds, export_model
from segpipe.package.model_file import Kind
from tests.bundle.conftest import PLAN, TRAINING_DATA, change_document, put, write_card
from tests.conftest import REPOSITORY, Run
from tests.inference.conftest import Thresholds

LABELS = "samples/labels/sample-01.nii.gz"


def sources(made: Path, **changes: Any) -> Sources:
    values: dict[str, Any] = {"model": made / "model.ts", "more": (), "run": None, "samples": made / "scans"}
    return Sources(**{**values, "card": read_card(made / "card.yaml"), **changes})


@pytest.mark.parametrize("form", ["folder", "package.zip"])
def test_a_package_proves_itself(made: Path, form: str) -> None:
    verdict = verify(made / form, "cpu")
    assert verdict.passed
    assert {(label.label, label.dice, label.voxels) for one in verdict.compared for label in one.labels} == {
        ("organ", 1.0, 0),
        ("tumour", 1.0, 0),
    }
    assert verdict.other_versions == []


def test_the_document_says_what_the_model_knows(made: Path) -> None:
    document = open_package(made / "folder").document
    assert document["labels"][1] == {
        "value": 10,
        "name": "organ",
        "colour": [1, 2, 3],
        "category": {"value": "91723000", "scheme": "SCT", "meaning": "Anatomical Structure"},
        "type": {"value": "41216001", "scheme": "SCT", "meaning": "Prostate"},
        "modifier": None,
    }
    envelope = document["envelope"]
    assert {key: envelope[key] for key in TRAINING_DATA} == TRAINING_DATA
    assert (envelope["modality"], envelope["pictures"], envelope["field_of_view_mm"]) == ("MR", False, None)
    assert document["metrics"]["dice"]["organ"] == {"mean": 0.9, "low": None, "high": None, "cases": None}


def test_neither_names_of_scans_nor_headers_travel(made: Path, tmp_path: Path) -> None:
    source = nib.load(made / "scans" / "mueller_hans_1950.nii.gz")
    source.header["descrip"] = b"Mueller, Hans"
    (tmp_path / "scans").mkdir()
    nib.save(source, tmp_path / "scans" / "mueller.nii.gz")
    package = make_package(sources(made, samples=tmp_path / "scans"), tmp_path / "package", "cpu")
    for path in package.path.rglob("*"):
        assert "mueller" not in path.name.lower()
        if path.is_file():
            content = nib.load(path).header.binaryblock if path.suffix == ".gz" else path.read_bytes()
            assert b"mueller" not in content.lower(), path
    image = read_volume(package.path / "samples/images/sample-01.nii.gz")
    np.testing.assert_array_equal(image.array, read_volume(made / "scans" / "mueller_hans_1950.nii.gz").array)


def test_the_same_sources_give_the_same_files(made: Path) -> None:
    files = [path for path in (made / "folder").rglob("*") if path.is_file()]
    with zipfile.ZipFile(made / "package.zip") as archive:
        assert sorted(archive.namelist()) == sorted(path.relative_to(made / "folder").as_posix() for path in files)
        document = json.loads(archive.read(DOCUMENT))
    other = json.loads((made / "folder" / DOCUMENT).read_text())
    assert document["id"] == other["id"]
    assert document["files"][MODEL] == other["files"][MODEL]
    assert document["files"][CARD_FILE] == other["files"][CARD_FILE]


def test_a_package_that_is_there_is_never_replaced(made: Path, tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    with pytest.raises(ConfigError, match="is there already"):
        make_package(sources(made), tmp_path / "package", "cpu")


def test_a_sample_in_which_nothing_is_found_is_refused_and_leaves_nothing(made: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    write_volume(tmp_path / "in" / "air.nii.gz", Volume(np.zeros((1, 9, 9, 9), np.float32), Grid((9, 9, 9), np.eye(4))))
    with pytest.raises(DataError, match="finds nothing"):
        make_package(sources(made, samples=tmp_path / "in"), tmp_path / "out" / "package", "cpu")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_label_map_that_differs_is_named(folder: Path) -> None:
    expected = read_volume(folder / LABELS)
    array = expected.array[0].copy()
    array[array == 255] = 10
    write_label_map(folder / LABELS, array, expected.grid)
    put(folder, LABELS, (folder / LABELS).read_bytes())
    with pytest.raises(DataError, match="other voxels than"):
        verify(folder, "cpu")
    change_document(folder, lambda d: d["samples"][0].update(voxels={"organ": int((array == 10).sum()), "tumour": 0}))
    change_document(folder, lambda d: d["made_with"].update(torch="2.1.0"))
    verdict = verify(folder, "cpu")
    assert not verdict.passed
    assert {label.label for one in verdict.compared for label in one.labels if not label.fits} == {"organ", "tumour"}
    assert any(text.startswith("torch 2.1.0, here ") for text in verdict.other_versions)


@pytest.mark.parametrize(("moved", "fits"), [(0, True), (4, True), (40, False)])
def test_small_labels_may_differ_in_a_few_voxels(moved: int, fits: bool) -> None:
    expected = np.zeros((10, 10, 10), np.uint8)
    expected[:5] = 10
    found = expected.copy()
    found[5].flat[:moved] = 10
    organ = differences(expected, found, PLAN, {"dice": 0.99, "voxels": 4})[0]
    assert (organ.voxels, organ.fits) == (moved, fits)
    assert organ.dice == pytest.approx(2 * 500 / (1000 + moved))


def test_a_package_is_unpacked_once_and_again_when_it_was_changed(archive: Path, cache: Path) -> None:
    model = model_in(archive)
    assert cache in model.parents
    before = model.stat().st_mtime_ns
    assert model_in(archive) == model
    assert model.stat().st_mtime_ns == before
    content = model.read_bytes()
    model.write_bytes(b"changed")
    assert model_in(archive).read_bytes() == content


def test_a_package_that_somebody_zipped_with_its_folder_is_read(folder: Path, tmp_path: Path) -> None:
    shutil.make_archive(str(tmp_path / "zipped"), "zip", folder.parent, folder.name)
    assert open_package(tmp_path / "zipped.zip").label == "blocks-thresholds@1.2"


def test_what_is_missing_is_marked_as_missing(made: Path) -> None:
    page, text = ((made / "folder" / name).read_text(encoding="utf-8") for name in (PAGE, CARD_FILE))
    assert f'<th>Funding</th><td class="missing">{MISSING}</td>' in page
    assert f"**Funding.** **{MISSING}**" in text
    assert "**Limitations.** Blocks only." in text
    assert "Organ and tumour &lt;b&gt;by&lt;/b&gt; thresholds" in page
    assert "Finds \\| blocks." in text
    assert "SCT 41216001 Prostate" in page


TENSOR = {
    "type": "object",
    "required": ["type", "format", "num_channels", "spatial_shape", "dtype", "value_range"],
    "properties": {"num_channels": {"type": "integer"}, "value_range": {"type": "array", "items": {"type": "number"}}},
}
IO = {"type": "object", "minProperties": 1, "additionalProperties": TENSOR}
META_SCHEMA = {
    "type": "object",
    "required": [
        *("schema", "version", "monai_version", "pytorch_version", "numpy_version", "required_packages_version", "task", "description"),
        *("authors", "copyright", "network_data_format"),
    ],
    "properties": {
        **{key: {"type": "string"} for key in ("version", "monai_version", "pytorch_version", "numpy_version", "task", "description")},
        **{key: {"type": "string"} for key in ("authors", "copyright", "data_type", "pred_classes", "intended_use")},
        "changelog": {"type": "object"},
        "references": {"type": "array", "items": {"type": "string"}},
        "network_data_format": {"type": "object", "required": ["inputs", "outputs"], "properties": {"inputs": IO, "outputs": IO}},
    },
}
"""What MONAI's specification of bundles asks of `metadata.json`."""


@pytest.mark.filterwarnings("ignore::UserWarning:monai")
@pytest.mark.filterwarnings("ignore:.*target.*:UserWarning")
def test_monai_verifies_and_runs_it_as_a_bundle(folder: Path, tmp_path: Path) -> None:
    from monai.bundle import run, verify_metadata

    schema = tmp_path / "schema.json"  # instead of the one that MONAI would fetch from the web
    schema.write_text(json.dumps(META_SCHEMA))
    verify_metadata(meta_file=str(folder / METADATA), filepath=str(schema))
    run(config_file=str(folder / INFERENCE), meta_file=str(folder / METADATA), bundle_root=str(folder))
    made = read_volume(folder.with_name(f"{folder.name}_labels") / "sample-01.nii.gz")
    expected = read_volume(folder / LABELS)
    np.testing.assert_array_equal(made.array, expected.array)
    assert made.grid.same_as(expected.grid)
    open_package(folder)  # and it is still whole


@pytest.mark.filterwarnings("ignore::UserWarning:monai")
@pytest.mark.filterwarnings("ignore:.*target.*:UserWarning")
def test_monai_gives_the_voxels_of_predict_on_scans_that_lie_askew(folder: Path, tmp_path: Path, segpipe: Run) -> None:
    from monai.bundle import run

    turn = np.array([[0.9, -0.3, 0.1], [0.35, 0.9, -0.2], [-0.05, 0.25, 0.95]]) * [0.7, 3.0, 1.1]
    affine = np.block([[np.linalg.qr(turn)[0] * [0.7, 3.0, 1.1], np.array([[5.0], [-9.0], [30.0]])], [np.zeros((1, 3)), np.ones((1, 1))]])
    array = np.random.default_rng(3).normal(0.8, 0.8, (1, 19, 7, 12)).astype(np.float32)
    write_volume(tmp_path / "askew" / "scan.nii.gz", Volume(array, Grid((19, 7, 12), affine)))
    run(
        config_file=str(folder / INFERENCE),
        bundle_root=str(folder),
        dataset_dir=str(tmp_path / "askew"),
        output_dir=str(tmp_path / "monai"),
    )
    done = segpipe("predict", str(folder), "askew", "out")
    assert done.returncode == 0, done.stderr
    one, other = (read_volume(tmp_path / place / "scan.nii.gz") for place in ("monai", "out"))
    assert set(np.unique(one.array)) == {0, 10, 255}
    np.testing.assert_array_equal(one.array, other.array)
    assert one.grid.same_as(other.grid)


def test_a_picture_that_does_not_go_into_a_package_is_named(made: Path, tmp_path: Path) -> None:
    plan = dataclasses.replace(PLAN, dims=2, orient=False, patch_size=(8, 8, 1), flips=(True, True, False))
    export_model(Thresholds(), plan, {}, tmp_path / "model.ts")
    (tmp_path / "in").mkdir()
    Image.fromarray(np.full((9, 9), 2.0, np.float32)).save(tmp_path / "in" / "cell.tif")
    with pytest.raises(DataError, match="cannot be a sample, which are PNG or NIfTI: 1 channels of float32 do not fit") as caught:
        make_package(sources(made, model=tmp_path / "model.ts", samples=tmp_path / "in"), tmp_path / "package", "cpu")
    assert str(caught.value).startswith(str(tmp_path / "in" / "cell.tif"))
    Image.fromarray(np.full((9, 9), 2, np.uint8)).save(tmp_path / "in" / "cell.tif")
    package = make_package(sources(made, model=tmp_path / "model.ts", samples=tmp_path / "in"), tmp_path / "package", "cpu")
    assert json.loads((package.path / METADATA).read_text())["data_type"] == "image"
    assert verify(package.path, "cpu").passed


def test_its_config_is_one_of_modelhub(made: Path) -> None:
    config = json.loads((made / "folder" / MODELHUB).read_text())
    text = {"type": "string"}
    section = {"type": "object", "additionalProperties": False}
    meta = dict.fromkeys(("name", "application_area", "task", "task_extended", "data_type"), text)
    model = dict.fromkeys(("description", "provenance", "architecture", "learning_type", "format"), text)
    ends = {"type": "object", "required": ["input", "output"]}
    schema = {
        **section,
        "required": ["id", "meta", "model", "modelhub"],
        "properties": {
            "id": text,
            "meta": {**section, "required": list(meta), "properties": {**meta, "data_source": text}},
            "model": {
                **section,
                "required": [*model, "io"],
                "properties": {**model, "io": ends},
            },
            "modelhub": {"type": "object"},
        },
    }
    jsonschema.validate(config, schema)
    assert config["model"]["io"]["output"][0]["type"] == "mask_image"
    assert len(config["model"]["io"]["input"]["single"]["dim_limits"]) == 4


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"version": 1.2}, "version: '1.2'"),
        ({"name": "Not A Name"}, "card.name is 'Not A Name'; must be small letters and digits"),
        ({"version": "one"}, "card.version is 'one'; must be one to three numbers"),
        ({"nonsense": "x"}, "unknown key 'nonsense' .workflows/card.yaml shows every key"),
        ({"modalty": "x"}, "unknown key 'modalty'; did you mean modality"),
        ({"licences": {"code": "MIT", "weights": "MIT"}}, "lacks the key samples"),
        ({"licences": {"code": "MIT", "weights": "mine", "samples": "MIT"}}, "licences.weights"),
        ({"licences": {"code": "MIT", "weights": "LicenseRef-Mine", "samples": "MIT"}}, "licence_files.weights"),
        ({"authors": []}, "card.authors"),
        ({"publication": {"title": "x"}}, "publication lacks"),
    ],
)
def test_a_card_that_does_not_tell_enough_is_refused(tmp_path: Path, changes: dict[str, Any], word: str) -> None:
    with pytest.raises(ConfigError, match=word) as caught:
        read_card(write_card(tmp_path / "card.yaml", **changes))
    assert str(tmp_path / "card.yaml") in str(caught.value)


def test_a_card_cannot_run_python(tmp_path: Path) -> None:
    (tmp_path / "card.yaml").write_text("name: !!python/object/apply:os.system ['touch owned']")
    with pytest.raises(ConfigError, match="is not YAML"):
        read_card(tmp_path / "card.yaml")


def test_a_card_with_words_that_others_would_run_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"card.limitations has the text '\$import os', which would run code"):
        read_card(write_card(tmp_path / "card.yaml", limitations="$import os"))


def test_a_package_that_would_be_refused_is_not_made_and_the_message_names_no_hidden_folder(made: Path, tmp_path: Path) -> None:
    card = dataclasses.replace(read_card(made / "card.yaml"), texts={"code": "x", "weights": " ", "samples": "x"})
    with pytest.raises(ModelError, match="the licence licences/weights.txt is empty") as caught:
        make_package(sources(made, card=card), tmp_path / "package", "cpu")
    assert str(caught.value).startswith(f"{tmp_path / 'package'}: not made")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("form", ["package", "package.zip"])
def test_of_two_who_make_one_package_the_second_is_refused(form: str, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other one is done while this one still writes: what it has put there stays."""
    out = tmp_path / form
    other = made / ("package.zip" if form.endswith(".zip") else "folder")

    def quicker(*words: Any) -> Any:
        shutil.copy(other, out) if other.is_file() else shutil.copytree(other, out)
        return fill(*words)

    fill = make._fill
    monkeypatch.setattr(make, "_fill", quicker)
    with pytest.raises(ConfigError, match="is there already"):
        make_package(sources(made), out, "cpu")
    assert [path.name for path in tmp_path.iterdir()] == [form]
    assert open_package(out).sha256 == open_package(other).sha256


def test_what_a_killed_maker_left_is_removed(made: Path, tmp_path: Path) -> None:
    """It holds weights and scans, and nobody would see it."""
    code = f"""
import os, pathlib, sys
from segpipe.bundle import make
from segpipe.bundle.card import read_card
make.open_package = lambda path: os._exit(9)
made = pathlib.Path({str(made)!r})
card = read_card(made / "card.yaml")
make.make_package(make.Sources(made / "model.ts", (), None, made / "scans", card), pathlib.Path({str(tmp_path)!r}) / "package", "cpu")
"""
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, timeout=200)
    assert done.returncode == 9
    assert len(list(tmp_path.iterdir())) == 1
    make_package(sources(made), tmp_path / "package", "cpu")
    assert [path.name for path in tmp_path.iterdir()] == ["package"]


def test_a_sample_with_no_more_voxels_than_may_differ_proves_nothing(made: Path, tmp_path: Path, folder: Path) -> None:
    """A network that finds nothing would pass."""
    array = np.zeros((1, 9, 9, 9), np.float32)
    array[0, 4, 4, 2:6] = 1.0  # the organ, by the thresholds of the tests' network
    (tmp_path / "in").mkdir()
    write_volume(tmp_path / "in" / "speck.nii.gz", Volume(array, Grid((9, 9, 9), np.eye(4))))
    with pytest.raises(DataError, match="it would prove nothing"):
        make_package(sources(made, samples=tmp_path / "in"), tmp_path / "package", "cpu")
    counts = open_package(folder).document["samples"][0]["voxels"]
    few = {"organ": 60, "tumour": 0}
    assert max(counts.values()) > 60
    assert not proves(few, {"dice": 0.99, "voxels": 64}) and proves(few, {"dice": 0.99, "voxels": 59})


def test_more_samples_than_a_package_holds_are_refused_before_one_is_segmented(made: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for number in range(65):
        (tmp_path / "in" / f"{number}.nii.gz").write_bytes(b"not even a scan")
    with pytest.raises(DataError, match="holds 65 scans; must be at most 64"):
        make_package(sources(made, samples=tmp_path / "in"), tmp_path / "package", "cpu")


@pytest.mark.parametrize(
    ("modality", "word"), [("CT", "are MR: correct the card"), ("Contrast-enhanced CT", "are MR"), ("T2-weighted MR", ""), ("MRI", "")]
)
def test_a_card_cannot_name_another_modality_than_the_training_had(made: Path, tmp_path: Path, modality: str, word: str) -> None:
    card = read_card(write_card(tmp_path / "card.yaml", modality=modality))
    if word:
        with pytest.raises(ConfigError, match=word):
            make_package(sources(made, card=card), tmp_path / "package", "cpu")
    else:
        make_package(sources(made, card=card), tmp_path / "package", "cpu")


def test_brackets_that_would_be_a_link_in_the_card_are_none(made: Path, tmp_path: Path) -> None:
    card = read_card(write_card(tmp_path / "card.yaml", summary="In [0, 1](closed), see [3](Smith).", title="\u03a9 [x](y)"))
    package = make_package(sources(made, card=card), tmp_path / "package", "cpu")
    text = (package.path / CARD_FILE).read_text(encoding="utf-8")
    assert "](" not in text
    assert "\u03a9" in text


def test_nobody_is_named_as_the_one_who_licenses_the_samples(made: Path) -> None:
    samples, weights = ((made / "folder" / "licences" / f"{what}.txt").read_text() for what in ("samples", "weights"))
    assert "A. Author" in weights
    assert "A. Author" not in samples
    assert json.loads((made / "folder" / METADATA).read_text())["copyright"].endswith("Samples: CC0-1.0")


@pytest.mark.parametrize(
    ("normalisation", "modality", "form", "span"),
    [("ct", "Computed tomography", "hounsfield", []), ("none", "MR", "magnitude", [0.0, 2.5]), ("zscore", "US", "raw", [])],
)
def test_monai_is_told_of_the_input_what_is_known(made: Path, normalisation: str, modality: str, form: str, span: list[float]) -> None:
    document = json.loads((made / "folder" / DOCUMENT).read_text())
    document["inputs"][0]["normalisation"] = normalisation
    document["envelope"]["modality"] = modality
    image = metadata(document, dict.fromkeys(("monai", "torch", "numpy", "segpipe"), "1"))["network_data_format"]["inputs"]["image"]
    assert (image["format"], image["value_range"]) == (form, span)


def test_modelhub_is_told_of_every_channel_and_of_no_network_that_nobody_knows(made: Path) -> None:
    document = json.loads((made / "folder" / DOCUMENT).read_text())
    document["inputs"] = [{"channel": name, "normalisation": "none"} for name in ("T1", "t1")]
    model = modelhub_config(document)["model"]
    assert [one["description"] for one in model["io"]["input"].values()] == ["T1", "t1"]
    assert model["architecture"] == "Not told"
    for target, told in (("", "Convolutional Neural Network (CNN)"), ("mine.Transformer", "mine.Transformer")):
        document["provenance"]["config"] = f"network: {{name: unet, target: '{target}'}}"
        assert modelhub_config(document)["model"]["architecture"] == told


def test_the_program_makes_verifies_describes_and_uses_a_package(made: Path, tmp_path: Path, segpipe: Run) -> None:
    words = [str(made / "model.ts"), "--card", str(made / "card.yaml"), "--samples", str(made / "scans"), "--device", "cpu"]
    done = segpipe("package", *words)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "blocks-thresholds-1.2.zip").is_file()
    verified = segpipe("verify", "blocks-thresholds-1.2.zip", "--device", "cpu")
    assert verified.returncode == 0, verified.stderr
    assert "PASS     blocks-thresholds@1.2" in verified.stdout
    shown = segpipe("describe", "blocks-thresholds-1.2.zip").stdout
    for word in ("CC-BY-4.0", "0.5 to 1, 0.5 to 1, 2 to 4 mm", "SCT 41216001 Prostate", "missing: ", "Nobody told how long"):
        assert word in shown
    segmented = segpipe("predict", "blocks-thresholds-1.2.zip", str(made / "scans"), "out", "--device", "cpu")
    assert segmented.returncode == 0, segmented.stderr
    with zipfile.ZipFile(tmp_path / "blocks-thresholds-1.2.zip") as archive:
        archive.extract(LABELS, tmp_path / "expected")
    found = read_volume(tmp_path / "out" / "mueller_hans_1950.nii.gz")
    np.testing.assert_array_equal(found.array, read_volume(tmp_path / "expected" / LABELS).array)


def test_a_package_is_exported_only_beside_itself(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--out model.onnx"):
        export(folder, None, ["onnx"])
    with pytest.raises(ModelError, match="is not one that this segpipe builds"):  # the tests' own network
        export(folder, tmp_path / "other.ts", ["ts"])
    open_package(folder)


def test_every_kind_of_model_file_of_a_package_proves_itself(made: Path, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    torch.manual_seed(0)
    network = build_network(PLAN.network, 1, 3, 3)
    files: dict[Kind, Path] = {"ts": tmp_path / "model.ts", "pt2": tmp_path / "model.pt2", "onnx": tmp_path / "model.onnx"}
    export_kinds(network, PLAN, {}, files)
    package = make_package(sources(made, model=files["ts"], more=(files["pt2"], files["onnx"])), tmp_path / "package", "cpu")
    verdict = verify(package.path, "cpu")
    assert [one.model for one in verdict.compared] == ["models/model.ts", "models/model.pt2", "models/model.onnx"]
    assert verdict.passed
    export(package.path, tmp_path / "again.ts", ["ts"])
    assert (tmp_path / "again.ts").is_file()
    torch.manual_seed(1)
    export_kinds(build_network(PLAN.network, 1, 3, 3), PLAN, {}, {"pt2": tmp_path / "model.pt2"})
    with pytest.raises(ConfigError, match="is another model"):
        make_package(sources(made, model=files["ts"], more=(files["pt2"],)), tmp_path / "mixed", "cpu")
    assert not (tmp_path / "mixed").exists()


def test_the_program_says_in_one_line_why_a_package_is_refused(folder: Path, segpipe: Run) -> None:
    (folder / "install.sh").write_text("x")
    for command in (["verify", str(folder)], ["describe", str(folder)], ["predict", str(folder), str(folder), "out"]):
        done = segpipe(*command)
        assert (done.returncode, done.stdout) == (5, "")
        assert len(done.stderr.splitlines()) == 1
        assert "'install.sh', which is no part of a package" in done.stderr
