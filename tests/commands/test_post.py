"""What the table says of scans that were fetched, and what is kept of them."""

from __future__ import annotations

import csv
import http.server
import json
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from segpipe.commands.closing import Closing
from segpipe.commands.post import Post
from segpipe.dicom.identity import short
from segpipe.dicom.request import Slices
from segpipe.errors import DataError
from segpipe.inference.examination import Examination
from segpipe.inference.packing import scan_from_json, scan_to_json
from segpipe.inference.table import Row
from segpipe.pacs import exchange
from segpipe.pacs.exchange import Exchange
from segpipe.pacs.fetch import Fetched, Missing
from segpipe.pacs.multipart import wrap
from segpipe.pacs.parcel import Parcel
from tests.commands.test_predict import untrained_model
from tests.conftest import Run
from tests.dicom.series import Series


def fetching(monkeypatch: pytest.MonkeyPatch, fetched: Fetched) -> None:
    """Instead of a server: the folders of what is fetched."""

    def fetch(web: object, place: object, spool: Path, patience: object) -> Fetched:
        for name in fetched.origins:
            (spool / name).mkdir()
        return fetched

    monkeypatch.setattr(exchange, "fetch", fetch)


def test_a_scan_that_was_fetched_is_told_by_its_series_and_what_failed_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetching(monkeypatch, Fetched({name: f"dicomweb://pacs study 1 series {name}" for name in "abc"}, []))
    post = Post(Exchange(("dicomweb://pacs/studies/1.2",)), tmp_path, Closing())
    with post.scans(None) as spool:
        good, bad = Examination("A_1", (spool / "a",)), Examination("B_1", (spool / "b", spool / "c" / "x.dcm"))
        assert post.known(good).input == "dicomweb://pacs study 1 series a"
        assert post.known(bad).input == "dicomweb://pacs study 1 series b;dicomweb://pacs study 1 series c"
        post.each(Row("A_1", "", "A_1.nii.gz", "done"))
        post.each(Row("B_1", "", "", "failed", "no"))
        assert stat.S_IMODE(spool.parent.stat().st_mode) == 0o700
    assert {path.name for path in spool.iterdir() if not path.name.startswith(".")} == {"b", "c"}


def test_a_series_of_an_earlier_call_that_cannot_be_fetched_now_is_not_segmented(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = Exchange(("dicomweb://pacs/studies/1.2",))
    fetching(monkeypatch, Fetched({"a": "series a"}, []))
    with pytest.raises(KeyboardInterrupt), Post(wanted, tmp_path, Closing()).scans(None):
        raise KeyboardInterrupt
    fetching(monkeypatch, Fetched({}, [Missing("a", "the server is busy")]))
    with pytest.raises(DataError, match="nothing could be fetched: the server is busy"), Post(wanted, tmp_path, Closing()).scans(None):
        pass


def test_channels_are_not_chosen_where_a_series_of_their_study_was_not_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    origins = {"a": "dicomweb://pacs study 1 series a", "b": "dicomweb://pacs study 1 series b", "c": "dicomweb://pacs study 2 series c"}
    fetching(monkeypatch, Fetched(origins, [Missing("d", "the server is busy", "1")]))
    post = Post(Exchange(("dicomweb://pacs/studies/1.2",)), tmp_path, Closing())
    with post.scans(None) as spool:
        one, two = Slices("A_1", ()), Slices("A_1", (), others=(Slices("B_1", ()),))
        problem = post.known(Examination("A_1", (spool / "a", spool / "b"), slices=two)).problem
        assert "series d of its study could not be fetched, and may be one of its channels" in problem
        assert post.known(Examination("A_1", (spool / "a",), slices=one)).problem == ""
        assert post.known(Examination("C_1", (spool / "c", spool / "c"), slices=two)).problem == ""


def test_the_origin_of_a_scan_travels_to_the_worker(tmp_path: Path) -> None:
    scan = Examination("A_1", (tmp_path / "a",), origin="dicomweb://pacs study 1 series a")
    assert scan_from_json(json.loads(json.dumps(scan_to_json(scan)))) == scan
    assert scan.input == "dicomweb://pacs study 1 series a"
    assert Examination("A_1", (tmp_path / "a", tmp_path / "b")).input == f"{tmp_path / 'a'};{tmp_path / 'b'}"


class Pacs(http.server.ThreadingHTTPServer):
    """One series of study 1.2.3.77; takes nothing until it is `open`."""

    def __init__(self, paths: list[Path]) -> None:
        self.files = {Parcel.of_file(path).instance: path.read_bytes() for path in paths}
        self.open, self.came = False, list[bytes]()
        super().__init__(("127.0.0.1", 0), _Answers)

    def found(self, path: str) -> Any:
        if path.endswith("/instances"):
            return [{"00080018": {"vr": "UI", "Value": [uid]}} for uid in self.files] if "/series/" in path else []
        return [{"0020000E": {"vr": "UI", "Value": ["1.2.3.1"]}, "00080060": {"vr": "CS", "Value": ["CT"]}}] if "/series" in path else []


class _Answers(http.server.BaseHTTPRequestHandler):
    server: Pacs

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        data = self.server.files.get(path.rpartition("/instances/")[2])
        self._say(200, *(wrap(data) if data else ("application/dicom+json", json.dumps(self.server.found(path)).encode())))

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.came += [body] if self.server.open else []
        self._say(204 if self.server.open else 503, "text/plain", b"")

    def _say(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words: Any) -> None:
        pass


@pytest.fixture
def pacs(tmp_path: Path) -> Iterator[Pacs]:
    for name in ("pydicom", "highdicom", "requests"):
        pytest.importorskip(name)
    server = Pacs(Series(seed=1).write(tmp_path / "made").paths)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_result_that_waits_for_its_pacs_is_not_sent_once_its_label_map_was_corrected(pacs: Pacs, tmp_path: Path, segpipe: Run) -> None:
    model = untrained_model(tmp_path / "model.ts", channels=("CT",), patch_size=(8, 8, 8))
    root = f"dicomweb://127.0.0.1:{pacs.server_address[1]}/web"
    words = ("predict", str(model), "out", "--from", f"{root}/studies/1.2.3.77", "--to", root, "--tries", "1")
    away = segpipe(*words)
    assert (away.returncode, pacs.came) == (3, []), away.stdout + away.stderr
    with (tmp_path / "out" / "predictions.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["status"], row["input"]) == ("done", f"{root} study {short('1.2.3.77')} series {short('1.2.3.1')}")
    label = tmp_path / "out" / row["output"]
    found = nib.load(label)
    corrected = np.asarray(found.dataobj).copy()
    corrected[0, 0, 0] = 1 - min(1, corrected[0, 0, 0])
    nib.save(nib.Nifti1Image(corrected, found.affine), label)
    pacs.open = True
    again = segpipe(*words)
    assert (again.returncode, pacs.came) == (3, []), again.stdout + again.stderr
    assert "its label map was corrected: this object is that of the prediction and is not sent" in " ".join(again.stdout.split())
