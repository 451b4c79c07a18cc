"""The last lines of `segpipe predict`."""

from __future__ import annotations

import io

from rich.console import Console

from segpipe.commands.closing import Closing
from segpipe.inference.table import Row


def failed(case: str, reason: str) -> Row:
    return Row(case, f"/in/{case}.nii", "", "failed", reason)


def test_one_line_a_kind_of_failure_the_most_frequent_first() -> None:
    closing = Closing()
    closing.add(failed("odd", "/in/odd.nii: has no voxels"))
    for number in range(1000):
        closing.add(failed(f"case_{number}", f"/in/case_{number}.nii: is empty"))
    closing.add(Row("a", "/in/a.nii", "a.nii", "done", seconds={"read": 1.0, "network": 2.0}))
    closing.add(Row("b", "/in/b.nii", "b.nii", "skipped", "done before", seconds={"network": 99.0}))
    assert closing.failures() == [
        "failed  case_0, case_1, case_2 and 997 more: /in/case_0.nii: is empty",
        "failed  odd: /in/odd.nii: has no voxels",
    ]
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(closing.table())
    text = console.export_text()
    assert "1003 scan(s)" in text and "3.00" in text
    assert closing.failed and closing.files


def test_series_that_were_fetched_and_fail_alike_are_one_line() -> None:
    closing = Closing()
    for number in range(1, 4):
        reason = f"/out/.fetched/77aa/{number}{number}: series {number}_7: holds slices of two patients"
        closing.add(Row(f"{number}_7", f"dicomweb://pacs study 1 series {number}{number}", "", "failed", reason))
    assert closing.failures() == ["failed  1_7, 2_7, 3_7: /out/.fetched/77aa/11: series 1_7: holds slices of two patients"]


def test_many_kinds_are_cut_short_with_the_number_of_the_rest() -> None:
    closing = Closing()
    for number in range(50):
        closing.add(failed("x", f"reason {number}"))
    lines = closing.failures()
    assert len(lines) == 21 and lines[-1] == "failed  30 more: see the column reason of predictions.csv"


def test_scans_with_a_warning_are_counted_also_those_of_an_earlier_call() -> None:
    closing = Closing()
    closing.add(Row("a", "/in/a.nii", "a.nii", "done", warning="left has 90 ml, in training 1 to 2 ml"))
    closing.add(Row("b", "/in/b.nii", "b.nii", "skipped", "done before", warning="left has 80 ml, in training 1 to 2 ml"))
    closing.add(Row("c", "/in/c.nii", "c.nii", "done"))
    assert closing.warnings() == ["warned  2 scan(s): look at their label maps, see the column warning of predictions.csv"]


def test_nothing_failed() -> None:
    closing = Closing()
    closing.add(Row("a", "/in/a.nii", "a.nii", "done"))
    assert not closing.failed and closing.failures() == closing.warnings() == []
