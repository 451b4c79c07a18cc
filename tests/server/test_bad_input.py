"""Every address with a parameter or a field that is none: one line in plain words, that says what must be."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("fastapi")

from fastapi.testclient import TestClient

from segpipe.server.app import build_app
from segpipe.server.settings import ServerSettings
from tests.bundle.conftest import write_model

ID, LONG = "0" * 32, "x" * 200
GZIP = b"\x1f\x8b1"
NO_JOB = "id: is no id of a job; must be its 32 digits and letters a to f: GET /v1/jobs lists those that there are"
TOO_LONG = "is longer than 128 characters, as no name here is; must be one that the server told: check the address"
NO_YES = "is no yes or no; must be true or false"
NO_NUMBER = "is no whole number; must be one from 0: 0, 1, 2"
MISSING = "is missing; must be given: /openapi.json says how"
NO_MAP = "file: is no name of a label map; must be an id of a job and .nii.gz"
NO_FORM = "the body must be multipart/form-data"
OF_A_JOB = [("GET", ""), ("DELETE", ""), ("GET", "/results/nifti"), ("GET", "/image"), ("GET", "/correction"), ("PUT", "/correction")]
NO_IDS = ["none", "A" * 32, f"{ID}0", f"{ID}%0a", "%00"]
BAD: list[tuple[str, str, int, str]] = [
    *((method, f"/v1/jobs/{id}{rest}", 422, NO_JOB) for id in NO_IDS for method, rest in OF_A_JOB),
    ("DELETE", f"/v1/jobs/{ID}?keep=perhaps", 422, f"keep: {NO_YES}"),
    ("GET", f"/v1/jobs/{ID}/results/{LONG}", 422, "format: is longer than 32 characters"),
    ("GET", f"/v1/jobs/{ID}/image?channel=x", 422, f"channel: {NO_NUMBER}"),
    ("GET", f"/v1/jobs/{ID}/image?channel=1.5", 422, f"channel: {NO_NUMBER}"),
    ("GET", f"/v1/jobs/{ID}/image?channel=", 422, f"channel: {NO_NUMBER}"),
    ("GET", f"/v1/jobs/{ID}", 404, "there is no such job"),
    ("GET", f"/v1/models/{LONG}", 422, f"id: {TOO_LONG}"),
    ("GET", f"/v1/models/{LONG}/card", 422, f"id: {TOO_LONG}"),
    ("GET", f"/v1/models/test/samples/{LONG}", 422, f"file: {TOO_LONG}"),
    ("GET", "/api/output/none.nii.gz", 422, NO_MAP),
    ("GET", f"/api/output/{ID}", 422, NO_MAP),
    ("GET", f"/api/samples/{LONG}", 422, f"file: {TOO_LONG}"),
    ("GET", f"/api/thumbnail/{LONG}", 422, f"file: {TOO_LONG}"),
    ("GET", "/api/predict_sample", 422, f"filename: {MISSING}"),
    ("GET", "/api/get_config?model=none", 404, "there is no such model; must be one of test"),
    ("POST", "/api/predict", 400, NO_FORM),
    ("POST", "/v1/jobs", 400, NO_FORM),
    ("POST", "/infer/test", 400, NO_FORM),
    ("POST", f"/infer/{LONG}", 422, f"model: {TOO_LONG}"),
    ("POST", "/infer/test?output=mesh", 400, "output: must be all, image, json or dicom_seg"),
    ("GET", f"/session/{LONG}", 422, f"id: {TOO_LONG}"),
    ("DELETE", f"/session/{LONG}", 422, f"id: {TOO_LONG}"),
    ("GET", "/session/a?image=perhaps", 422, f"image: {NO_YES}"),
    ("GET", "/session/a?channel=x", 422, f"channel: {NO_NUMBER}"),
    ("PUT", "/session/", 400, NO_FORM),
    ("PUT", "/datastore/", 400, NO_FORM),
    ("GET", "/datastore/?output=nothing", 400, "output: must be stats, all or train"),
    ("DELETE", "/datastore/", 422, f"id: {MISSING}"),
    ("GET", "/datastore/image", 422, f"image: {MISSING}"),
    ("GET", "/datastore/image/info", 422, f"image: {MISSING}"),
    ("PUT", "/datastore/label", 422, f"image: {MISSING}"),
    ("PUT", "/datastore/label?image=x&tag=y", 400, "tag: must be final"),
    ("GET", "/datastore/label", 422, f"label: {MISSING}"),
    ("POST", f"/activelearning/{LONG}", 422, f"strategy: {TOO_LONG}"),
    ("POST", "/activelearning/none", 404, "there is no such strategy; must be one of first, random"),
    ("POST", "/auth/token", 401, "the password is wrong"),
    ("PATCH", "/v1/jobs", 405, "this address does not take this method"),
    ("GET", "/v1", 404, "no such address"),
]
FIELDS: list[tuple[dict[str, str], str]] = [
    ({}, "files: is missing"),
    ({"tta": "perhaps"}, "tta: is no yes or no; must be true or false"),
    ({"tta": "2", "sample": "s"}, "tta: is no yes or no"),
    ({"sample": LONG}, "test has no such sample; must be one of: none"),
    ({"model": LONG}, "there is no such model; must be one of test"),
    ({"channels": "T2", "files": "2"}, "channels: is not JSON; must be a list of names"),
    ({"channels": "{}", "files": "2"}, "channels: must be a list of 2 names"),
    ({"channels": "[" * 9999, "files": "2"}, "channels: is not JSON"),
    ({"channels": '["T2", "ADC"]', "files": "2"}, "channels: must name each channel of test once: T2"),
    ({"sample": "s", "files": "1"}, "sample: is given beside files"),
]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    folder = tmp_path_factory.mktemp("bad")
    app = build_app(ServerSettings((write_model(folder / "model.ts"),), folder / "data", corrections=folder / "corrections"))
    app.state.service.start = lambda: None
    with TestClient(app, base_url="http://127.0.0.1") as client:
        yield client


def line_of(answer: Any, status: int) -> str:
    assert (answer.status_code, list(answer.json())) == (status, ["error"]), answer.text
    line = str(answer.json()["error"])
    assert "\n" not in line
    assert not [word for word in ("Input should", "String should", "Field required", "^[0-9") if word in line]
    return line


@pytest.mark.parametrize(("method", "address", "status", "words"), BAD)
def test_what_is_none_is_told_in_plain_words(client: TestClient, method: str, address: str, status: int, words: str) -> None:
    assert line_of(client.request(method, address), status).startswith(words)


@pytest.mark.parametrize(("fields", "words"), FIELDS)
def test_a_field_that_is_none_is_told_in_plain_words(client: TestClient, fields: dict[str, str], words: str) -> None:
    parts: Any = [(name, (None, value)) for name, value in fields.items() if name != "files"]
    parts += [("files", (f"{number}.nii.gz", GZIP)) for number in range(int(fields.get("files", 0)))] or [("none", (None, ""))]
    answer = client.post("/v1/jobs", files=parts)
    assert line_of(answer, 404 if "no such" in words else 400).startswith(words)


def test_no_address_is_left_out(client: TestClient) -> None:
    """Each that has a parameter is asked above, or takes any text for it."""
    free = {
        "/api/get_config",
        "/api/get_legal",
        "/api/get_model_io",
        "/api/get_samples",
        "/api/get_model_files",
        "/api/predict",
        "/train/",
        "/train/{model}",
    }
    asked = {(method.lower(), address.partition("?")[0].replace(LONG, "{}")) for method, address, _, _ in BAD}
    for path, ways in client.get("/openapi.json").json()["paths"].items():
        for way, told in ways.items():
            if told.get("parameters") and path not in free:
                parts = path.split("/")
                like = [one for how, one in asked if how == way and len(one.split("/")) == len(parts)]
                fits = [one for one in like if all(a == b or a.startswith("{") for a, b in zip(parts, one.split("/"), strict=True))]
                assert fits, (way, path)
