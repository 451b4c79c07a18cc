"""MONAI Label's protocol, asked exactly as its plugins for 3D Slicer and OHIF ask."""

from __future__ import annotations

import contextlib
import http.client
import json
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus, urlencode

import numpy as np
import pytest

pytest.importorskip("fastapi")
pytest.importorskip("requests")

from segpipe.geometry.grid import Grid, Volume
from segpipe.io.itk import simple_itk
from segpipe.io.read import read_label, read_volume
from segpipe.io.write import write_label_map, write_volume
from tests.dicom.series import Series, turned
from tests.inference.conftest import blocks
from tests.server.conftest import Server

MODEL = "blocks-thresholds"
ORGAN, TUMOUR = 10, 255


@pytest.fixture(scope="module")
def server(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("monailabel")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEGPIPE_CACHE", str(folder / "cache"))
        running = Server([package], folder / "data", folder / "log", "--corrections", str(folder / "corrections"))
    yield running
    assert running.stop() == 0, running.log.read_text()


class Slicer:
    """The requests of the plugin for 3D Slicer: http.client, a form with a fixed boundary and whole paths as file names, cgi."""

    limit = "----------lImIt_of_THE_fIle_eW_$"

    def __init__(self, port: int, token: str = "") -> None:
        self.port = port
        self.headers = {"Authorization": f"bearer {token}"} if token else {}

    def ask(self, method: str, where: str, body: Any = None, kind: str = "application/json") -> tuple[int, bytes, Any]:
        if isinstance(body, dict):
            body = json.dumps(body)
        headers = dict(self.headers)
        if body:
            headers |= {"content-type": kind, "content-length": str(len(body))}
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)) as connection:
            connection.request(method, where, body=body, headers=headers)
            with connection.getresponse() as response:
                return self._answer(response)

    def form(self, method: str, where: str, fields: dict[str, str], files: dict[str, Path]) -> tuple[int, Any, Any]:
        lines: list[bytes] = []
        for key, value in fields.items():
            lines += [f"--{self.limit}".encode(), f'Content-Disposition: form-data; name="{key}"'.encode(), b"", value.encode()]
        for key, path in files.items():
            head = f'Content-Disposition: form-data; name="{key}"; filename="{path}"'
            lines += [f"--{self.limit}".encode(), head.encode(), b"Content-Type: application/octet-stream", b"", path.read_bytes()]
        body = b"\r\n".join([*lines, f"--{self.limit}--".encode(), b"", b""])
        return self.ask(method, where, body, f"multipart/form-data; boundary={self.limit}")

    def _answer(self, response: http.client.HTTPResponse) -> tuple[int, Any, Any]:
        if response.status != 200 or "multipart" not in response.getheader("content-type", ""):
            return response.status, response.read(), response.headers
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # as in Slicer's Python
            import cgi

            found = cgi.FieldStorage(fp=response.fp, environ={"REQUEST_METHOD": "POST"}, headers=response.msg, keep_blank_values=True)
        form = {part.name: part.value for part in found.list if not part.filename}
        files = {part.filename: part.value for part in found.list if part.filename}
        return response.status, form, files

    def infer(self, image: str, session: str = "", **params: Any) -> tuple[dict[str, Any], str, bytes]:
        where = f"/infer/{quote_plus(MODEL)}?image={quote_plus(image)}" + (f"&session_id={session}" if session else "")
        status, form, files = self.form("POST", where, {"params": json.dumps({"client_id": "user-xyz", **params})}, {})
        assert status == 200, form
        [(name, data)] = files.items()
        return json.loads(form["params"]), name, data

    def put(self, image: str, path: Path) -> dict[str, Any]:
        where = f"/datastore/?image={quote_plus(image)}"
        status, text, _ = self.form("PUT", where, {"params": json.dumps({"client_id": "user-xyz"})}, {"file": path})
        assert status == 200, text
        return dict(json.loads(text))

    def save(self, image: str, path: Path, params: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        where = f"/datastore/label?image={quote_plus(image)}"
        status, text, _ = self.form("PUT", where, {"params": json.dumps(params)}, {"label": path})
        return status, json.loads(text)


@pytest.fixture
def slicer(server: Server) -> Slicer:
    return Slicer(server.port)


def array_of(data: bytes, name: str, folder: Path) -> Volume:
    (folder / name).write_bytes(data)
    return read_label(folder / name)


def expected_of(package_folder: Path) -> Volume:
    return read_label(package_folder / "samples/labels/sample-01.nii.gz")


def test_info_tells_what_the_plugins_look_for(slicer: Slicer) -> None:
    status, text, _ = slicer.ask("GET", "/info/")
    info = json.loads(text)
    assert status == 200
    assert not info.get("config")  # with which the plugin takes the server for an old one
    assert info["models"][MODEL]["type"] == "segmentation"
    assert info["models"][MODEL]["labels"] == {"organ": ORGAN, "tumour": TUMOUR}
    assert info["labels"] == ["organ", "tumour"]
    assert set(info["strategies"]) == {"first", "random"}
    assert set(info["datastore"]) >= {"total", "completed"}
    status, text, _ = slicer.ask("GET", "/auth/")
    assert (status, json.loads(text)) == (200, {"enabled": False})


def test_a_session_gives_the_label_map_of_predict(slicer: Slicer, scan: Path, made: Path, tmp_path: Path) -> None:
    import requests

    with scan.open("rb") as file:
        where = f"http://127.0.0.1:{slicer.port}/session/"
        created = requests.put(where, files=[("files", (scan.name, file))], data={"client_id": "user-xyz"}, timeout=60)
    assert created.status_code == 200, created.text
    session = created.json()["session_id"]
    assert slicer.ask("GET", f"/session/{session}")[0] == 200
    params, name, data = slicer.infer("its own name", session)
    found, expected = array_of(data, name, tmp_path), expected_of(made / "folder")
    assert name.endswith(".nii.gz")
    np.testing.assert_array_equal(found.array, expected.array)
    assert found.grid.same_as(expected.grid)
    assert params["label_names"] == {"organ": ORGAN, "tumour": TUMOUR}
    assert slicer.ask("GET", f"/session/{session}?image=true")[1] == scan.read_bytes()
    assert slicer.ask("DELETE", f"/session/{session}")[0] == 200
    assert slicer.ask("GET", f"/session/{session}")[0] == 404


def test_a_label_that_is_not_found_is_not_among_the_names(slicer: Slicer, scan: Path, tmp_path: Path) -> None:
    """Slicer gives the names in their order to the values that are there: a name too many, and the tumour is called an organ."""
    volume = read_volume(scan)
    write_volume(tmp_path / "tumour.nii.gz", Volume(np.where(volume.array > 1.5, volume.array, 0).astype(np.float32), volume.grid))
    slicer.put("tumour alone", tmp_path / "tumour.nii.gz")
    params, name, data = slicer.infer("tumour alone")
    assert set(np.unique(array_of(data, name, tmp_path).array)) == {0, TUMOUR}
    assert params["label_names"] == {"tumour": TUMOUR}


def test_scans_wait_are_corrected_and_become_a_data_set(slicer: Slicer, server: Server, scan: Path, tmp_path: Path) -> None:
    for name in ("first scan", "ü/../second"):
        assert slicer.put(name, scan) == {"image": name}
    status, text, _ = slicer.ask("POST", "/activelearning/first", {"client_id": "user-xyz"})
    everything = json.loads(slicer.ask("GET", "/datastore/?output=all")[1])["objects"]
    assert {"first scan", "ü/../second"} <= set(everything)
    sample = json.loads(text)
    assert status == 200
    assert "/" not in json.loads(slicer.ask("GET", f"/datastore/image/info?image={quote_plus('ü/../second')}")[1])["name"]
    assert slicer.ask("GET", f"/datastore/image?image={quote_plus(sample['id'])}")[0] == 200
    assert slicer.ask("GET", f"/datastore/image?image={quote_plus('first scan')}")[1] == scan.read_bytes()
    _, name, data = slicer.infer("first scan")
    predicted = array_of(data, name, tmp_path)
    drawn = np.zeros(predicted.array.shape[1:], np.uint8)  # as Slicer saves: segments 1, 2 in the order of label_info
    drawn[predicted.array[0] == TUMOUR] = 1
    drawn[predicted.array[0] == ORGAN] = 2
    drawn[0, 0, 0] = 2
    write_label_map(tmp_path / "drawn.nrrd", drawn, predicted.grid)
    info = [{"name": "tumour", "idx": 1}, {"name": "organ", "idx": 2}]
    status, saved = slicer.save("first scan", tmp_path / "drawn.nrrd", {"label_info": info, "client_id": "user-xyz"})
    assert status == 200, saved
    assert saved["image"] == "first scan"
    [path] = (server.data.parent / "corrections" / "labels").glob("*.nii.gz")
    kept = read_label(path)
    wanted = predicted.array[0].copy()
    wanted[0, 0, 0] = ORGAN
    np.testing.assert_array_equal(kept.array[0], wanted)
    assert kept.grid.same_as(predicted.grid)
    np.testing.assert_array_equal(read_volume(path.parent.parent / "images" / path.name).array, read_volume(scan).array)
    assert slicer.ask("GET", "/datastore/label?label=first+scan&tag=final")[1] == path.read_bytes()
    everything = json.loads(slicer.ask("GET", "/datastore/?output=all")[1])["objects"]
    assert "final" in everything["first scan"]["labels"]
    assert everything["ü/../second"]["labels"] == {}
    for _ in range(8):
        assert json.loads(slicer.ask("POST", "/activelearning/random", {})[1])["id"] != "first scan"


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "numbers that are not those of the label map": (
        {"label_info": [{"name": "organ", "idx": 2}, {"name": "tumour", "idx": 3}]},
        "not 1, 2, 3",
    ),
    "a name that the model does not have": ({"label_info": [{"name": "liver", "idx": 1}]}, "liver is no label"),
    "a name twice": ({"label_info": [{"name": "organ", "idx": 1}, {"name": "organ", "idx": 2}]}, "twice"),
    "fewer names than values": ({"label_info": [{"name": "organ", "idx": 1}]}, "values beyond"),
    "values of another model": ({}, "holds the value"),
    "no list": ({"label_info": "organ"}, "must be a list"),
}


@pytest.mark.parametrize("fault", BAD, ids=str)
def test_a_label_map_whose_names_are_in_doubt_is_not_kept(fault: str, slicer: Slicer, scan: Path, tmp_path: Path) -> None:
    params, word = BAD[fault]
    slicer.put("doubtful", scan)
    volume = read_volume(scan)
    drawn = np.zeros(volume.grid.shape, np.uint8)
    drawn[1, 1, 1], drawn[2, 2, 2] = 1, 2
    write_label_map(tmp_path / "drawn.nii.gz", drawn, volume.grid)
    status, told = slicer.save("doubtful", tmp_path / "drawn.nii.gz", params)
    assert (status, word in told["error"]) == (400, True), told


def test_a_label_map_on_another_grid_is_not_kept(slicer: Slicer, scan: Path, tmp_path: Path) -> None:
    slicer.put("elsewhere", scan)
    volume = read_volume(scan)
    affine = volume.grid.affine.copy()
    affine[0, 3] += 1
    write_label_map(tmp_path / "moved.nii.gz", np.zeros(volume.grid.shape, np.uint8), Grid(volume.grid.shape, affine))
    status, told = slicer.save("elsewhere", tmp_path / "moved.nii.gz", {"label_info": [{"name": "organ", "idx": 1}]})
    assert (status, "mm from its scan" in told["error"]) == (400, True), told
    write_label_map(tmp_path / "large.nii.gz", np.zeros((40, 40, 40), np.uint8), Grid((40, 40, 40), volume.grid.affine))
    status, told = slicer.save("elsewhere", tmp_path / "large.nii.gz", {"label_info": [{"name": "organ", "idx": 1}]})
    assert (status, "must have those of its scan" in told["error"]) == (400, True), told


@pytest.mark.parametrize("ending", [".nrrd", ".mha"])
def test_a_label_map_cannot_have_its_voxels_from_another_file(ending: str, slicer: Slicer, scan: Path, tmp_path: Path) -> None:
    """One that names a file of the server's machine would be kept with that file's bytes, which whoever sent it may then fetch."""
    volume = read_volume(scan)
    (tmp_path / "secret").write_bytes(bytes([ORGAN, TUMOUR] * volume.grid.shape[0])[: volume.grid.shape[0]] * 10_000)
    write_label_map(tmp_path / f"good{ending}", np.zeros(volume.grid.shape, np.uint8), volume.grid)
    head = (tmp_path / f"good{ending}").read_bytes()
    if ending == ".nrrd":
        head = head.partition(b"\n\n")[0].replace(b"encoding: gzip", b"encoding: raw")
        head += b"\ndata file: " + str(tmp_path / "secret").encode() + b"\n\n"
    else:
        lines = [line for line in head.partition(b"ElementDataFile")[0].splitlines() if not line.startswith(b"Compressed")]
        head = b"\n".join([*lines, b"ElementDataFile = " + str(tmp_path / "secret").encode(), b""])
    (tmp_path / f"bad{ending}").write_bytes(head)
    slicer.put("secret", scan)
    status, told = slicer.save("secret", tmp_path / f"bad{ending}", {})
    assert status == 400, told
    assert ("in another file" if ending == ".nrrd" else "is no label map") in told["error"]
    assert slicer.ask("GET", "/datastore/label?label=secret")[0] == 404


def test_a_label_map_of_many_components_is_not_unpacked(slicer: Slicer, scan: Path, tmp_path: Path) -> None:
    volume = read_volume(scan)
    write_volume(tmp_path / "many.nii.gz", Volume(np.zeros((3, *volume.grid.shape), np.uint8), volume.grid))
    cut = tmp_path / "cut.nii.gz"
    cut.write_bytes((tmp_path / "many.nii.gz").read_bytes()[:-20])  # what unpacks it tells another fault
    slicer.put("components", scan)
    for params in ({}, {"label_info": [{"name": "organ", "idx": 1}]}):
        status, told = slicer.save("components", cut, params)
        assert (status, "has 3 components" in told["error"]) == (400, True), told


def ohif(port: int, image: str, **params: Any) -> Any:
    """The request of the plugin for OHIF as it was until 2024: a form without files, and both parts wanted."""
    import requests

    where = f"http://127.0.0.1:{port}/infer/{MODEL}?{urlencode({'image': image, 'output': 'all'})}"
    asked = {"result_extension": ".nrrd", "result_dtype": "uint16", "result_compress": False, "restore_label_idx": False, **params}
    return requests.post(
        where, files={"params": (None, json.dumps(asked))}, headers={"accept": "application/json,multipart/form-data"}, timeout=120
    )


def as_ohif_reads(answer: Any) -> tuple[dict[str, Any], bytes]:
    """As its plugin takes an answer apart: as text in UTF-8."""
    boundary = answer.headers["content-type"].partition("boundary=")[2].partition(";")[0]
    parts = [part for part in answer.content.decode("utf-8", "replace").split(f"--{boundary}") if part.strip()]
    first = next(part for part in parts if "Content-Type: application/json" in part)
    second = next(part for part in parts if "Content-Type: application/octet-stream" in part)
    binary = second.split("\r\n\r\n")[1]
    told = json.loads(first[first.index("{") : first.rindex("}") + 1])
    return told, bytes(ord(letter) & 0xFF for letter in binary[: binary.rindex("\r\n")])


def test_ohif_gets_voxels_that_it_can_read(slicer: Slicer, scan: Path, tmp_path: Path) -> None:
    volume = read_volume(scan)
    write_volume(tmp_path / "organ.nii.gz", Volume(volume.array.clip(0, 1).astype(np.float32), volume.grid))
    slicer.put("1.2.840.1", tmp_path / "organ.nii.gz")
    answer = ohif(slicer.port, "1.2.840.1")
    assert answer.status_code == 200, answer.text
    told, data = as_ohif_reads(answer)
    assert told["centroids"] == {}
    (tmp_path / "back.nrrd").write_bytes(data)
    assert b"encoding: raw" in data
    assert b"type: unsigned short" in data
    _, name, nifti = slicer.infer("1.2.840.1")
    found, expected = read_label(tmp_path / "back.nrrd"), array_of(nifti, name, tmp_path)
    np.testing.assert_array_equal(found.array, expected.array)
    assert found.grid.distance_mm(expected.grid) < 1e-3
    assert (found.array == ORGAN).any()


def test_voxels_that_ohif_would_show_as_another_label_are_not_given_to_it(slicer: Slicer, scan: Path) -> None:
    slicer.put("1.2.840.2", scan)
    answer = ohif(slicer.port, "1.2.840.2")
    assert (answer.status_code, "tumour has the value 255" in answer.json()["error"]) == (400, True)


def test_ohif_of_today_asks_for_the_file_alone(slicer: Slicer, scan: Path, made: Path, tmp_path: Path) -> None:
    """As in MONAI Label 0.8.5: bytes, which it sorts by the values that `/info/` tells."""
    import requests

    slicer.put("1.2.840.3", scan)
    where = f"http://127.0.0.1:{slicer.port}/infer/{MODEL}?{urlencode({'image': '1.2.840.3', 'output': 'image'})}"
    asked = {"result_extension": ".nrrd", "result_dtype": "uint8", "result_compress": False, "restore_label_idx": False}
    answer = requests.post(where, files={"params": (None, json.dumps(asked))}, timeout=120)
    assert answer.status_code == 200, answer.text
    head, _, voxels = answer.content.partition(b"\n\n")
    assert b"encoding: raw" in head
    expected = expected_of(made / "folder").array[0]
    assert np.frombuffer(voxels, np.uint8).tolist() == expected.ravel(order="F").tolist()
    assert {ORGAN, TUMOUR} <= set(voxels)


def test_the_outputs_of_infer(slicer: Slicer, scan: Path, tmp_path: Path) -> None:
    slicer.put("outputs", scan)
    status, text, _ = slicer.form("POST", f"/infer/{MODEL}?image=outputs&output=json", {"params": "{}"}, {})
    assert (status, json.loads(text)["model"]) == (200, MODEL)
    status, data, headers = slicer.form("POST", f"/infer/{MODEL}?image=outputs&output=image", {"params": "{}"}, {})
    assert (status, headers["content-type"]) == (200, "application/octet-stream")
    assert (array_of(data, "image.nii.gz", tmp_path).array == TUMOUR).any()
    status, text, _ = slicer.form("POST", f"/infer/{MODEL}?image=outputs&output=dicom_seg", {"params": "{}"}, {})
    assert (status, "DICOM series alone" in json.loads(text)["error"]) == (404, True)
    status, form, files = slicer.form("POST", f"/infer/{MODEL}", {"params": "{}"}, {"file": scan})
    assert (status, len(files)) == (200, 1), form


WRONG: dict[str, tuple[str, str, int, str]] = {
    "no image": ("POST", f"/infer/{MODEL}", 400, "image: is missing"),
    "an image that is not there": ("POST", f"/infer/{MODEL}?image=nothing", 404, "no such image"),
    "a session that is not there": ("POST", f"/infer/{MODEL}?image=x&session_id=nothing", 404, "no such session"),
    "a model that is not there": ("POST", "/infer/other?image=nothing", 404, "no such model"),
    "an output that is none": ("POST", f"/infer/{MODEL}?image=x&output=mesh", 400, "output: must be"),
    "a session without a file": ("PUT", "/session/", 400, "must be one scan"),
    "an image without a file": ("PUT", "/datastore/?image=x", 400, "must be one scan"),
}


@pytest.mark.parametrize("fault", WRONG, ids=str)
def test_what_cannot_be_is_refused_in_one_line(fault: str, slicer: Slicer) -> None:
    method, where, status, word = WRONG[fault]
    found, text, _ = slicer.form(method, where, {"params": "{}"}, {})
    assert (found, word in json.loads(text)["error"]) == (status, True), text


def test_params_that_are_no_json_and_scribbles_are_refused(slicer: Slicer, scan: Path) -> None:
    status, text, _ = slicer.form("POST", f"/infer/{MODEL}", {"params": "["}, {"file": scan})
    assert (status, "params: is not JSON" in json.loads(text)["error"]) == (400, True)
    status, text, _ = slicer.form("POST", f"/infer/{MODEL}?image=x", {"params": "{}"}, {"label": scan})
    assert (status, "takes a scan alone" in json.loads(text)["error"]) == (400, True)


def test_training_is_refused_plainly_and_never_seems_to_run(slicer: Slicer) -> None:
    assert slicer.ask("GET", "/train/?check_if_running=true")[0] == 404  # 200 would be a training that runs
    for where in ("/train/", f"/train/{MODEL}"):
        status, text, _ = slicer.ask("POST", where, {"client_id": "user-xyz"})
        assert (status, "segpipe train" in json.loads(text)["error"]) == (501, True)
    assert slicer.ask("DELETE", "/train/")[0] == 404


def test_a_scan_that_cannot_be_segmented_is_told_in_one_line(slicer: Slicer, scan: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.nii.gz").write_bytes(scan.read_bytes()[:-200])
    slicer.put("bad", tmp_path / "bad.nii.gz")
    status, text, _ = slicer.form("POST", f"/infer/{MODEL}?image=bad", {"params": "{}"}, {})
    assert (status, "cannot be segmented" in json.loads(text)["error"]) == (400, True)


def test_a_name_means_one_scan_until_that_is_removed(slicer: Slicer, scan: Path, tmp_path: Path) -> None:
    """Two people may call the scans of two patients alike, `4: T2 tra`; neither gets the label map of the other's."""
    slicer.put("again", scan)
    _, name, before = slicer.infer("again")
    volume = read_volume(scan)
    write_volume(tmp_path / "air.nii.gz", Volume(np.zeros_like(volume.array), volume.grid))
    files = {"file": tmp_path / "air.nii.gz"}
    status, text, _ = slicer.form("PUT", "/datastore/?image=again", {"params": "{}"}, files)
    assert (status, "another scan has this name" in json.loads(text)["error"]) == (409, True), text
    assert slicer.put("again", scan) == {"image": "again"}
    assert slicer.infer("again")[1:] == (name, before)  # the same job
    assert slicer.ask("DELETE", "/datastore/?id=again&type=image")[0] == 200
    slicer.put("again", tmp_path / "air.nii.gz")
    _, name, data = slicer.infer("again")
    assert not array_of(data, name, tmp_path).array.any()  # not the label map of the scan before
    assert slicer.ask("DELETE", "/datastore/?id=again&type=image")[0] == 200
    assert slicer.ask("GET", "/datastore/image?image=again")[0] == 404


def test_plugins_sign_in_with_the_token_for_a_password(package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGPIPE_CACHE", str(tmp_path / "cache"))
    token = "0123456789abcdef0123"
    (tmp_path / "token").write_text(token)
    (tmp_path / "token").chmod(0o600)
    running = Server([package], tmp_path / "data", tmp_path / "log", "--token-file", str(tmp_path / "token"))
    slicer = Slicer(running.port)
    assert json.loads(slicer.ask("GET", "/auth/")[1]) == {"enabled": True}
    assert slicer.ask("GET", "/info/")[0] == 401
    form = "application/x-www-form-urlencoded"
    wrong = urlencode({"username": "user", "password": "wrong", "grant_type": "password"})
    assert slicer.ask("POST", "/auth/token", wrong, form)[0] == 401
    right = urlencode({"username": "user", "password": token, "grant_type": "password"})
    status, text, _ = slicer.ask("POST", "/auth/token", right, form)
    told = json.loads(text)
    assert (status, told["token_type"]) == (200, "bearer")
    signed = Slicer(running.port, told["access_token"])
    assert signed.ask("GET", "/auth/token/valid")[0] == 200
    assert signed.ask("GET", "/info/")[0] == 200
    assert running.stop() == 0


@pytest.mark.parametrize(("axes", "heights"), [(turned(0, 0, 12), 1), (turned(70, 20, -30), 1), (((-1.0, 0, 0), (0, 1.0, 0)), -1)])
def test_ohif_gets_a_series_in_the_order_in_which_itk_reads_it(axes: Any, heights: int, slicer: Slicer, tmp_path: Path) -> None:
    """OHIF's plugin lays the bytes over its own volume and looks at no place; MONAI Label gives it ITK's order."""
    sitk = simple_itk()
    stored = blocks((13, 11, 9))[0].T.clip(0, 1).astype(np.uint16)  # (K, rows, columns)
    Series(axes=axes, stored=stored, size=stored.shape[1:], heights=[heights * 2.5 * k for k in range(9)]).write(tmp_path / "series")
    with zipfile.ZipFile(tmp_path / "series.zip", "w") as archive:
        for path in (tmp_path / "series").iterdir():
            archive.write(path, path.name)
    name = tmp_path.name  # of each its own: a name means one scan
    slicer.put(name, tmp_path / "series.zip")
    answer = ohif(slicer.port, name)
    assert answer.status_code == 200, answer.text
    (tmp_path / "back.nrrd").write_bytes(as_ohif_reads(answer)[1])
    found = sitk.ReadImage(str(tmp_path / "back.nrrd"))
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path / "series")))
    scan = reader.Execute()
    assert found.GetSize() == scan.GetSize()
    np.testing.assert_allclose(found.GetOrigin(), scan.GetOrigin(), atol=1e-3)
    np.testing.assert_allclose(found.GetDirection(), scan.GetDirection(), atol=1e-6)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(found) == ORGAN, sitk.GetArrayFromImage(scan) == 1)
    status, data, headers = slicer.form("POST", f"/infer/{MODEL}?image={name}&output=dicom_seg", {"params": "{}"}, {})
    assert (status, headers["content-type"], data[128:132]) == (200, "application/dicom", b"DICM")
