"""ModelHub's addresses, asked as its web pages and scripts ask."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("fastapi")

from segpipe.bundle.layout import MODELHUB
from segpipe.bundle.open import open_package
from segpipe.io.read import read_label
from segpipe.server.faults import RequestError
from segpipe.server.modelhub import in_order
from segpipe.server.upload import Form, Sent
from tests.server.conftest import Server

SAMPLE = "sample-01.nii.gz"


def test_the_config_the_licences_and_what_goes_in_and_out(served: Server, made: Path) -> None:
    config = json.loads((made / "folder" / MODELHUB).read_text())
    assert served.client.get("/api/get_config").json() == config
    assert served.client.get("/api/get_model_io").json() == config["model"]["io"]
    legal = served.client.get("/api/get_legal").json()
    assert set(legal) == {"modelhub_license", "modelhub_acknowledgements", "model_license", "sample_data_license"}
    assert "CC-BY-4.0" in legal["model_license"]
    assert "not for diagnosis" in legal["modelhub_acknowledgements"]


def test_the_files_of_the_model_are_a_package(served: Server, tmp_path: Path) -> None:
    answer = served.client.get("/api/get_model_files")
    assert zipfile.is_zipfile(io.BytesIO(answer.content))
    (tmp_path / "back.zip").write_bytes(answer.content)
    assert open_package(tmp_path / "back.zip").label == "blocks-thresholds@1.2"


def test_samples_are_addresses_that_give_scans(served: Server, made: Path) -> None:
    [address] = served.client.get("/api/get_samples").json()
    assert address == f"http://127.0.0.1:{served.port}/api/samples/{SAMPLE}"
    assert served.client.get(address).content == (made / "folder/samples/images" / SAMPLE).read_bytes()
    for name in ("nothing.nii.gz", "..%2F..%2Fsegpipe.json", "%2Fetc%2Fpasswd"):
        assert served.client.get(f"/api/samples/{name}").status_code == 404
    assert served.client.get("/api/thumbnail/thumbnail.jpg").status_code == 404


@pytest.mark.parametrize("way", ["sample", "upload"])
def test_a_scan_gives_the_label_map_of_predict(way: str, served: Server, made: Path, scan: Path, tmp_path: Path) -> None:
    if way == "sample":
        answer = served.client.get("/api/predict_sample", params={"filename": SAMPLE})
    else:
        answer = served.client.post("/api/predict", files={"file": (scan.name, scan.read_bytes())})
    assert answer.status_code == 200, answer.text
    told = answer.json()
    [output] = told["output"]
    assert set(output) == {"prediction", "shape", "type", "name", "description"}
    assert output["type"] == "mask_image"
    assert told["model"]["name"] == "blocks-thresholds"
    assert told["processing_time"] > 0
    (tmp_path / "back.nii.gz").write_bytes(served.client.get(output["prediction"]).content)
    found, expected = read_label(tmp_path / "back.nii.gz"), read_label(made / "folder/samples/labels" / SAMPLE)
    np.testing.assert_array_equal(found.array, expected.array)
    assert found.grid.same_as(expected.grid)
    assert tuple(output["shape"]) == expected.grid.shape


def test_addresses_of_elsewhere_are_not_fetched(served: Server) -> None:
    for address in ("http://127.0.0.1:1/scan.nii.gz", "file:///etc/passwd", ""):
        answer = served.client.get("/api/predict", params={"fileurl": address})
        assert answer.status_code == 403
        assert "fetches nothing" in answer.json()["error"]


def test_what_is_wrong_is_told_as_modelhub_tells_it(served: Server, scan: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.nii.gz").write_bytes(scan.read_bytes()[:-200])
    answers = [
        served.client.post("/api/predict", files={"file": ("bad.nii.gz", (tmp_path / "bad.nii.gz").read_bytes())}),
        served.client.post("/api/predict", files={"other": (scan.name, scan.read_bytes())}),
        served.client.get("/api/predict_sample", params={"filename": "../../segpipe.json"}),
        served.client.get("/api/output/../../jobs.sqlite.nii.gz"),
        served.client.get("/api/get_config", params={"model": "other"}),
    ]
    for answer in answers:
        assert answer.status_code in (400, 404, 422), answer.text
        assert set(answer.json()) == {"error"}


def test_several_channels_are_told_apart_by_their_fields() -> None:
    served: Any = SimpleNamespace(channels=("T2", "ADC"))
    files = [Sent("adc", "b.nii.gz", Path("b")), Sent("t2", "a.nii.gz", Path("a"))]
    assert [sent.name for sent in in_order(Form({}, files), served)] == ["a.nii.gz", "b.nii.gz"]
    for wrong in ([files[0], files[0]], [files[0], Sent("file", "a", Path("a"))], [Sent("x", "a", Path("a"))], []):
        with pytest.raises(RequestError, match="t2, adc"):
            in_order(Form({}, wrong), served)
