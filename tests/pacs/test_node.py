"""A DICOM node that answers oddly."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from pydicom.dataset import Dataset

from segpipe.pacs.address import NodePlace
from segpipe.pacs.faults import LaterError, RefusedError
from segpipe.pacs.node import Node
from segpipe.pacs.parcel import Parcel
from segpipe.pacs.tls import TlsFiles
from tests.pacs.objects import KIND, make_object

pytest.importorskip("pynetdicom")


class Lost(SimpleNamespace):
    """An association that has ended since it was made."""

    is_established = False

    def send_c_echo(self) -> Any:
        raise RuntimeError("The association must be established")

    def send_c_find(self, *_: Any) -> Any:
        raise RuntimeError("The association must be established")


@pytest.fixture
def node() -> Node:
    return Node(NodePlace("PACS", "127.0.0.1", 1, False), "SEGPIPE", TlsFiles())


def test_an_association_that_ends_before_the_question_may_go_well_later(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node, "_connected", lambda *_: Lost())
    with pytest.raises(LaterError, match="connection was lost") as raised:
        node.has(Parcel(KIND, "1.2", "1", "1.1", "1.2.840.10008.1.2"))
    assert raised.value.unsure
    with pytest.raises(LaterError, match="connection was lost"):
        node.check()


@pytest.mark.parametrize(
    ("code", "meaning"), [(0xC123, "cannot understand"), (0xA901, "does not match"), (0x0124, "not authorised"), (0x0199, "unknown")]
)
def test_a_status_is_told_by_its_code_and_never_by_the_comment_of_the_node(
    node: Node, monkeypatch: pytest.MonkeyPatch, tmp_path: Any, code: int, meaning: str
) -> None:
    status = Dataset()
    status.Status, status.ErrorComment = code, "DOE^JANE not known"
    monkeypatch.setattr(node, "_connected", lambda *_: SimpleNamespace(send_c_store=lambda _: status))
    make_object(tmp_path / "x.dcm", "1.2.3", "x")
    data = (tmp_path / "x.dcm").read_bytes()
    with pytest.raises(RefusedError, match=f"status {code:04X}, .*{meaning}") as raised:
        node.store(Parcel.of_bytes(data, "x"), data)
    assert "JANE" not in str(raised.value)


def test_an_object_that_a_node_says_it_has_already_is_looked_for(node: Node, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    make_object(tmp_path / "x.dcm", "1.2.3", "x")
    data = (tmp_path / "x.dcm").read_bytes()
    parcel = Parcel.of_bytes(data, "x")
    duplicate, found, nothing_more = Dataset(), Dataset(), Dataset()
    duplicate.Status, found.SOPInstanceUID, nothing_more.Status = 0x0111, parcel.instance, 0
    pending, cannot = Dataset(), Dataset()
    pending.Status, cannot.Status = 0xFF00, 0xA900
    answers = [[(pending, found), (nothing_more, None)], [(cannot, None)], [(nothing_more, None)]]
    monkeypatch.setattr(
        node,
        "_connected",
        lambda *_: SimpleNamespace(send_c_store=lambda _: duplicate, send_c_find=lambda *_: answers.pop(0), is_established=False),
    )
    node.store(parcel, data)
    node.store(parcel, data)  # it cannot be asked
    with pytest.raises(LaterError, match="says that it has it .*0111.*, and does not list it") as raised:
        node.store(parcel, data)
    assert (raised.value.unsure, raised.value.alone) == (True, True)
    assert answers == []
