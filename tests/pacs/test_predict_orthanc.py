"""`segpipe predict` between two doors of a real PACS."""

from __future__ import annotations

import contextlib
import http.server
import sqlite3
import threading
from collections import Counter
from pathlib import Path

import certifi
import pydicom
import pytest

from segpipe.pacs.address import NodePlace, WebPlace
from segpipe.pacs.credentials import Credentials
from segpipe.pacs.faults import DeniedError, RefusedError
from segpipe.pacs.fetch import fetch
from segpipe.pacs.node import Node
from segpipe.pacs.parcel import Parcel
from segpipe.pacs.patience import Patience
from segpipe.pacs.tls import TlsFiles, server_context
from segpipe.pacs.web import Web
from tests.dicom.series import Series
from tests.pacs.conftest import Program
from tests.pacs.objects import make_object
from tests.pacs.orthanc import Orthanc

STUDY = "1.2.3.77"
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <s:ResourceWarning")  # pynetdicom, after a connection that failed


def fill(orthanc: Orthanc, folder: Path, *seeds: int) -> None:
    for seed in seeds:
        for path in Series(seed=seed, size=(12, 10)).write(folder / str(seed)).paths:
            orthanc.put(path)


def test_a_study_is_fetched_segmented_and_its_results_come_back_once(
    orthanc: Orthanc, model: Path, program: Program, tmp_path: Path
) -> None:
    fill(orthanc, tmp_path / "made", 1, 2)
    out = tmp_path / "out"
    words = ("predict", str(model), str(out), "--from", f"{orthanc.web}/studies/{STUDY}")
    first = program(*words, "--to", orthanc.web)
    assert first.returncode == 0, first.stderr
    again = program(*words, "--to", orthanc.web)
    assert again.returncode == 0, again.stderr
    assert "2 │" in again.stdout.replace("skipped", ""), again.stdout
    by_node = program(*words, "--to", orthanc.node)
    assert by_node.returncode == 0, by_node.stderr
    assert Counter(tags["StudyInstanceUID"] for tags in orthanc.tags()) == {STUDY: 2}
    with sqlite3.connect(out / "deliveries.sqlite") as outbox:
        assert outbox.execute("SELECT state, tries, COUNT(*) FROM deliveries GROUP BY state, tries").fetchall() == [("sent", 1, 4)]
    assert not (out / ".fetched").exists()
    assert not any(word in (first.stderr + first.stdout) for word in (STUDY, "1.2.3.1", "Secret"))


def test_a_series_alone_is_fetched_alone(orthanc: Orthanc, model: Path, program: Program, tmp_path: Path) -> None:
    fill(orthanc, tmp_path / "made", 1, 2)
    run = program("predict", str(model), str(tmp_path / "out"), "--from", f"{orthanc.web}/studies/{STUDY}/series/1.2.3.2")
    assert run.returncode == 0, run.stderr
    assert len(list((tmp_path / "out").glob("*.nii.gz"))) == 1


def test_a_compressed_series_comes_as_the_archive_holds_it(orthanc: Orthanc, tmp_path: Path) -> None:
    headers = {}
    for path in Series(size=(12, 10)).write(tmp_path / "made").paths:
        ds = pydicom.dcmread(path)
        ds.compress(pydicom.uid.RLELossless, generate_instance_uid=False)
        ds.save_as(path)
        orthanc.put(path)
        headers[str(ds.SOPInstanceUID)] = ds
    web = Web(WebPlace(f"http://127.0.0.1:{orthanc.http}/dicom-web"), Credentials(), TlsFiles())
    assert fetch(web, WebPlace(web.place.root, STUDY), tmp_path / "spool", Patience(2)).missing == []
    got = [pydicom.dcmread(path) for path in (tmp_path / "spool").rglob("*.dcm")]
    assert len(got) == 8
    for ds in got:
        assert ds.file_meta.TransferSyntaxUID == pydicom.uid.RLELossless
        assert ds.PixelData == headers[ds.SOPInstanceUID].PixelData


def test_a_node_is_trusted_and_trusts_by_certificates_and_titles(installed: None, certificate: TlsFiles, tmp_path: Path) -> None:
    more = {
        "DicomTlsEnabled": True,
        "DicomTlsCertificate": str(certificate.certificate),
        "DicomTlsPrivateKey": str(certificate.key),
        "DicomTlsTrustedCertificates": str(certificate.authority),
        "DicomCheckCalledAet": True,
        "AuthenticationEnabled": True,
        "RegisteredUsers": {"al": "geheim"},
    }
    server = Orthanc(tmp_path / "orthanc", more).start()
    try:
        node = NodePlace("ORTHANC", "localhost", server.port, True)
        Node(node, "SEGPIPE", certificate).check()
        with pytest.raises(DeniedError, match=r"TLS failed \(self-signed certificate\): give --tls-ca"):
            Node(node, "SEGPIPE", TlsFiles()).check()
        with pytest.raises(DeniedError, match="this is not its AE title"):
            Node(NodePlace("OTHER", "localhost", server.port, True), "SEGPIPE", certificate).check()
        web = WebPlace(f"http://127.0.0.1:{server.http}/dicom-web")
        Web(web, Credentials("al", "geheim"), TlsFiles()).check()
        with pytest.raises(DeniedError, match="SEGPIPE_DICOMWEB_USER"):
            Web(web, Credentials("al", "wrong"), TlsFiles()).check()
    finally:
        server.stop()


def test_a_web_server_is_trusted_by_its_certificate_alone(certificate: TlsFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Orthanc 1.10.1 of Debian 12 ends itself at the first request over HTTPS, so that another server must do."""

    class Empty(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"[]")

        def log_message(self, *words: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Empty)
    server.socket = server_context(TlsFiles(None, certificate.certificate, certificate.key)).wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        place = WebPlace(f"https://localhost:{server.server_address[1]}/pacs")
        monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
        with pytest.raises(DeniedError, match=r"TLS failed \(self-signed certificate\): give --tls-ca"):
            Web(place, Credentials(), TlsFiles()).check()
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", certifi.where())  # does not speak for a file that the user names
        Web(place, Credentials(), TlsFiles(certificate.authority)).check()
        with pytest.raises(DeniedError, match="TLS failed"):
            Web(WebPlace(place.root.replace("localhost", "127.0.0.1")), Credentials(), TlsFiles(certificate.authority)).check()
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize("by_node", [False, True], ids=["dicomweb", "dicom"])
def test_an_object_is_there_after_it_was_sent_and_not_before(orthanc: Orthanc, tmp_path: Path, by_node: bool) -> None:
    make_object(tmp_path / "x.dcm", "1.2.3", "x")
    data = (tmp_path / "x.dcm").read_bytes()
    parcel = Parcel.of_bytes(data, "x")
    place = WebPlace(f"http://127.0.0.1:{orthanc.http}/dicom-web")
    where = NodePlace("ORTHANC", "127.0.0.1", orthanc.port)
    sender = Node(where, "SEGPIPE", TlsFiles()) if by_node else Web(place, Credentials(), TlsFiles())
    with contextlib.closing(sender):
        assert sender.has(parcel) is False
        for _ in range(2):
            sender.store(parcel, data)
        assert sender.has(parcel) is True
    assert len(orthanc.tags()) == 1


def test_a_study_that_is_not_there_is_told(orthanc: Orthanc) -> None:
    web = Web(WebPlace(f"http://127.0.0.1:{orthanc.http}/dicom-web"), Credentials(), TlsFiles())
    with pytest.raises(RefusedError, match="there is no study"):
        web.series("1.2.3")


def test_a_pacs_that_is_away_is_told_and_the_same_command_sends_what_is_missing(
    orthanc: Orthanc, model: Path, program: Program, tmp_path: Path
) -> None:
    Series(size=(12, 10)).write(tmp_path / "scans")
    orthanc.stop()
    words = ("predict", str(model), str(tmp_path / "scans"), str(tmp_path / "out"), "--to", orthanc.node, "--tries", "2")
    away = program(*words)
    assert away.returncode == 3
    assert "nobody answers (Connection refused)" in away.stdout
    assert "the same command sends what is missing" in away.stdout
    assert len(list((tmp_path / "out").glob("*.nii.gz"))) == 1
    orthanc.start()
    again = program(*words)
    assert again.returncode == 0, again.stderr
    assert len(orthanc.tags()) == 1


def test_results_that_are_sent_are_segmentations_and_only_of_dicom(orthanc: Orthanc, model: Path, program: Program, tmp_path: Path) -> None:
    Series(size=(12, 10)).write(tmp_path / "scans")
    run = program("predict", str(model), str(tmp_path / "scans"), str(tmp_path / "out"), "--to", orthanc.web)
    assert run.returncode == 0, run.stderr
    assert [tags["Modality"] for tags in orthanc.tags()] == ["SEG"]
    (tmp_path / "files").mkdir()
    (labels,) = (tmp_path / "out").glob("*.nii.gz")
    labels.rename(tmp_path / "files" / "scan.nii.gz")
    run = program("predict", str(model), str(tmp_path / "files"), str(tmp_path / "out2"), "--to", orthanc.web)
    assert run.returncode != 0
    assert "DICOM" in run.stderr and len(orthanc.tags()) == 1
