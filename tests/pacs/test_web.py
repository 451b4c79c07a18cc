"""A DICOMweb client against servers that misbehave as they are told to."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from segpipe.dicom.identity import short
from segpipe.pacs.address import WebPlace
from segpipe.pacs.credentials import Credentials
from segpipe.pacs.faults import DeniedError, LaterError, RefusedError
from segpipe.pacs.fetch import Fetched, Missing, fetch, hold_back
from segpipe.pacs.multipart import wrap
from segpipe.pacs.parcel import Parcel
from segpipe.pacs.patience import Patience
from segpipe.pacs.tls import TlsFiles
from segpipe.pacs.web import Web
from tests.dicom.series import Series
from tests.pacs.objects import make_object, uid_of

pytest.importorskip("requests")
QUICK = Patience(tries=3, first=0.01, most=0.02)


@dataclass
class Answer:
    status: int = 200
    body: bytes = b"[]"
    headers: dict[str, str] = field(default_factory=dict)
    short_by: int = 0
    """Bytes that are promised and do not come."""
    reason: str | None = None


@dataclass
class Scripted:
    """Attributes:
    script: answers by the end of the path, in turn; the last one stays.
    """

    script: dict[str, list[Answer]] = field(default_factory=dict)
    seen: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)
    port: int = 0

    @property
    def place(self) -> WebPlace:
        return WebPlace(f"http://127.0.0.1:{self.port}/pacs")

    def answer(self, path: str) -> Answer:
        for end, answers in self.script.items():
            if path.partition("?")[0].endswith(end):
                return answers.pop(0) if len(answers) > 1 else answers[0]
        return Answer(404, b"")

    def asked(self, end: str) -> int:
        return sum(path.partition("?")[0].endswith(end) for _, path, _, _ in self.seen)


@pytest.fixture
def server() -> Iterator[Scripted]:
    scripted = Scripted()

    class Handler(http.server.BaseHTTPRequestHandler):
        def _reply(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            scripted.seen.append((self.command, self.path, dict(self.headers), body))
            answer = scripted.answer(self.path)
            if answer.status == 0:
                self.connection.close()
                return
            self.send_response(answer.status, answer.reason)
            for key, value in {"Content-Length": str(len(answer.body) + answer.short_by), **answer.headers}.items():
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(answer.body)

        do_GET = do_POST = _reply  # noqa: N815

        def log_message(self, *words: Any) -> None:
            pass

    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    scripted.port = running.server_address[1]
    thread = threading.Thread(target=running.serve_forever, daemon=True)
    thread.start()
    yield scripted
    running.shutdown()
    running.server_close()
    thread.join()


def web(server: Scripted, credentials: Credentials | None = None) -> Web:
    return Web(server.place, credentials or Credentials(), TlsFiles())


def listed(tag: str, *uids: str, modality: str = "CT") -> bytes:
    return json.dumps([{tag: {"vr": "UI", "Value": [uid]}, "00080060": {"vr": "CS", "Value": [modality]}} for uid in uids]).encode()


def parcel_of(tmp_path: Path) -> tuple[Parcel, bytes]:
    make_object(tmp_path / "x.dcm", "1.2.3", "x")
    data = (tmp_path / "x.dcm").read_bytes()
    return Parcel.of_bytes(data, "x"), data


@pytest.mark.parametrize(
    ("answer", "error", "said"),
    [
        (Answer(401), DeniedError, "SEGPIPE_DICOMWEB_USER"),
        (Answer(403), DeniedError, "refuses us"),
        (Answer(404, b""), DeniedError, "no DICOMweb service"),
        (Answer(302, b"", {"Location": "https://elsewhere/"}), DeniedError, "leads elsewhere"),
        (Answer(200, b"<html>"), DeniedError, "does not speak DICOMweb"),
        (Answer(200, b'{"a": 1}'), DeniedError, "does not speak DICOMweb"),
        (Answer(503, b"", {"Retry-After": "7"}), LaterError, "503"),
        (Answer(500, b""), LaterError, "500"),
        (Answer(0), LaterError, "nobody answers"),
        (Answer(200, b"[", {}, 9), LaterError, "cut off|nobody answers"),
    ],
    ids=lambda value: str(getattr(value, "status", "")),
)
def test_each_fault_is_told_apart(server: Scripted, answer: Answer, error: type[Exception], said: str) -> None:
    server.script["/studies"] = [answer]
    with pytest.raises(error, match=said) as raised:
        web(server).check()
    if answer.headers.get("Retry-After"):
        assert raised.value.wait == 7.0  # type: ignore[attr-defined]


def test_a_server_that_is_not_there_may_come(server: Scripted) -> None:
    place = WebPlace("http://127.0.0.1:1/pacs")
    with pytest.raises(LaterError, match="nobody answers .*refused") as raised:
        Web(place, Credentials(), TlsFiles()).check()
    assert not raised.value.unsure


@pytest.mark.parametrize(
    ("credentials", "header"),
    [
        (Credentials("al", "geheim"), "Basic YWw6Z2VoZWlt"),
        (Credentials("jürg", "ü"), "Basic asO8cmc6w7w="),
        (Credentials(token="abc"), "Bearer abc"),
        (Credentials(), None),
    ],
)
def test_credentials_go_into_the_header_alone(
    server: Scripted, credentials: Credentials, header: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login other password other\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    server.script["/studies"] = [Answer()]
    web(server, credentials).check()
    [(_, path, headers, _)] = server.seen
    assert headers.get("Authorization") == header
    assert "geheim" not in path


def test_every_page_is_asked_for_and_what_is_no_uid_is_passed_over(server: Scripted) -> None:
    many = [f"1.2.{number}" for number in range(500)]
    server.script["/instances"] = [Answer(200, listed("00080018", *many)), Answer(200, listed("00080018", "1.2.500", "../../etc"))]
    assert len(web(server).instances("1", "2")) == 501
    assert "offset=500" in server.seen[2][1]


@dataclass
class Pages(Scripted):
    """A server that lists a few at a time, however many it is asked for.

    Attributes:
        many: how many there are.
        at_most: on a page.
        size: how many it says there are; None: it does not say.
        ends: its answer behind the end.
    """

    many: int = 250
    at_most: int = 100
    size: int | None = None
    ends: Answer = field(default_factory=lambda: Answer(204, b""))

    def answer(self, path: str) -> Answer:
        if path.partition("?")[0].endswith("/series"):
            said = {"0020000E": {"vr": "UI", "Value": ["2"]}, "00201209": {"vr": "IS", "Value": [self.size]}}
            return Answer(404, b"") if self.size is None else Answer(200, json.dumps([said]).encode())
        offset = int(parse_qs(urlsplit(path).query)["offset"][0])
        uids = [f"1.2.{one}" for one in range(offset, min(offset + self.at_most, self.many))]
        return Answer(200, listed("00080018", *uids)) if uids else self.ends


@pytest.mark.parametrize("size", [None, 250])
def test_pages_that_are_shorter_than_asked_for_lose_nothing(server: Scripted, monkeypatch: pytest.MonkeyPatch, size: int | None) -> None:
    monkeypatch.setattr(server, "answer", Pages(size=size).answer)
    assert web(server).instances("1", "2") == [f"1.2.{one}" for one in range(250)]


def test_a_server_that_refuses_what_lies_behind_the_end_must_have_listed_all(server: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    pages = Pages(size=250, ends=Answer(400, b""))
    monkeypatch.setattr(server, "answer", pages.answer)
    assert len(web(server).instances("1", "2")) == 250
    pages.size = None
    with pytest.raises(RefusedError, match="400"):
        web(server).instances("1", "2")


def test_fewer_instances_than_the_series_is_said_to_have_are_refused(server: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "answer", Pages(size=251).answer)
    with pytest.raises(RefusedError, match="lists 250 of the 251 instances"):
        web(server).instances("1", "2")


@pytest.mark.parametrize("bound", ["_MOST", "_PAGES"])
def test_a_server_that_invents_instances_comes_to_an_end(server: Scripted, monkeypatch: pytest.MonkeyPatch, bound: str) -> None:
    monkeypatch.setattr(f"segpipe.pacs.web.{bound}", {"_MOST": 950, "_PAGES": 10}[bound])
    monkeypatch.setattr(server, "answer", Pages(many=10**9).answer)
    with pytest.raises(RefusedError, match=r"lists without end \(more than 999\)"):
        web(server).instances("1", "2")


def test_a_server_that_knows_no_pages_is_not_asked_for_ever(server: Scripted) -> None:
    server.script["/instances"] = [Answer(200, listed("00080018", *(f"1.2.{number}" for number in range(600))))]
    assert len(web(server).instances("1", "2")) == 600
    assert server.asked("/instances") == 2


@pytest.mark.parametrize(
    ("answers", "asked"),
    [
        ([Answer(503, b"")], 1),
        ([Answer(200, b"", {}, 0)], 1),
        ([Answer(0)], 1),
    ],
    ids=["busy", "empty", "closed"],
)
def test_a_series_is_fetched_through_faults_and_only_what_is_missing_again(
    server: Scripted, tmp_path: Path, answers: list[Answer], asked: int
) -> None:
    paths = Series().write(tmp_path / "made").paths[:3]
    uids = [Parcel.of_file(path).instance for path in paths]
    server.script["/series"] = [Answer(200, listed("0020000E", "1.2.3.0")[:-1] + b"," + listed("0020000E", "9.9", modality="SR")[1:])]
    server.script["/instances"] = [Answer(200, listed("00080018", *uids))]
    for uid, path in zip(uids, paths, strict=True):
        kind, body = wrap(path.read_bytes())
        server.script[f"/instances/{uid}"] = [Answer(200, body, {"Content-Type": kind})]
    server.script[f"/instances/{uids[1]}"].insert(0, answers[0])
    spool = tmp_path / "spool"
    place = WebPlace(server.place.root, "1.2.3.77")
    missing = fetch(web(server), place, spool, QUICK).missing
    if answers[0].status == 200:  # an empty file is no fault that time cures
        assert [one.series for one in missing] == [short("1.2.3.0")]
        assert not (spool / short("1.2.3.0")).exists()
        missing = fetch(web(server), place, spool, QUICK).missing
    assert missing == []
    got = sorted((spool / short("1.2.3.0")).iterdir())
    assert sorted(path.read_bytes() for path in got) == sorted(path.read_bytes() for path in paths)
    assert server.asked(f"/instances/{uids[0]}") == 1
    assert server.asked(f"/instances/{uids[1]}") == 1 + asked
    assert server.asked("/9.9/instances") == 0
    fetched = fetch(web(server), place, spool, QUICK)
    shown = f"dicomweb://127.0.0.1:{server.port}/pacs study {short('1.2.3.77')} series {short('1.2.3.0')}"
    assert (fetched.origins, fetched.missing) == ({short("1.2.3.0"): shown}, [])
    assert server.asked(f"/instances/{uids[0]}") == 1


def test_what_the_server_does_not_tell_to_be_whole_now_is_not_segmented(tmp_path: Path) -> None:
    for name in ("good", "missing", "gone", ".missing", ".part"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.dcm").write_bytes(b"x")
    hold_back(tmp_path, Fetched({"good": "series good"}, [Missing("missing", "busy")]))
    assert {path.name for path in tmp_path.iterdir()} == {"good", ".missing", ".part"}
    assert [path.name for path in (tmp_path / ".missing").iterdir()] == ["missing.dcm"]  # nothing of it is fetched twice


@pytest.mark.parametrize("cut", [3, 30, 300])
def test_half_a_file_is_never_kept(server: Scripted, tmp_path: Path, cut: int) -> None:
    path = Series().write(tmp_path / "made").paths[0]
    kind, body = wrap(path.read_bytes())
    server.script["/instances/1"] = [Answer(200, body[:-cut], {"Content-Type": kind})]
    with pytest.raises(LaterError, match="cut off"):
        web(server).fetch("1.2.3.77", "1.2.3.0", "1", tmp_path / "spool" / "x.dcm")
    assert list((tmp_path / "spool").iterdir()) == []


def test_another_instance_than_the_one_that_was_asked_for_is_not_kept(server: Scripted, tmp_path: Path) -> None:
    path = Series().write(tmp_path / "made").paths[0]
    kind, body = wrap(path.read_bytes())
    server.script["/instances/1"] = [Answer(200, body, {"Content-Type": kind})]
    with pytest.raises(RefusedError, match="another instance"):
        web(server).fetch("1.2.3.77", "1.2.3.0", "1", tmp_path / "x.dcm")
    assert not (tmp_path / "x.dcm").exists()


STORED = json.dumps(
    {"00081199": {"vr": "SQ", "Value": [{"00081155": {"vr": "UI", "Value": [uid_of("1.2.3", "x")]}}]}},
).encode()


def failed(reason: int | str | None) -> bytes:
    return json.dumps({"00081198": {"vr": "SQ", "Value": [{"00081197": {"vr": "US", "Value": [reason]}}]}}).encode()


@pytest.mark.parametrize(
    ("answer", "error", "unsure"),
    [
        (Answer(200, STORED), None, False),
        (Answer(202, b"[" + STORED + b"]"), None, False),
        (Answer(409, failed(0x0111)), None, False),  # it is there already
        (Answer(200, failed("A700")), LaterError, False),
        (Answer(200, failed("42752")), LaterError, False),
        (Answer(200, failed(None)), RefusedError, False),
        (Answer(200, b'{"00081198": {"Value": [null]}}'), RefusedError, False),
        (Answer(200, b'{"00081198": {"Value": [{"00081197": {"Value": null}}]}}'), RefusedError, False),
        (Answer(200, b'{"00081198": []}'), LaterError, True),
        (Answer(200, b'{"00081198": {"Value": null}}'), LaterError, True),
        (Answer(200, b'{"00081199": [null]}'), LaterError, True),
        (Answer(200, b'{"00081199": {"Value": [{"00081155": {"Value": ["1.2"]}}]}}'), LaterError, True),
        (Answer(200, b"null"), DeniedError, False),
        (Answer(200, b"<html>Log in</html>"), DeniedError, False),
        (Answer(409, b"{}"), RefusedError, False),
        (Answer(200, failed(0xC000)), RefusedError, False),
        (Answer(409, failed(0xA700)), LaterError, False),
        (Answer(503, b""), LaterError, True),
        (Answer(0), LaterError, True),
        (Answer(400, b""), RefusedError, False),
        (Answer(200, b"{", {}, 9), LaterError, True),
    ],
    ids=lambda value: str(getattr(value, "status", "")),
)
def test_what_becomes_of_an_object_that_is_sent(
    server: Scripted, tmp_path: Path, answer: Answer, error: type[Exception] | None, unsure: bool
) -> None:
    server.script["/studies"] = [answer]
    parcel, data = parcel_of(tmp_path)
    if error is None:
        web(server).store(parcel, data)
        assert data in server.seen[0][3]
        return
    with pytest.raises(error) as raised:
        web(server).store(parcel, data)
    assert getattr(raised.value, "unsure", False) is unsure


@pytest.mark.parametrize(
    "answer",
    [Answer(200, b""), Answer(204, b""), Answer(202, b"{}"), Answer(200, b"<html>")],
    ids=["empty", "no content", "nothing named", "a page"],
)
def test_an_object_that_is_not_named_as_stored_is_asked_for_before_it_counts_as_sent(
    server: Scripted, tmp_path: Path, answer: Answer
) -> None:
    parcel, data = parcel_of(tmp_path)
    server.script["/studies"] = [answer]
    server.script["/instances"] = [Answer(200, listed("00080018", parcel.instance)), Answer(204, b""), Answer(503, b"")]
    web(server).store(parcel, data)
    assert server.asked("/instances") == 1
    for said in ("does not have it", "503"):
        with pytest.raises(LaterError, match=said) as raised:
            web(server).store(parcel, data)
        assert raised.value.unsure


@pytest.mark.parametrize("status", [200, 409])
def test_an_object_that_a_server_says_it_has_already_is_looked_for(server: Scripted, tmp_path: Path, status: int) -> None:
    parcel, data = parcel_of(tmp_path)
    server.script["/studies"] = [Answer(status, failed(0x0111))]
    server.script["/instances"] = [Answer(200, listed("00080018", parcel.instance)), Answer(404), Answer(204, b"")]
    web(server).store(parcel, data)
    web(server).store(parcel, data)  # it offers no search
    assert server.asked("/instances") == 2
    with pytest.raises(LaterError, match="says that it has it .*0111.*, and does not list it") as raised:
        web(server).store(parcel, data)
    assert (raised.value.unsure, raised.value.alone) == (True, True)


def test_the_words_of_a_server_are_not_told(server: Scripted, tmp_path: Path) -> None:
    server.script["/studies"] = [Answer(400, reason="DOE^JANE is no patient")]
    with pytest.raises(RefusedError, match="400 Bad Request") as raised:
        web(server).store(*parcel_of(tmp_path))
    assert "JANE" not in str(raised.value)


def test_no_proxy_of_the_surroundings_is_used(server: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    server.script["/studies"] = [Answer()]
    web(server, Credentials("al", "geheim")).check()
    assert server.asked("/studies") == 1


def test_whether_an_object_is_there_is_asked_by_its_uids(server: Scripted, tmp_path: Path) -> None:
    parcel, _ = parcel_of(tmp_path)
    server.script["/instances"] = [Answer(200, listed("00080018", parcel.instance)), Answer(204, b""), Answer(404, b"")]
    assert [web(server).has(parcel) for _ in range(3)] == [True, False, None]
    assert parcel.study in server.seen[0][1]
