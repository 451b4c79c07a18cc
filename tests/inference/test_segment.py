"""What is told of a scan that fails in a way that nobody foresaw."""

from __future__ import annotations

from pathlib import Path

import pytest

from segpipe.dicom.request import Slices
from segpipe.inference.examination import Examination
from segpipe.inference.segment import Attempt
from segpipe.inference.table import Row


@pytest.mark.parametrize(
    ("slices", "reason"),
    [(None, "in/a: unexpected ValueError: no number: 'DOE^JANE'"), (Slices("A_1", ()), "in/a: unexpected ValueError")],
    ids=["a file", "DICOM"],
)
def test_words_of_libraries_are_told_but_of_dicom_whose_values_they_may_quote(slices: Slices | None, reason: str) -> None:
    attempt = Attempt(Examination("A_1", (Path("in/a"),), slices=slices), Row("A_1", "in", "", "failed"), None)
    with attempt.stage():
        raise ValueError("no number: 'DOE^JANE'")
    assert attempt.reason == reason
