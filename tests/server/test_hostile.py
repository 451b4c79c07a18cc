"""What somebody may send: refused in one line, or a job that fails in one; the server goes on, and nothing outside the job is touched."""

from __future__ import annotations

import gzip
import io
import json
import socket
import stat
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

pytest.importorskip("fastapi")

from tests.server.conftest import Server, until

MOST_MB = 2.0
Make = Callable[[], bytes]


@pytest.fixture(scope="module")
def server(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("hostile")
    server = Server([package], folder / "data", folder / "log", "--max-upload-mb", str(MOST_MB))
    yield server
    assert server.stop() == 0, server.log.read_text()


def nifti(array: Any, change: Callable[[Any], object] = lambda header: None) -> bytes:
    image = nib.Nifti1Image(array, np.eye(4))
    change(image.header)
    return gzip.compress(image.to_bytes())


def header_of(*sizes: int) -> bytes:
    """A NIfTI file that promises so many voxels and holds none."""
    header = nib.Nifti1Header()
    header.set_data_dtype(np.uint8)
    header["dim"][: len(sizes) + 1] = (len(sizes), *sizes)
    header["magic"] = b"n+1"
    header["vox_offset"] = 352
    header["sform_code"] = 1
    header["srow_x"], header["srow_y"], header["srow_z"] = np.eye(4)[:3]
    return bytes(header.binaryblock) + bytes(4)


def zipped(*members: tuple[str, bytes], kind: int = stat.S_IFREG, flags: int = 0) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            record = zipfile.ZipInfo(name)
            record.compress_type = zipfile.ZIP_DEFLATED
            record.external_attr = (kind | 0o644) << 16
            archive.writestr(record, content)
    found = bytearray(data.getvalue())
    if flags:
        place = found.find(b"PK\x01\x02")
        struct.pack_into("<H", found, place + 8, flags)
    return bytes(found)


def lying_zip() -> bytes:
    """Its table says that a member is small, and it is not."""
    found = bytearray(zipped(("a.dcm", bytes(1 << 20))))
    place = found.find(b"PK\x01\x02")
    struct.pack_into("<I", found, place + 24, 100)
    return bytes(found)


def blocks() -> Any:
    return np.ones((8, 8, 8), np.float32)


FILES: dict[str, tuple[str, Make]] = {
    "text called .nii.gz": ("a.nii.gz", lambda: b"I am no scan\n" * 50),
    "text called .nii": ("a.nii", lambda: b"I am no scan\n" * 50),
    "text called .nrrd": ("a.nrrd", lambda: b"I am no scan\n" * 50),
    "text called .mha": ("a.mha", lambda: b"I am no scan\n" * 50),
    "text called .zip": ("a.zip", lambda: b"I am no scan\n" * 50),
    "no ending": ("a", lambda: b"x"),
    "a program": ("a.exe", lambda: b"MZ"),
    "a header alone": ("a.mhd", lambda: b"ObjectType = Image\n"),
    "a picture for a model of volumes": ("a.png", lambda: b"\x89PNG\r\n\x1a\n"),
    "truncated gzip": ("a.nii.gz", lambda: nifti(np.random.default_rng(0).random((20, 20, 20)))[:-3000]),
    "gzip with a wrong checksum": ("a.nii.gz", lambda: nifti(blocks())[:-8] + bytes(8)),
    "gzip of text": ("a.nii.gz", lambda: gzip.compress(b"I am no scan\n" * 50)),
    "empty": ("a.nii.gz", lambda: b""),
    "gzip of nothing": ("a.nii.gz", lambda: gzip.compress(b"")),
    "gzip bomb": ("a.nii.gz", lambda: gzip.compress(header_of(2000, 2000, 200) + bytes(1 << 26))),
    "huge sizes": ("a.nii", lambda: header_of(32767, 32767, 32767)),
    "negative sizes": ("a.nii", lambda: header_of(-5, 7, 7)),
    "a time series": ("a.nii.gz", lambda: nifti(np.zeros((4, 4, 4, 30), np.float32))),
    "two channels": ("a.nii.gz", lambda: nifti(np.zeros((8, 8, 8, 2), np.float32))),
    "five dimensions": ("a.nii.gz", lambda: nifti(np.zeros((4, 4, 4, 2, 3), np.float32))),
    "no place": ("a.nii", lambda: header_of(4, 4, 4).replace(struct.pack("<f", 1.0), struct.pack("<f", float("nan"))) + bytes(64)),
    "NRRD whose voxels are elsewhere": (
        "a.nrrd",
        lambda: b"NRRD0004\ntype: uint8\ndimension: 3\nsizes: 4 4 4\nencoding: raw\ndata file: /etc/passwd\n\n",
    ),
    "MetaImage whose voxels are elsewhere": (
        "a.mha",
        lambda: b"ObjectType = Image\nNDims = 3\nDimSize = 4 4 4\nElementType = MET_UCHAR\nElementDataFile = /etc/passwd\n",
    ),
    "MetaImage that says LOCAL first": (
        "a.mha",
        lambda: (
            b"Comment = a\rElementDataFile = LOCAL\nNDims = 3\nDimSize = 4 4 4\nElementType = MET_UCHAR\nElementDataFile = /etc/passwd\n"
        ),
    ),
    "zip that leads out": ("a.zip", lambda: zipped(("../../../escaped.dcm", b"x"))),
    "zip with an absolute path": ("a.zip", lambda: zipped(("/tmp/escaped.dcm", b"x"))),
    "zip with a Windows path": ("a.zip", lambda: zipped(("..\\..\\escaped.dcm", b"x"))),
    "zip with a link": ("a.zip", lambda: zipped(("a.dcm", b"/etc/passwd"), kind=stat.S_IFLNK)),
    "zip of zips": ("a.zip", lambda: zipped(("a.zip", zipped(("a.dcm", b"x"))))),
    "zip bomb": ("a.zip", lambda: zipped(("a.dcm", bytes(64 << 20)))),
    "zip that lies": ("a.zip", lying_zip),
    "encrypted zip": ("a.zip", lambda: zipped(("a.dcm", b"x"), flags=1)),
    "empty zip": ("a.zip", zipped),
    "cut zip": ("a.zip", lambda: zipped(("a.dcm", bytes(5000)))[:-30]),
    "zip of text": ("a.zip", lambda: zipped(("a.txt", b"I am no scan"))),
    "DICOM that is none": ("a.zip", lambda: zipped(("a.dcm", bytes(128) + b"DICM" + b"\xff" * 500))),
    "more than the limit": ("a.nii", lambda: header_of(8, 8, 8) + bytes(int(MOST_MB * 2**20))),
}


def everything(folder: Path) -> dict[str, bytes]:
    """All that lies below a folder but the jobs and what is logged."""
    data = folder / "data"
    files = [path for path in folder.rglob("*") if path.is_file() and not path.is_relative_to(data) and path.name != "log"]
    return {str(path): path.read_bytes() for path in files} | {
        str(path): b"" for path in data.glob("*") if not path.name.startswith("jobs.sqlite")
    }


def refused(answer: Any) -> str:
    """The one line of an answer that is a refusal."""
    assert 400 <= answer.status_code < 500, answer.text
    line = answer.json()["error"]
    assert line
    assert "\n" not in line
    return str(line)


def fails(server: Server, files: list[tuple[str, tuple[str, bytes]]], **fields: str) -> str:
    """Send it; the line in which it is refused, or in which its job fails."""
    answer = server.client.post("/v1/jobs", files=files, data=fields)
    if answer.status_code != 202:
        return refused(answer)
    job = server.ended(answer.json()["id"])
    assert job["state"] == "failed", job
    assert "\n" not in job["error"]
    assert job["error"]
    assert str(server.data) not in job["error"]
    return str(job["error"])


@pytest.mark.parametrize("what", list(FILES))
def test_what_is_no_scan_is_refused_or_fails_in_one_line(server: Server, what: str) -> None:
    folder = server.data.parent
    before = everything(folder)
    name, make = FILES[what]
    line = fails(server, [("files", (name, make()))])
    print(line)  # read with -s
    assert "unexpected" not in line
    assert everything(folder) == before
    assert not list((server.data / "incoming").iterdir())
    assert server.client.get("/health").json()["status"] == "ok"


@pytest.mark.parametrize(
    "name",
    ["../../../../tmp/escaped.nii.gz", "..\\..\\escaped.nii.gz", "/etc/passwd.nii.gz", "a\0b.nii.gz", "CON.nii.gz", "a" * 2000 + ".nii.gz"],
)
def test_a_file_name_is_no_path(server: Server, name: str) -> None:
    job = server.ended(server.client.post("/v1/jobs", files=[("files", (name, nifti(blocks())))]).json()["id"])
    assert job["state"] == "done"
    assert "/" not in job["name"]
    assert "\\" not in job["name"]
    assert len(job["name"]) <= 120
    assert not list(server.data.parent.parent.rglob("escaped*"))
    assert sorted(path.name for path in (server.data / "jobs" / job["id"]).iterdir()) == ["0000.nii.gz", "result"]


def test_a_name_cannot_put_markup_or_headers_into_an_answer(server: Server) -> None:
    answer = server.client.post("/v1/jobs", files=[("files", ("<script>x</script>\r\nSet-Cookie: a=b.nii.gz", nifti(blocks())))])
    job = server.ended(answer.json()["id"])
    assert not set(job["name"]) & set("<>\r\n")
    got = server.client.get(f"/v1/jobs/{job['id']}/results/nifti")
    assert "set-cookie" not in got.headers
    assert got.headers["x-content-type-options"] == "nosniff"


def test_two_files_for_a_model_of_one_channel_are_refused(server: Server) -> None:
    assert "takes 1" in fails(server, [("files", ("a.nii.gz", nifti(blocks()))), ("files", ("b.nii.gz", nifti(blocks())))])
    assert "is missing" in fails(server, [("other", ("", b""))], model="blocks-thresholds")


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"", "multipart/form-data; boundary=x"),
        (b"--x\r\n", "multipart/form-data; boundary=x"),
        (b"--x\r\nContent-Disposition: form-data; name=files; filename=a.nii\r\n\r\nabc", "multipart/form-data; boundary=x"),
        (b"nothing of the kind", "multipart/form-data; boundary=x"),
        (b"--x--\r\n", "multipart/form-data"),
        (b"{}", "application/json"),
        (b"--x\r\n" + b"A: b\r\n" * 5000, "multipart/form-data; boundary=x"),
        (
            b"".join(b"--x\r\nContent-Disposition: form-data; name=f%d\r\n\r\na\r\n" % n for n in range(200)) + b"--x--",
            "multipart/form-data; boundary=x",
        ),
        (b"--x\r\nContent-Disposition: form-data; name=f\r\n\r\n" + b"a" * 100_000 + b"\r\n--x--", "multipart/form-data; boundary=x"),
    ],
)
def test_a_damaged_form_is_refused(server: Server, content: bytes, kind: str) -> None:
    refused(server.client.post("/v1/jobs", content=content, headers={"content-type": kind}))


def test_too_much_is_refused_before_all_of_it_has_come(server: Server) -> None:
    """A sender that does not say how much it sends is stopped soon after the limit."""
    with socket.create_connection(("127.0.0.1", server.port), 60) as line:
        line.sendall(
            b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
            b"Content-Type: multipart/form-data; boundary=x\r\n\r\n"
        )
        start = b"--x\r\nContent-Disposition: form-data; name=files; filename=a.nii\r\n\r\n"
        line.sendall(b"%x\r\n%s\r\n" % (len(start), start))
        sent = 0
        try:
            while sent < 64 << 20:
                line.sendall(b"10000\r\n" + bytes(1 << 16) + b"\r\n")
                sent += 1 << 16
                line.setblocking(False)
                try:
                    if line.recv(1, socket.MSG_PEEK):
                        break
                except BlockingIOError:
                    pass
                finally:
                    line.setblocking(True)
        except (BrokenPipeError, ConnectionResetError):
            return  # it has hung up
        answer = line.recv(1000)
    assert b" 413 " in answer
    assert sent < 16 << 20
    until(lambda: not list((server.data / "incoming").iterdir()))


def test_what_was_sent_leaves_no_trace_in_the_log(server: Server) -> None:
    answer = server.client.post("/v1/jobs", files=[("files", ("Mueller_Hans_1950.nii.gz", nifti(blocks())))])
    server.ended(answer.json()["id"])
    fails(server, [("files", ("Schmidt_Anna.nii.gz", gzip.compress(b"nothing")))])
    log = server.log.read_text().lower()
    assert answer.json()["id"] in log
    assert not [name for name in ("mueller", "schmidt") if name in log]


def test_the_description_names_every_address_and_has_examples(server: Server) -> None:
    found = server.client.get("/openapi.json").json()
    assert {"/v1/models", "/v1/jobs", "/v1/jobs/{id}", "/v1/jobs/{id}/results/{format}", "/v1/jobs/{id}/image"} <= set(found["paths"])
    assert json.dumps(found).count('"example"') > 5
    assert server.client.get("/docs").status_code == 404
