"""predictions.csv, written and read."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from segpipe.errors import ConfigError
from segpipe.inference.table import PHASES, TABLE, Row, check_table, read_table, to_csv

ROW = Row(
    case="sub/case",
    input="/in/sub/case, one.nii.gz",
    output="sub/case.nii.gz",
    status="done",
    reason="",
    seconds=dict.fromkeys(PHASES, 1.25),
    volumes_ml={"organ, left": 12.5, "tumour": 0.0},
    model_sha256="ab",
    options="overlap=0.5",
    input_hash="1a;2b",
    output_hash="*",
)


def test_rows_come_back_as_they_were_written(tmp_path: Path) -> None:
    failed = Row("a", "/in/a.nii", "", "failed", 'has 3 "channels", not\n2')
    (tmp_path / TABLE).write_text(to_csv([ROW, failed]))
    assert read_table(tmp_path / TABLE) == [ROW, failed]
    assert read_table(tmp_path / "none.csv") == []


def test_the_table_has_one_column_a_phase_and_a_label() -> None:
    (row,) = csv.DictReader(to_csv([ROW]).splitlines())
    assert list(row)[:5] == ["case", "input", "output", "status", "reason"]
    assert row["seconds_network"] == "1.250"
    assert row["volume_ml_organ, left"] == "12.5"
    assert row["model_sha256"] == "ab"


def test_a_table_of_another_program_is_refused(tmp_path: Path) -> None:
    path = tmp_path / TABLE
    odd_status = b"case,input,output,status,reason,model_sha256,options,input_hash\na,b,c,odd,,,,\n"
    for content in (b"name,age\nx,3\n", b"\xff\xfe\x00bad", odd_status):
        path.write_bytes(content)
        with pytest.raises(ConfigError, match="no table of earlier predictions"):
            read_table(path)
        if content != odd_status:  # its first line is ours
            with pytest.raises(ConfigError, match="no table of earlier predictions"):
                check_table(path)


def test_our_own_table_and_no_table_pass(tmp_path: Path) -> None:
    check_table(tmp_path / TABLE)
    (tmp_path / TABLE).write_text(to_csv([]))
    check_table(tmp_path / TABLE)
