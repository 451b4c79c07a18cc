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
