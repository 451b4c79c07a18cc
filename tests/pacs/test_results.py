"""Which files of an output folder are the results of a scan, and go to a PACS."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from segpipe.commands.closing import Closing
from segpipe.commands.listen import _Done
from segpipe.commands.post import Post
from segpipe.dicom.writing.wanted import Kind
from segpipe.errors import DataError
from segpipe.inference.ledger import Ledger
from segpipe.inference.outputs import WRITING, hashes, output_files
from segpipe.inference.table import Row
from segpipe.pacs.exchange import Exchange, courier_to
from segpipe.pacs.faults import LaterError
from segpipe.pacs.patience import Patience
from segpipe.pacs.results import check_current, objects_of

KINDS: tuple[Kind, ...] = ("dicom-seg", "sr")


def written(out: Path, case: str) -> Row:
    """The files of a scan and its row, as a prediction leaves them."""
    files = output_files(out, case, f"{case}.nii.gz", KINDS, False)
    for path in files:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(path.name)
    return Row(case, "in", f"{case}.nii.gz", "done", options=f"overlap=0.5,dicom={','.join(KINDS)}", output_hash=hashes(files))


class Courier:
    def __init__(self) -> None:
        self.came: list[Path] = []

    def deliver(self, scan: str, paths: list[Path]) -> None:
        self.came += paths


@pytest.mark.parametrize("case", ["H_7", "patients/H_7"])
def test_results_are_what_the_prediction_has_written_and_no_file_of_another_scan(case: str, tmp_path: Path) -> None:
    row, other = written(tmp_path, case), written(tmp_path, f"{case}_te90")
    for name in (f"{case}.dcm", f"{case}.seg.dcm", f"{case}_rtstruct.dcm"):
        (tmp_path / name).write_text("of somebody else")
    assert objects_of(tmp_path, row) == [tmp_path / f"{case}_seg.dcm", tmp_path / f"{case}_sr.dcm"]
    assert objects_of(tmp_path, other) == [tmp_path / f"{case}_te90_seg.dcm", tmp_path / f"{case}_te90_sr.dcm"]


def test_a_scan_that_failed_has_none(tmp_path: Path) -> None:
    row = written(tmp_path, "a")
    assert objects_of(tmp_path, Row(**{**row.__dict__, "status": "failed"})) == []


def test_objects_of_a_label_map_that_was_corrected_are_not_sent_and_it_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    row, untouched = written(tmp_path, "a"), written(tmp_path, "b")
    (tmp_path / "a.nii.gz").write_text("corrected by hand")
    with pytest.raises(DataError, match=r"^a: its label map was corrected: the 2 DICOM object.* are not sent; .*--overwrite"):
        objects_of(tmp_path, row)
    courier = Courier()
    post, node = Post(Exchange(), tmp_path, Closing()), _Done(tmp_path)
    post._courier = node._courier = courier  # type: ignore[assignment]
    for one in (row, untouched):
        post.each(one)
        node.each(one)
    assert {path.name for path in courier.came} == {"b_seg.dcm", "b_sr.dcm"}
    assert post.failed
    assert "its label map was corrected" in caplog.text


def put(out: Path, row: Row) -> None:
    with Ledger(out) as ledger:
        ledger.begin()
        ledger.put([row])


def test_an_object_is_sent_while_it_is_what_the_ledger_has_of_its_scan(tmp_path: Path) -> None:
    row = written(tmp_path, "a")
    path = tmp_path / "a_seg.dcm"
    with pytest.raises(DataError, match=r"a_seg\.dcm: is no result of a any more"):
        check_current(tmp_path, "a", path)
    put(tmp_path, row)
    check_current(tmp_path, "a", path)
    with pytest.raises(DataError, match="no result of a any more"):
        check_current(tmp_path, "a", tmp_path / "a_rtstruct.dcm")
    (tmp_path / "a.nii.gz").write_text("corrected by hand")
    with pytest.raises(DataError, match=r"^a: its label map was corrected: this object is that of the prediction .*--overwrite"):
        check_current(tmp_path, "a", path)


def test_an_object_that_was_changed_since_is_not_sent(tmp_path: Path) -> None:
    put(tmp_path, written(tmp_path, "a"))
    (tmp_path / "a_seg.dcm").write_text("changed")
    with pytest.raises(DataError, match="was changed since it was written"):
        check_current(tmp_path, "a", tmp_path / "a_seg.dcm")


def test_an_object_of_a_scan_that_is_being_written_again_waits_and_one_that_failed_since_is_none(tmp_path: Path) -> None:
    row = written(tmp_path, "a")
    put(tmp_path, replace(row, status="started", output_hash=";".join([WRITING] * 3)))
    with pytest.raises(LaterError, match="is being written again") as raised:
        check_current(tmp_path, "a", tmp_path / "a_seg.dcm")
    assert raised.value.alone
    put(tmp_path, replace(row, status="failed", output="", output_hash=""))
    with pytest.raises(DataError, match="no result of a any more"):
        check_current(tmp_path, "a", tmp_path / "a_seg.dcm")


def test_what_waits_for_a_pacs_is_compared_with_the_ledger_before_it_is_sent(tmp_path: Path) -> None:
    out = tmp_path / "out"
    put(out, written(out, "a"))
    with courier_to(Exchange(to="dicomweb://127.0.0.1:9/dicom-web"), out, Patience(1)) as courier:
        assert courier is not None
        courier._current("a", out / "a_seg.dcm")
        (out / "a.nii.gz").write_text("corrected by hand")
        with pytest.raises(DataError, match="its label map was corrected"):
            courier._current("a", out / "a_seg.dcm")
