"""Which files of an output folder are the results of a scan, and go to a PACS."""

from __future__ import annotations

from pathlib import Path

import pytest

from segpipe.commands.closing import Closing
from segpipe.commands.listen import _Done
from segpipe.commands.post import Post
from segpipe.dicom.writing.wanted import Kind
from segpipe.errors import DataError
from segpipe.inference.outputs import hashes, output_files
from segpipe.inference.table import Row
from segpipe.pacs.exchange import Exchange
from segpipe.pacs.results import objects_of

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
