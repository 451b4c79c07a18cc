"""Scans of every kind through one server: several channels, DICOM, pictures, mirrorings; each label map is that of the engine alone."""

from __future__ import annotations

import csv
import dataclasses
import gzip
import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

pytest.importorskip("fastapi")

import segpipe
from segpipe.inference.task import FolderOptions
from segpipe.io.write import write_volume
from segpipe.package.export import export_model
from segpipe.plan.plan import Channel
from tests.bundle.conftest import PLAN, write_model
from tests.dicom.series import Series
from tests.inference.conftest import Thresholds, blocks_volume, expected_labels
from tests.server.conftest import Server

Models = dict[str, Path]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    folder = tmp_path_factory.mktemp("kinds")
    two = dataclasses.replace(PLAN, task="two", channels=(Channel("T2", "none"), Channel("ADC", "none")))
    picture = dataclasses.replace(
        PLAN,
        task="picture",
        dims=2,
        orient=False,
        patch_size=(8, 8, 1),
        network=dataclasses.replace(PLAN.network, kernels=((3, 3),), strides=((1, 1),)),
    )
    export_model(Thresholds(), two, {}, folder / "two.ts")
    export_model(Thresholds(flat=True), picture, {}, folder / "picture.ts")
    return {"test": write_model(folder / "test.ts"), "two": folder / "two.ts", "picture": folder / "picture.ts"}


@pytest.fixture(scope="module")
def server(models: Models, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("served")
    server = Server(list(models.values()), folder / "data", folder / "log", "--corrections", str(folder / "corrections"))
    yield server
    assert server.stop() == 0, server.log.read_text()


def engine(model: Path, source: Path, out: Path, format: str = "nii.gz", tta: bool = False) -> Path:
    """What `segpipe predict` makes of it: the folder."""
    rows = segpipe.predict_folder(segpipe.load_model(model, "cpu", tta=tta), source, out, FolderOptions(format))
    assert [row.status for row in rows] == ["done"], rows
    return out


def array_in(data: bytes) -> Any:
    return np.asarray(nib.Nifti1Image.from_bytes(gzip.decompress(data)).dataobj)


def zipped(folder: Path) -> Path:
    """All that lies below a folder, as an archive beside it."""
    path = folder.with_suffix(".zip")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                archive.write(file, file.relative_to(folder))
    return path


def test_the_models_tell_what_they_take(server: Server) -> None:
    told = {model["id"]: model for model in server.client.get("/v1/models").json()["models"]}
    assert set(told) == {"test", "two", "picture"}
    assert told["two"]["channels"] == ["T2", "ADC"]
    assert (told["picture"]["pictures"], told["test"]["pictures"]) == (True, False)
    assert [(label["value"], label["name"]) for label in told["test"]["labels"]] == [(0, "background"), (10, "organ"), (255, "tumour")]
    assert server.client.get("/v1/models/test").json() == told["test"]
    assert server.client.get("/v1/models/none").status_code == 404
    assert server.client.get("/v1/models/test/card").status_code == 404  # a bare model file


def test_a_series_gives_label_map_and_dicom_results(server: Server, models: Models, tmp_path: Path) -> None:
    stored = np.random.default_rng(0).integers(0, 3, (8, 7, 9)).astype(np.uint16)
    Series(modality="MR", stored=stored).write(tmp_path / "series")
    archive = zipped(tmp_path / "series")
    job = server.ended(server.send(archive, model="test")["id"])
    assert job["error"] is None, job
    assert set(job["results"]) == {"nifti", "json", "dicom-seg", "rtstruct", "sr"}, job["warnings"]
    out = engine(models["test"], archive, tmp_path / "out", "nii.gz,dicom-seg,rtstruct,sr")
    [path] = out.glob("*.nii.gz")
    expected, found = nib.load(path), nib.Nifti1Image.from_bytes(gzip.decompress(server.result(job["id"])))
    assert np.array_equal(np.asarray(found.dataobj), np.asarray(expected.dataobj))
    assert np.array_equal(found.affine, expected.affine)
    pydicom = pytest.importorskip("pydicom")
    for kind in ("dicom-seg", "rtstruct", "sr"):
        mine = pydicom.dcmread(io.BytesIO(server.result(job["id"], kind)))
        [theirs] = out.glob(f"*_{kind.removeprefix('dicom-')}.dcm")
        assert mine.SOPInstanceUID == pydicom.dcmread(theirs).SOPInstanceUID  # of the same content, see the DICOM writers
    image = nib.Nifti1Image.from_bytes(gzip.decompress(server.client.get(job["image"]).content))
    assert np.array_equal(np.asarray(image.dataobj), stored.transpose(2, 1, 0))
    assert np.allclose(image.affine, expected.affine)


def test_two_series_in_one_archive_are_told(server: Server, tmp_path: Path) -> None:
    Series(modality="MR").write(tmp_path / "both" / "a")
    Series(modality="MR", more={"SeriesInstanceUID": "1.2.3.9"}, number=5).write(tmp_path / "both" / "b")
    job = server.ended(server.send(zipped(tmp_path / "both"), model="test")["id"])
    assert job["state"] == "failed"
    assert job["error"].startswith("both.zip: holds 2 series that could be the scan")


def test_two_channels_come_in_the_models_order_or_by_name(server: Server, models: Models, tmp_path: Path) -> None:
    volume = blocks_volume(channels=2)
    for number, name in enumerate(("T2", "ADC")):
        write_volume(tmp_path / f"{name}.nii.gz", segpipe.Volume(volume.array[number : number + 1], volume.grid))
    expected = expected_labels(volume.array)
    assert not np.array_equal(expected, expected_labels(volume.array[::-1]))
    files = [tmp_path / "T2.nii.gz", tmp_path / "ADC.nii.gz"]
    jobs = [server.send(*files, model="two"), server.send(*files[::-1], model="two", channels='["adc", "T2"]')]
    for job in jobs:
        assert np.array_equal(array_in(server.result(server.ended(job["id"])["id"])), expected)
    turned = server.ended(server.send(*files[::-1], model="two")["id"])
    assert not np.array_equal(array_in(server.result(turned["id"])), expected)
    images = [
        nib.Nifti1Image.from_bytes(gzip.decompress(server.client.get(jobs[1]["image"], params={"channel": n}).content)) for n in (0, 1)
    ]
    assert all(np.array_equal(np.asarray(image.dataobj), volume.array[number]) for number, image in enumerate(images))
    assert "two takes 2" in server.send(files[0], files[0], files[0], model="two", status=400)["error"]
    assert "channels: must name each" in server.send(*files, model="two", channels='["T2", "T2"]', status=400)["error"]
    assert "channels: is not JSON" in server.send(*files, model="two", channels="T2,ADC", status=400)["error"]


def test_a_picture_gives_the_label_map_of_the_engine(server: Server, models: Models, tmp_path: Path) -> None:
    from PIL import Image

    Image.fromarray(np.random.default_rng(0).integers(0, 3, (17, 21)).astype(np.uint8)).save(tmp_path / "cells.png")
    job = server.ended(server.send(tmp_path / "cells.png", model="picture")["id"])
    assert job["error"] is None
    assert all(one["ml"] is None and one["voxels"] > 0 for one in job["volumes"])
    [path] = engine(models["picture"], tmp_path / "cells.png", tmp_path / "out").glob("*.nii.gz")
    assert np.array_equal(array_in(server.result(job["id"])), np.asarray(nib.load(path).dataobj))
    image = nib.Nifti1Image.from_bytes(gzip.decompress(server.client.get(job["image"]).content))
    assert image.shape[:2] == (17, 21)
    assert "takes volumes" in server.send(tmp_path / "cells.png", model="test", status=400)["error"]


def test_mirrorings_are_averaged_on_demand(server: Server, models: Models, tmp_path: Path) -> None:
    write_volume(tmp_path / "scan.mha", blocks_volume())
    job = server.ended(server.send(tmp_path / "scan.mha", model="test", tta="true")["id"])
    assert (job["tta"], job["error"]) == (True, None)
    [path] = engine(models["test"], tmp_path / "scan.mha", tmp_path / "out", tta=True).glob("*.nii.gz")
    assert np.array_equal(array_in(server.result(job["id"])), np.asarray(nib.load(path).dataobj))
    assert "tta: is no yes or no" in server.send(tmp_path / "scan.mha", model="test", tta="perhaps", status=400)["error"]


def test_the_summary_tells_what_made_it(server: Server, models: Models, tmp_path: Path) -> None:
    write_volume(tmp_path / "scan.nii.gz", blocks_volume())
    job = server.ended(server.send(tmp_path / "scan.nii.gz", model="test")["id"])
    told = json.loads(server.result(job["id"], "json"))
    import hashlib

    assert told["model_sha256"] == hashlib.sha256(models["test"].read_bytes()).hexdigest()
    assert told["volumes"] == job["volumes"]
    assert "not for diagnosis" in told["not_for_diagnosis"]
    assert [(one["value"], one["name"]) for one in told["volumes"]] == [(10, "organ"), (255, "tumour")]
    assert all(one["ml"] == pytest.approx(one["voxels"] * 1.0 * 1.5 * 3.0 / 1000) for one in told["volumes"])


def test_a_corrected_label_map_becomes_a_case_that_can_be_trained_on(server: Server, tmp_path: Path) -> None:
    write_volume(tmp_path / "scan.nii.gz", blocks_volume())
    job = server.ended(server.send(tmp_path / "scan.nii.gz", model="test")["id"])
    address = f"/v1/jobs/{job['id']}/correction"
    predicted = nib.Nifti1Image.from_bytes(gzip.decompress(server.result(job["id"])))
    array = np.asarray(predicted.dataobj).copy()
    array[0, 0, 0] = 255

    def sent(values: Any, affine: Any = predicted.affine) -> Any:
        return server.client.put(address, content=gzip.compress(nib.Nifti1Image(values, affine).to_bytes()))

    assert server.client.get(address).status_code == 404
    assert sent(array).json() == {"id": job["id"], "corrected": True}
    assert np.array_equal(array_in(server.client.get(address).content), array)
    from segpipe.dataset.load import load_dataset
    from segpipe.settings import DatasetSettings

    found = load_dataset(DatasetSettings(root=str(server.data.parent / "corrections")))
    case = f"scan_{job['id']}"
    assert [case.name for case in found.cases] == [case]
    assert (found.label_names, found.findings) == ({0: "background", 10: "organ", 255: "tumour"}, ())
    moved = predicted.affine.copy()
    moved[0, 3] += 1.0
    for values, affine, why in (
        (array, moved, "lies 1 mm from its scan"),
        (array[1:], predicted.affine, "must have those of its scan"),
        (np.where(array == 255, 7, array), predicted.affine, "holds the value 7"),
        (array.astype(np.float32) * 1.5, predicted.affine, "holds the value"),
    ):
        answer = sent(values, affine)
        assert answer.status_code == 400
        assert why in answer.json()["error"]
    table = server.data.parent / "corrections" / "corrections.csv"
    [row] = csv.DictReader(table.read_text(encoding="utf-8").splitlines())
    told = {"case": case, "scan": "scan.nii.gz", "job": job["id"], "model": "test", "version": job["version"]}
    assert row == {**told, "model_sha256": job["model_sha256"], "saved": row["saved"]}
    with table.open("rb+") as file:
        file.truncate(table.stat().st_size - 1)  # as a power cut may
    array[0, 0, 1] = 10
    assert sent(array).status_code == 200
    assert [case.name for case in load_dataset(DatasetSettings(root=str(table.parent))).cases] == [case]  # in its place
    rows = list(csv.DictReader(table.read_text(encoding="utf-8").splitlines()))
    assert [one["case"] for one in rows] == [case, case]
    assert server.client.put(address, content=b"").status_code == 400
    assert server.client.put(address, content=b"I am no scan").status_code == 400
    assert np.array_equal(array_in(server.client.get(address).content), array)


def test_prometheus_is_told_jobs_and_memory_and_no_names(server: Server) -> None:
    text = server.client.get("/metrics").text
    lines = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert float(lines['segpipe_jobs{state="done"}']) >= 1
    assert float(lines['segpipe_job_seconds_count{state="done"}']) >= 1
    assert float(lines["segpipe_queue_length"]) == 0
    assert float(lines['segpipe_memory_bytes{process="workers"}']) > 1e7
    assert "scan" not in text
