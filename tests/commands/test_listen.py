"""What a node says when it ends."""

from __future__ import annotations

import csv
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from segpipe.commands.listen import _Done
from segpipe.inference.table import Row
from segpipe.pacs.courier import Courier
from segpipe.pacs.faults import RefusedError
from segpipe.pacs.outbox import Outbox
from segpipe.pacs.parcel import Parcel
from segpipe.pacs.patience import Patience
from tests.commands.test_predict import untrained_model
from tests.dicom.series import Series
from tests.pacs import drill
from tests.pacs.objects import make_object
from tests.pacs.orthanc import free_port

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


def until(true: Callable[[], bool], node: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + 150
    while not true():
        assert node.poll() is None and time.monotonic() < end, log.read_text()[-3000:]
        time.sleep(0.1)


def test_a_node_that_is_killed_between_two_channels_of_a_study_segments_them_together(tmp_path: Path) -> None:
    for name in ("pynetdicom", "highdicom"):
        pytest.importorskip(name)
    model = untrained_model(tmp_path / "model.ts", channels=("T2=t2*", "ADC=adc*"), patch_size=(8, 8, 8))
    for seed, words in ((1, "t2 tra"), (2, "adc map")):
        Series(seed=seed, modality="MR", more={"SeriesDescription": words, "StudyInstanceUID": "1.2.3.77"}).write(tmp_path / words[:2])
    out, port, log = tmp_path / "out", free_port(), tmp_path / "log"
    words = [sys.executable, "-m", "segpipe", "listen", str(model), str(out), "--port", str(port), "--quiet-seconds", "0.5"]

    def start() -> subprocess.Popen[bytes]:
        with log.open("ab") as said:
            return subprocess.Popen([*words, "--threads", "1", "--device", "cpu"], stdout=said, stderr=said, env=drill.surroundings())

    node = start()
    try:
        until(lambda: "listening" in log.read_text(), node, log)
        assert drill.send(port, tmp_path / "t2") == 0
        until(lambda: any((out / ".taken").iterdir()), node, log)
        node.kill()
        node.wait()
        assert not list(out.glob("*.nii.gz"))
        node = start()
        assert drill.send(port, tmp_path / "ad") == 0  # tries until the node is there
        until(lambda: bool(list(out.glob("*.nii.gz"))) and not any((out / ".taken").iterdir()), node, log)
        node.terminate()
        assert node.wait(60) == 0
    finally:
        node.kill()
        node.wait()
    with (out / "predictions.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["status"] == "done"
    assert len(row["input"].split(";")) == 2
    assert all(part.startswith("series ") for part in row["input"].split(";"))
    assert not list((out / "aside").rglob("*.dcm"))
