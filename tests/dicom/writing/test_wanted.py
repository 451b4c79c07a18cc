"""What is asked for, before any library is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from segpipe.dicom.writing.wanted import KINDS, Wanted, kinds_in, result_files
from segpipe.errors import ConfigError


@pytest.mark.parametrize(
    ("wanted", "match"),
    [
        ({"kinds": ("sr",)}, "dicom-seg,sr"),
        ({"description": "x" * 52}, "printable characters"),
        ({"description": "a\\b"}, "backslash"),
        ({"description": "a\nb"}, "printable"),
        ({"number": -1}, "series-number"),
        ({"number": 2**31 - 2}, "series-number"),
    ],
)
def test_what_dicom_does_not_hold_is_refused(wanted: dict[str, Any], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        Wanted(**wanted)


def test_the_text_that_a_table_keeps_tells_the_kinds_again() -> None:
    for kinds in ((), ("sc",), ("dicom-seg", "sr"), KINDS):
        for more in ({}, {"seg_type": "labelmap", "number": 5, "description": "my words,sc dicom=sc"}):
            text = Wanted(kinds, **more).to_text()  # type: ignore[arg-type]
            found = kinds_in(f"overlap=0.5 precision=fp32 {text}")
            assert found == kinds
    assert kinds_in("overlap=0.5 precision=fp32") == ()


def test_numbers_and_descriptions_stay_within_their_limits() -> None:
    wanted = Wanted(KINDS)
    assert [wanted.series_number(kind, None) for kind in KINDS] == [9001, 9002, 9003, 9004]
    assert wanted.series_number("dicom-seg", 2**31 - 1) == 9001
    assert wanted.series_number("sc", 12) == 12004
    assert len(wanted.describe("dicom-seg", "t" * 100, "not for diagnosis")) == 64


def test_files_are_named_for_the_case() -> None:
    names = [path.name for path in result_files(Path("out/5f1c.2_7"), KINDS)]
    assert names == ["5f1c.2_7_seg.dcm", "5f1c.2_7_rtstruct.dcm", "5f1c.2_7_sr.dcm", "5f1c.2_7_sc.dcm"]
