"""Forms read as they come: whatever the pieces are, what is sent is what lies on disk; names are for people alone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import hypothesis
import hypothesis.strategies as st
import pytest

pytest.importorskip("fastapi")

import itertools

from starlette.requests import Request

from segpipe.server import upload
from segpipe.server.faults import RequestError
from segpipe.server.settings import Limits
from segpipe.server.upload import TAKEN, Form, cleaned, receive, receive_body

BODY = (
    b'--x\r\nContent-Disposition: form-data; name="model"\r\n\r\nzones\r\n'
    b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.nii.gz"\r\nContent-Type: application/gzip\r\n\r\n'
    b"\r\n--y\r\n--\r\n\x00\xff"
    b'\r\n--x\r\nContent-Disposition: form-data; name="files"; filename="b.zip"\r\n\r\nsecond\r\n--x--\r\n'
)


def request_of(pieces: Iterable[bytes], ends: bool = True, **headers: str) -> Request:
    """A request whose body comes in these pieces; one that does not end says nothing more."""
    left = list(pieces)

    async def said() -> dict[str, Any]:
        if left:
            return {"type": "http.request", "body": left.pop(0), "more_body": bool(left) or not ends}
        await asyncio.sleep(3600)
        return {"type": "http.disconnect"}

    words = {"content-type": "multipart/form-data; boundary=x", **headers}
    scope = {"type": "http", "method": "POST", "headers": [(name.encode(), value.encode()) for name, value in words.items()]}
    return Request(scope, said)


def read(folder: Path, pieces: Iterable[bytes], limits: Limits | None = None, **headers: str) -> Form:
    return asyncio.run(receive(request_of(pieces, **headers), folder, limits or Limits()))


@hypothesis.given(st.lists(st.integers(1, len(BODY) - 1), max_size=8))
@hypothesis.settings(max_examples=60)
def test_a_form_is_the_same_in_whatever_pieces_it_comes(tmp_path_factory: pytest.TempPathFactory, cuts: list[int]) -> None:
    folder = tmp_path_factory.mktemp("form")
    ends = [0, *sorted(cuts), len(BODY)]
    form = read(folder, [BODY[a:b] for a, b in itertools.pairwise(ends)])
    assert form.fields == {"model": "zones"}
    assert [(sent.field, sent.name, sent.path.name) for sent in form.files] == [
        ("files", "a.nii.gz", "0000.nii.gz"),
        ("files", "b.zip", "0001.zip"),
    ]
    assert [sent.path.read_bytes() for sent in form.files] == [b"\r\n--y\r\n--\r\n\x00\xff", b"second"]


@hypothesis.given(st.text(max_size=300))
def test_no_name_keeps_anything_of_a_path(name: str) -> None:
    found = cleaned(name)
    assert 1 <= len(found) <= 120
    assert found.isprintable()
    assert not set(found) & set("/\\<>&\"'")
    assert found not in (".", "..")
    assert not found.startswith(".")


def test_what_says_that_it_is_too_large_is_not_read(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="larger than 1 MB") as refused:
        read(tmp_path, [], Limits(upload_mb=1.0), **{"content-length": str((1 << 20) + 1)})
    assert refused.value.status == 413
    assert not list(tmp_path.iterdir())


def test_what_does_not_say_it_is_stopped_when_it_is(tmp_path: Path) -> None:
    head = BODY.partition(b"\x00")[0]
    with pytest.raises(RequestError, match="larger than 1 MB"):
        read(tmp_path, [head, *[bytes(1 << 16)] * 1000], Limits(upload_mb=1.0))
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 1 << 20


def test_a_sender_that_sends_a_byte_now_and_then_is_let_go_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload, "_IDLE_SECONDS", 0.2)

    async def dripping() -> dict[str, Any]:
        await asyncio.sleep(0.02)
        return {"type": "http.request", "body": b"a", "more_body": True}

    request = request_of([])
    request._receive = dripping
    with pytest.raises(RequestError, match="less than 16384 bytes came in 0.2 s"):
        asyncio.run(receive_body(request, tmp_path / "body", Limits()))


def test_a_sender_that_sends_nothing_is_let_go_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload, "_IDLE_SECONDS", 0.05)
    with pytest.raises(RequestError, match="less than 16384 bytes came in 0.05 s") as refused:
        asyncio.run(receive(request_of([BODY[:100]], ends=False), tmp_path, Limits()))
    assert refused.value.status == 408


def test_a_disk_that_is_slow_is_no_fault_of_the_sender(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload, "_IDLE_SECONDS", 0.5)
    real = upload._Counter.add

    def add(counter: upload._Counter, size: int) -> None:
        time.sleep(0.2)
        real(counter, size)

    monkeypatch.setattr(upload._Counter, "add", add)
    asyncio.run(receive_body(request_of([b"a" * 10] * 6), tmp_path / "body", Limits()))
    assert (tmp_path / "body").stat().st_size == 60


@pytest.mark.parametrize("length", [50, 130, 250, len(BODY) - 8])
def test_a_form_that_was_cut_off_is_refused(tmp_path: Path, length: int) -> None:
    with pytest.raises(RequestError, match="cut off"):
        read(tmp_path, [BODY[:length]])


def test_a_body_alone_is_a_file(tmp_path: Path) -> None:
    asyncio.run(receive_body(request_of([b"ab", b"c"]), tmp_path / "body", Limits()))
    assert (tmp_path / "body").read_bytes() == b"abc"
    with pytest.raises(RequestError, match="the body is empty"):
        asyncio.run(receive_body(request_of([b""]), tmp_path / "none", Limits()))


def test_one_file_formats_alone_are_taken() -> None:
    assert ".mhd" not in TAKEN
    assert {".nii.gz", ".nii", ".nrrd", ".mha", ".png", ".zip"} <= set(TAKEN)
