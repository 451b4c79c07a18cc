"""What a node says when it ends."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from segpipe.commands.listen import _Done
from segpipe.inference.table import Row
from segpipe.pacs.courier import Courier
from segpipe.pacs.faults import RefusedError
from segpipe.pacs.outbox import Outbox
from segpipe.pacs.parcel import Parcel
from segpipe.pacs.patience import Patience
from tests.pacs.objects import make_object

pytest.importorskip("pydicom")
TO = "dicom://PACS@pacs:104"


class Picky:
    """A destination that refuses what belongs to study 1.2.13."""

    def check(self) -> None:
        """It answers."""

    def has(self, parcel: Parcel) -> bool | None:
        return False

    def store(self, parcel: Parcel, data: bytes) -> None:
        if parcel.study == "1.2.13":
            raise RefusedError("the PACS refuses it (0x0110)")

    def close(self) -> None:
        """Nothing is open."""


class Kept:
    """Instead of an intake: what it is told."""

    def __init__(self) -> None:
        self.told: dict[str, str] = {}

    def ended(self, row: Row, undelivered: str = "") -> None:
        self.told[row.case] = undelivered


@pytest.fixture
def courier(tmp_path: Path) -> Iterator[Courier]:
    outbox = Outbox(tmp_path, TO)
    courier = Courier(outbox, Picky(), tmp_path, Patience(tries=0), lambda case, path: None)
    yield courier
    courier.stop()
    outbox.close()


def row(case: str, status: str = "done") -> Row:
    return Row(case, "", f"{case}.nii.gz", status, options="overlap=0.5,dicom=dicom-seg", output_hash="*;*")


def test_what_was_refused_or_cannot_be_sent_is_told_at_the_end(tmp_path: Path, courier: Courier, caplog: pytest.LogCaptureFixture) -> None:
    make_object(tmp_path / "good_seg.dcm", "1.2.3", "good")
    make_object(tmp_path / "refused_seg.dcm", "1.2.13", "refused")
    (tmp_path / "broken_seg.dcm").write_bytes(b"no DICOM")
    done, kept = _Done(tmp_path), Kept()
    done.begin(kept, courier)  # type: ignore[arg-type]
    for case in ("good", "refused", "broken", "bare"):
        done.each(row(case))
    done.each(row("failed", "failed"))
    assert courier.finish(10.0)
    done.look(TO)
    assert done.lines() == [
        "4 scan(s) segmented, 0 done before, 1 failed",
        f"1 object(s) of {tmp_path} are at {TO}, 0 wait to be sent, 1 were refused",
        "not sent  1 object(s): the PACS refuses it (0x0110)",
        f"not sent  2 scan(s), whose series are in {tmp_path / 'aside'}: {kept.told['broken']}",
    ]
    assert f"1 object(s) were refused by {TO} and are not sent" in caplog.text
    assert "is no DICOM file" in kept.told["broken"]
    assert "none of its results is DICOM" in kept.told["bare"]
    assert (kept.told["good"], kept.told["refused"], kept.told["failed"]) == ("", "", "")
    assert courier.told()[0] == {"sent": 1, "refused": 1}  # it stays in the outbox


def test_without_a_destination_nothing_is_said_of_sending(tmp_path: Path) -> None:
    done = _Done(tmp_path)
    done.begin(Kept(), None)  # type: ignore[arg-type]
    done.each(row("bare"))
    done.look("")
    assert done.lines() == ["1 scan(s) segmented, 0 done before, 0 failed"]
