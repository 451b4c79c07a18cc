"""Clients that keep the server waiting: they are let go of, and stop nobody else."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

pytest.importorskip("fastapi")

import uvicorn
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from segpipe.geometry.grid import Volume
from segpipe.io.write import write_label_map, write_volume
from segpipe.server import connections, image, monailabel
from segpipe.server.app import build_app
from segpipe.server.connections import Connection
from segpipe.server.faults import RequestError
from segpipe.server.settings import ServerSettings
from segpipe.server.turns import Turns
from tests.bundle.conftest import write_model
from tests.inference.conftest import oblique_grid
from tests.server.conftest import until
from tests.server.test_schema import done_job

SIDE = 160
"""Voxels along each axis of a scan that no socket holds."""
UPLOAD = (
    b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\nContent-Type: multipart/form-data; boundary=x\r\n\r\n"
    b"--x\r\nContent-Disposition: form-data; name=files; filename=a.nii\r\n\r\n"
)
LOGIN = b"POST /auth/token HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\na"


class Here:
    """A server in this process, whose limits a test can change; its work does not begin."""

    def __init__(self, folder: Path) -> None:
        self.app = app = build_app(ServerSettings((write_model(folder / "model.ts"),), folder / "data"))
        self.service = app.state.service
        self.service.start = lambda: None
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._server = uvicorn.Server(uvicorn.Config(app, http=Connection, ws="none", log_config=None, timeout_graceful_shutdown=1))
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._listener]}, daemon=True)
        self._thread.start()
        self.lines: list[socket.socket] = []

    def lined(self, said: bytes, count: int = 1) -> list[socket.socket]:
        """So many connections that have said something, which go on with nothing."""
        found = [socket.create_connection(("127.0.0.1", self.port), 30) for _ in range(count)]
        for line in found:
            line.sendall(said)
        self.lines += found
        return found

    def ask(self, path: str = "/health") -> httpx.Response:
        return httpx.get(f"http://127.0.0.1:{self.port}{path}", timeout=30, trust_env=False)

    def open(self) -> int:
        return len(self._server.server_state.connections)

    def connections(self) -> list[Connection]:
        return [one for one in list(self._server.server_state.connections) if isinstance(one, Connection)]

    def close(self) -> None:
        for line in self.lines:
            line.close()
        self._server.should_exit = True
        self._thread.join(60)
        assert not self._thread.is_alive()
        self._listener.close()


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Here]:
    with contextlib.closing(Here(tmp_path)) as server:
        until(lambda: server.ask().status_code == 200)
        yield server


def large(here: Here) -> str:
    """The address of an image that no socket holds."""
    id = done_job(here.service)
    path = here.service.scan(here.service.job(id))[0]
    path.unlink()
    noise = np.random.default_rng(0).random((1, SIDE, SIDE, SIDE), np.float32)
    write_volume(path, Volume(noise, oblique_grid((SIDE, SIDE, SIDE))))
    return f"/v1/jobs/{id}/image"


def silent(line: socket.socket) -> bool:
    """Whether a connection is open and nothing has come on it."""
    line.setblocking(False)
    try:
        line.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return True
    finally:
        line.settimeout(30)
    return False


def said(line: socket.socket) -> bytes:
    """What a connection has got until it was closed."""
    found = b""
    with contextlib.suppress(ConnectionResetError):
        while data := line.recv(1 << 16):
            found += data
    return found


def test_who_waits_on_nothing_gives_way_and_the_state_is_told(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MOST_CONNECTIONS", 8)
    idle = here.lined(b"GET /hea", 20)
    assert [here.ask().status_code for _ in range(3)] == [200, 200, 200]
    assert here.open() <= 8
    assert said(idle[0]) == b""  # the first that came are the first to go


def test_requests_that_drip_give_way_to_others(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MOST_REQUESTS", 4)
    monkeypatch.setattr(connections, "RUSH_SECONDS", 0.5)
    slow = here.lined(UPLOAD, 4)
    until(lambda: len(list((here.service.settings.data / "incoming").iterdir())) == 4)
    refused = here.ask("/v1/models")  # at once
    assert (refused.status_code, "ask again in a moment" in refused.json()["error"]) == (503, True)
    assert int(refused.headers["retry-after"]) > 0
    assert here.ask().status_code == 200
    end = time.monotonic() + 0.8
    while time.monotonic() < end:
        for line in slow:
            line.sendall(b"a")
        time.sleep(0.1)
    assert here.ask("/v1/models").status_code == 200  # one byte now and then is no progress
    answers = [said(line) for line in slow if not silent(line)]
    assert len(answers) == 1
    assert answers[0].startswith(b"HTTP/1.1 408 Request Timeout\r\n")
    assert b'"error":"the request came' in answers[0]
    until(lambda: len(list((here.service.settings.data / "incoming").iterdir())) == 3)


@pytest.mark.parametrize("start", [b"", b"GET /health HTT", UPLOAD, LOGIN])
def test_nobody_keeps_a_connection_by_saying_nothing(here: Here, monkeypatch: pytest.MonkeyPatch, start: bytes) -> None:
    monkeypatch.setattr(connections, "PATIENCE_SECONDS", 0.5)
    [line] = here.lined(start)
    answer = said(line)
    assert answer == b"" if b"\r\n\r\n" not in start else answer.startswith(b"HTTP/1.1 408 ")


def test_who_does_not_read_is_let_go_of_and_who_reads_slowly_gets_all(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "PATIENCE_SECONDS", 1.5)
    address = large(here)
    whole = here.ask(address).content
    assert len(whole) > 8 << 20
    request = f"GET {address} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
    deaf, slow = here.lined(request, 2)
    got, begin = b"", time.monotonic()
    while data := slow.recv(1 << 18):
        got += data
        time.sleep(0.05)
    assert time.monotonic() - begin > 1.5
    assert got.partition(b"\r\n\r\n")[2] == whole
    until(lambda: here.open() == 0)
    assert len(said(deaf)) < len(whole)


def test_an_answer_that_is_still_being_taken_is_a_request_in_hand(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that was handed over whole, as those to clients of MONAI Label: who has taken half of it gives way to nobody who says nothing."""
    body = b"a" * (24 << 20)
    here.app.router.routes.insert(0, Route("/whole", lambda request: Response(body)))
    monkeypatch.setattr(connections, "MOST_CONNECTIONS", 4)
    [taking] = here.lined(b"GET /whole HTTP/1.1\r\nHost: localhost\r\n\r\n")
    got = taking.recv(1 << 16)
    here.lined(b"GET /hea", 8)
    head = got.index(b"\r\n\r\n") + 4
    while len(got) < head + len(body) and (data := taking.recv(1 << 20)):
        got += data
        time.sleep(0.02)
    assert got[head:] == body


@pytest.mark.parametrize("output", ["image", "all"])
def test_a_label_map_for_a_client_of_monai_label_waits_on_disk_and_not_in_memory(here: Here, output: str) -> None:
    job = here.service.job(done_job(here.service))
    shape = (SIDE, SIDE, SIDE)
    write_label_map(here.service.result(job.id, "nifti"), np.full(shape, 10, np.uint8), oblique_grid(shape))
    wanted = {"result_extension": ".nrrd", "result_compress": False, "result_dtype": "uint32"}
    here.app.router.routes.insert(0, Route("/answer", lambda request: monailabel._answer(here.service, job, wanted, output)))
    [slow] = here.lined(b"GET /answer HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    got = slow.recv(1000)
    until(lambda: any(one.transport.get_write_buffer_size() for one in here.connections()))  # it takes no more
    assert max(one.transport.get_write_buffer_size() for one in here.connections()) <= 1 << 20
    assert not list(here.service.folder(job).glob(".answer-*"))
    head, _, body = (got + said(slow)).partition(b"\r\n\r\n")
    assert f"content-length: {len(body)}" in head.decode().lower()
    assert body.count(np.full(1, 10, np.uint32).tobytes()) == SIDE**3


def test_connections_that_are_being_closed_count_until_their_answer_is_taken(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MOST_CONNECTIONS", 6)
    monkeypatch.setattr(connections, "RUSH_SECONDS", 0.2)
    here.app.router.routes.insert(0, Route("/whole", lambda request: Response(b"a" * (24 << 20))))
    for _ in range(12):
        here.lined(b"GET /whole HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        time.sleep(0.3)
    assert here.open() <= 6
    assert here.ask().status_code == 200


def test_who_reads_an_answer_slowly_is_seen_to_move(here: Here) -> None:
    """What the system holds back for it would hide for seconds that it reads."""
    rate, worst = 300_000, 0.0
    here.app.router.routes.insert(0, Route("/long", lambda request: StreamingResponse(b"a" * (1 << 16) for _ in range(1 << 10))))
    [slow] = here.lined(b"GET /long HTTP/1.1\r\nHost: localhost\r\n\r\n")
    begin, got = time.monotonic(), 0
    while (now := time.monotonic()) - begin < 12:
        got += len(slow.recv(1 << 16))
        time.sleep(max(0.0, begin + got / rate - now))
        if now - begin > 5:  # what the sockets hold is full
            worst = max(worst, *(one.stale(time.monotonic()) for one in here.connections()))
    assert 0 < worst < connections.RUSH_SECONDS


@pytest.mark.parametrize("words", [b"\x16\x03\x01\x02\x00\x01\x00", b"nonsense\r\n\r\n", b"GET / HTTP/1.1\r\nA: " + b"a" * (1 << 17)])
def test_what_is_no_http_is_told_in_one_line(here: Here, words: bytes) -> None:
    [line] = here.lined(words)
    head, _, body = said(line).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert json.loads(body)["error"].startswith("this is no request in HTTP/1.1")


def test_an_answer_that_takes_long_to_make_is_waited_for(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "PATIENCE_SECONDS", 0.5)
    real = here.service.models
    monkeypatch.setattr(here.service, "models", lambda: time.sleep(2.5) or real())
    assert here.ask("/v1/models").status_code == 200


def test_images_that_are_converted_hold_no_thread_of_others(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    go, inside = threading.Event(), list[str]()

    def convert(*rest: Any) -> None:
        inside.append("one")
        go.wait(60)

    monkeypatch.setattr(image, "_convert", convert)
    monkeypatch.setattr(image, "_is_one", lambda path: False)
    address = f"/v1/jobs/{done_job(here.service)}/image"
    asked = here.lined(f"GET {address} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode(), 70)
    answers = until(lambda: [line for line in asked if not silent(line)])
    assert b"503" in answers[0].recv(2000)
    for path in ("/health", "/v1/models", "/v1/jobs"):
        assert here.ask(path).status_code == 200
    assert len(inside) == 1
    go.set()


def test_turns_are_few_at_once_and_what_is_raised_gives_its_place_back() -> None:
    turns, most, now = Turns(2, 3), [0], [0]

    def work(number: int) -> int:
        now[0] += 1
        most[0] = max(most[0], now[0])
        time.sleep(0.05)
        now[0] -= 1
        if number == 2:
            raise ValueError("two")
        return number

    async def many(count: int) -> list[Any]:
        return await asyncio.gather(*(turns.run(work, number) for number in range(count)), return_exceptions=True)

    found = asyncio.run(many(7))
    assert [value for value in found if isinstance(value, int)] == [0, 1, 3, 4]
    assert isinstance(found[2], ValueError)
    refused = found[5:]
    assert all(isinstance(error, RequestError) and error.status == 503 for error in refused)
    assert most[0] == 2
    assert asyncio.run(many(2)) == [0, 1]
