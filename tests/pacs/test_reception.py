"""The door of a node, spoken to by a real DICOM client on this machine."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pydicom
import pytest

from segpipe.dicom.identity import short
from segpipe.errors import ConfigError
from segpipe.pacs.address import NodePlace
from segpipe.pacs.allowed import parse_allowed
from segpipe.pacs.coming import Limits
from segpipe.pacs.faults import DeniedError, LaterError
from segpipe.pacs.node import Node as Client
from segpipe.pacs.reception import MOST_BYTES, Door, Reception
from segpipe.pacs.spool import INCOMING, Spool
from segpipe.pacs.tls import TlsFiles, server_context
from tests.dicom.series import Series
from tests.pacs.orthanc import free_port

pynetdicom = pytest.importorskip("pynetdicom")
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <s:ResourceWarning")  # pynetdicom, after a connection that failed


class Node:
    def __init__(self, out: Path, limits: Limits, most: int = MOST_BYTES, **door: Any) -> None:
        self.out, self.now = out, 0.0
        out.mkdir(exist_ok=True)
        self.spool = Spool(out, limits, lambda: self.now)
        self.stop, self.port = threading.Event(), free_port()
        self.reception = Reception(Door(port=self.port, **door), self.spool, self.stop, most)
        self.reception.open()

    def close(self) -> None:
        self.reception.close()
        self.spool.close()

    def call(self, title: str = "CT1", called: str = "SEGPIPE", kind: str = "1.2.840.10008.5.1.4.1.1.2") -> Any:
        entity = pynetdicom.AE(ae_title=title)
        entity.add_requested_context("1.2.840.10008.1.1")
        entity.add_requested_context(kind, "1.2.840.10008.1.2.1")
        return entity.associate("127.0.0.1", self.port, ae_title=called)

    def send(self, *paths: Path) -> list[int]:
        association = self.call()
        statuses = [int(association.send_c_store(path).Status) for path in paths]
        association.release()
        self.reception.check()
        return statuses

    def taken(self, seconds: float) -> str | None:
        self.now += seconds
        self.reception.check()
        return self.spool.take()


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    node = Node(tmp_path / "out", Limits(series=2, quiet=5.0))
    yield node
    node.close()


def made(folder: Path, seed: int, **more: Any) -> list[Path]:
    return Series(seed=seed, **more).write(folder / str(seed)).paths


def name_of(seed: int) -> str:
    return short(f"1.2.3.77\0001.2.3.{seed}")


def test_what_is_answered_with_success_is_on_disk(node: Node, tmp_path: Path) -> None:
    paths = made(tmp_path, 1)
    association = node.call()
    assert association.send_c_echo().Status == 0
    for number, path in enumerate(paths, 1):
        assert association.send_c_store(path).Status == 0
        kept = list((node.out / INCOMING / name_of(1)).glob("*.dcm"))
        assert len(kept) == number
        assert any(pydicom.dcmread(one).PixelData == pydicom.dcmread(path).PixelData for one in kept)
    association.release()


def test_a_series_is_complete_when_its_sender_has_ended_and_it_was_quiet_for_long_enough(node: Node, tmp_path: Path) -> None:
    paths = made(tmp_path, 1)
    association = node.call()
    for path in paths[:4]:
        association.send_c_store(path)
    assert node.taken(59.0) is None  # the sender may go on
    for path in paths[4:]:
        association.send_c_store(path)
    association.release()
    assert node.taken(4.0) is None
    assert node.taken(2.0) == name_of(1)
    assert len(list(node.spool.folder(name_of(1)).iterdir())) == len(paths)
    assert node.taken(60.0) is None


def test_a_series_whose_sender_broke_off_waits_until_it_is_sent_again(node: Node, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    paths = made(tmp_path, 1)
    association = node.call()
    association.send_c_store(paths[0])
    association.abort()
    association.join(5)
    for _ in range(100):  # the node's thread hears of it in a moment
        node.reception.check()
        if not node.spool._coming[name_of(1)].senders:
            break
        threading.Event().wait(0.05)
    assert node.taken(49.0) is None
    assert not caplog.messages
    assert node.taken(2.0) is None
    assert [f"series {name_of(1)}" in line and "broken off" in line for line in caplog.messages] == [True]
    assert node.send(*paths) == [0] * len(paths)
    assert node.taken(6.0) == name_of(1)


def test_a_full_queue_takes_no_new_series_and_the_rest_of_those_that_have_begun(node: Node, tmp_path: Path) -> None:
    first, second, third = (made(tmp_path, seed) for seed in (1, 2, 3))
    assert node.send(first[0], second[0]) == [0, 0]
    assert node.send(third[0], *first[1:]) == [0xA700] + [0] * 7
    assert not (node.out / INCOMING / name_of(3)).exists()
    assert node.taken(6.0) in (name_of(1), name_of(2))
    assert node.send(third[0]) == [0xA700]  # taken ones count
    node.spool.done(name_of(1) if (node.out / ".taken" / name_of(1)).exists() else name_of(2))
    assert node.send(third[0]) == [0]


def test_a_full_disk_is_told_to_the_sender(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    paths = made(tmp_path, 1)
    node = Node(tmp_path / "out", Limits(bytes=4 * paths[0].stat().st_size))
    try:
        statuses = node.send(*paths)
        assert node.taken(60.0) is None  # though its sender ended in order: its last slices are missing
    finally:
        node.close()
    assert statuses[0] == 0
    assert statuses[-1] == 0xA700
    assert statuses.count(0) == len(list((tmp_path / "out").rglob("*.dcm")))
    assert sum("no room" in line for line in caplog.messages) == 1


def test_an_instance_that_is_too_large_is_refused_held_no_further_and_stops_no_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    small, large = made(tmp_path, 1)[0], tmp_path / "large.dcm"
    ds = pydicom.dcmread(small)
    ds.Rows = ds.Columns = 1024  # 2 MiB
    ds.PixelData = bytes(2 << 20)
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4"
    ds.save_as(large)
    node, held = Node(tmp_path / "out", Limits(), most=1 << 20), []
    measure = node.reception._measure

    def watched(event: Any) -> None:
        measure(event)
        message = event.assoc.dimse.message
        held.append(message.data_set.getbuffer().nbytes if message is not None else 0)

    monkeypatch.setattr(node.reception, "_measure", watched)
    try:
        statuses = node.send(small, large, small, large)
    finally:
        node.close()
    assert statuses == [0, 0xA700, 0, 0xA700]
    assert len(list((tmp_path / "out").rglob("*.dcm"))) == 1
    assert (1 << 19) < max(held) <= 1 << 20
    assert [line for line in caplog.messages if "GiB was refused" in line] == [
        "an instance of more than 0.00098 GiB was refused: see --max-gb"
    ]


@pytest.mark.parametrize(
    ("title", "called", "diagnostic"),
    [("CT1", "OTHER", 7), ("CT2", "SEGPIPE", 3), ("CT3", "SEGPIPE", 3)],
    ids=["called", "title", "address"],
)
def test_whoever_is_not_allowed_is_rejected_with_the_reason(tmp_path: Path, title: str, called: str, diagnostic: int) -> None:
    node = Node(tmp_path / "out", Limits(), host="127.0.0.1", allowed=parse_allowed(["CT1@127.0.0.1", "CT3@10.1.2.3"]))
    try:
        association = node.call(title, called)
        assert association.is_rejected
        said = association.acceptor.primitive
        assert (said.result, said.result_source, said.diagnostic) == (1, 1, diagnostic)
        known = node.call("CT1")
        assert known.send_c_echo().Status == 0
        known.release()
    finally:
        node.close()


def silent(port: int, host: str = "127.0.0.1") -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), 10, (host, 0))


def is_closed(client: socket.socket) -> bool:
    client.settimeout(10)
    try:
        return client.recv(1) == b""
    except ConnectionResetError:
        return True


def test_strangers_who_say_nothing_are_shut_out_before_they_cost_anything(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    node = Node(tmp_path / "out", Limits(), host="127.0.0.1", allowed=parse_allowed(["CT1@127.0.0.1"]))
    with contextlib.ExitStack() as open_:
        open_.callback(node.close)
        strangers = [open_.enter_context(silent(node.port, "127.0.0.2")) for _ in range(40)]
        assert all(map(is_closed, strangers))
        assert not node.reception._entity.active_associations
        known = node.call("CT1")
        assert known.send_c_echo().Status == 0
        known.release()
    assert [line for line in caplog.messages if "127.0.0.2 is not allowed" in line] == [
        "127.0.0.2 is not allowed, and its connection was closed: --allow AET@127.0.0.2 lets it in"
    ]


def test_one_host_keeps_no_other_out_and_may_come_again_when_it_has_ended(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    node = Node(tmp_path / "out", Limits(), host="127.0.0.1", allowed=parse_allowed(["CT1@127.0.0.0/24"]))
    with contextlib.ExitStack() as open_:
        open_.callback(node.close)
        many = [open_.enter_context(silent(node.port, "127.0.0.2")) for _ in range(18)]
        assert all(map(is_closed, many[16:]))
        assert "127.0.0.2 has 16 connections, and one more was closed" in caplog.messages
        known = node.call("CT1")
        assert known.send_c_echo().Status == 0
        known.release()
        for client in many:
            client.close()
        for _ in range(100):
            if not node.reception._entity.active_associations:
                break
            threading.Event().wait(0.05)
        later = open_.enter_context(silent(node.port, "127.0.0.2"))
        later.settimeout(0.5)
        with pytest.raises(TimeoutError):  # it is waited for
            later.recv(1)
        later.close()


def test_nobody_is_let_in_once_the_node_is_to_end(node: Node) -> None:
    node.stop.set()
    association = node.call()
    assert association.is_rejected
    assert association.acceptor.primitive.result == 2  # for now


def test_an_instance_without_a_series_or_with_another_uid_is_refused(node: Node, tmp_path: Path) -> None:
    [path, *_] = made(tmp_path, 1)
    ds = pydicom.dcmread(path)
    del ds.SeriesInstanceUID
    association = node.call()
    assert association.send_c_store(ds).Status == 0xC000
    assert not list(node.out.rglob("*.dcm"))
    assert association.send_c_store(path).Status == 0
    association.release()
    assert node.taken(100.0) is None  # what was refused may be of its series
    assert node.send(path) == [0]
    assert node.taken(6.0) == name_of(1)


def test_a_port_that_is_taken_and_a_second_node_in_a_folder_are_refused(node: Node, tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    other = Spool(tmp_path / "b", Limits())
    with pytest.raises(ConfigError, match=rf"--port {node.port} at 127.0.0.1: cannot be opened"):
        Reception(Door(port=node.port), other, threading.Event()).open()
    other.close()
    with pytest.raises(ConfigError, match=r"node.sqlite: another segpipe listen has it"):
        Spool(node.out, Limits())


def test_with_tls_only_known_certificates_come_in_and_whoever_is_silent_keeps_nobody_out(tmp_path: Path, certificate: TlsFiles) -> None:
    node = Node(tmp_path / "out", Limits(), tls=True, files=certificate)
    try:
        with socket.create_connection(("127.0.0.1", node.port)):
            Client(NodePlace("SEGPIPE", "localhost", node.port, True), "CT1", certificate).check()
        for stranger in (NodePlace("SEGPIPE", "localhost", node.port, True), NodePlace("SEGPIPE", "localhost", node.port)):
            with pytest.raises((LaterError, DeniedError)):
                Client(stranger, "CT1", TlsFiles(certificate.authority)).check()
    finally:
        node.close()


def test_tls_without_a_certificate_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="give --tls-cert"):
        server_context(TlsFiles(tmp_path / "x.pem"))
    with pytest.raises(ConfigError, match="--tls-cert .*cannot be used"):
        TlsFiles(None, tmp_path / "x.pem").check()


def test_a_sender_that_is_silent_is_let_go_after_its_series_was_taken_for_whole(tmp_path: Path) -> None:
    node = Node(tmp_path / "out", Limits(quiet=100.0))
    try:
        assert node.reception._entity.network_timeout > Limits(quiet=100.0).open
    finally:
        node.close()
