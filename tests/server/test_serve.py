"""A server as its users meet it: the command, a scan over HTTP, the label map back."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

pytest.importorskip("fastapi")

from tests.server.conftest import Server

Run = Callable[..., Any]


def labels_in(data: bytes, folder: Path) -> Any:
    path = folder / "back.nii.gz"
    path.write_bytes(data)
    return nib.load(path)


def test_a_scan_gives_the_label_map_of_segpipe_predict(served: Server, scan: Path, package: Path, tmp_path: Path, segpipe: Run) -> None:
    job = served.send(scan)
    assert (job["state"] in ("queued", "running", "done"), job["name"], job["model"]) == (True, scan.name, "blocks-thresholds")
    job = served.ended(job["id"])
    assert (job["state"], job["error"], job["progress"], job["stage"]) == ("done", None, 1.0, "done")
    run = segpipe("predict", str(package), str(scan), str(tmp_path / "out"), "--device", "cpu", "--threads", "1")
    assert run.returncode == 0, run.stderr
    expected = nib.load(tmp_path / "out" / scan.name)
    found = labels_in(served.result(job["id"]), tmp_path)
    assert np.array_equal(np.asarray(found.dataobj), np.asarray(expected.dataobj))
    assert np.array_equal(found.affine, expected.affine)
    [row] = csv.DictReader((tmp_path / "out" / "predictions.csv").read_text(encoding="utf-8").splitlines())
    assert "; ".join(job["warnings"]) == row["warning"]
    voxels = {one["value"]: one["voxels"] for one in job["volumes"]}
    assert voxels == {value: int((np.asarray(expected.dataobj) == value).sum()) for value in (10, 255)}
    assert voxels[10] > 0
    assert voxels[255] > 0


def test_a_sample_of_the_package_is_segmented_as_was_promised(served: Server, made: Path, tmp_path: Path) -> None:
    [model] = served.client.get("/v1/models").json()["models"]
    document = json.loads((made / "folder" / "segpipe.json").read_text(encoding="utf-8"))
    assert (model["id"], model["version"], model["name"]) == (document["name"], document["version"], document["card"]["title"])
    assert model["licences"] == {"code": "Apache-2.0", "weights": "CC-BY-4.0", "samples": "CC0-1.0"}
    [sample] = model["samples"]
    [file] = document["samples"][0]["images"]
    assert served.client.get(sample["url"]).content == (made / "folder" / file).read_bytes()
    job = served.ended(served.client.post("/v1/jobs", files={"sample": (None, sample["name"])}).json()["id"])
    expected = nib.load(made / "folder" / document["samples"][0]["expected"])
    found = labels_in(served.result(job["id"]), tmp_path)
    assert np.array_equal(np.asarray(found.dataobj), np.asarray(expected.dataobj))
    assert {one["name"]: one["voxels"] for one in job["volumes"]} == document["samples"][0]["voxels"]
    assert served.client.get(job["image"]).content == (made / "folder" / file).read_bytes()
    assert served.client.post("/v1/jobs", files={"sample": (None, "none")}).status_code == 404
    assert served.client.get("/v1/models/blocks-thresholds/samples/segpipe.json").status_code == 404


def test_the_card_is_a_page_that_runs_nothing(served: Server, made: Path) -> None:
    answer = served.client.get("/v1/models/blocks-thresholds/card")
    assert answer.content == (made / "folder" / "docs" / "card.html").read_bytes()
    assert "form-action 'none'" in answer.headers["content-security-policy"]  # of which default-src says nothing
    assert answer.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
