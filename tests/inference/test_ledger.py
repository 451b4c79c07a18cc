"""predictions.csv, written and read."""

from __future__ import annotations

import csv
import multiprocessing
from pathlib import Path

import pytest

from segpipe.errors import ConfigError
from segpipe.inference.ledger import PHASES, Ledger, Row

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
    path = tmp_path / "predictions.csv"
    failed = Row("a", "/in/a.nii", "", "failed", 'has 3 "channels", not\n2')
    ledger = Ledger(path)
    ledger.put(ROW)
    ledger.put(failed)
    again = Ledger(path)
    assert again.get("sub/case") == ROW
    assert again.get("a") == failed
    assert again.get("b") is None


def test_the_table_has_one_column_a_phase_and_a_label(tmp_path: Path) -> None:
    Ledger(tmp_path / "predictions.csv").put(ROW)
    with (tmp_path / "predictions.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert list(row)[:5] == ["case", "input", "output", "status", "reason"]
    assert row["seconds_network"] == "1.250"
    assert row["volume_ml_organ, left"] == "12.5"
    assert row["model_sha256"] == "ab"


def test_a_table_of_another_program_is_refused_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "predictions.csv"
    odd_status = b"case,input,output,status,reason,model_sha256,options,input_hash\na,b,c,odd,,,,\n"
    for content in (b"name,age\nx,3\n", b"\xff\xfe\x00bad", odd_status):
        path.write_bytes(content)
        with pytest.raises(ConfigError, match="no table of earlier predictions"):
            Ledger(path)
        assert path.read_bytes() == content


def test_rows_that_another_process_has_put_meanwhile_stay(tmp_path: Path) -> None:
    path = tmp_path / "predictions.csv"
    first, second = Ledger(path), Ledger(path)
    first.put(Row("a", "", "a.nii", "done"))
    second.put(Row("b", "", "b.nii", "done"))
    assert {row.case for row in Ledger(path).rows} == {"a", "b"}
    first.read_again()
    assert {row.case for row in first.rows} == {"a", "b"}


def _put(path: Path, name: str) -> None:
    ledger = Ledger(path)
    for number in range(20):
        ledger.put(Row(f"{name}{number}", "", "", "failed"))


def test_two_processes_at_once_lose_no_row(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_put, args=(tmp_path / "predictions.csv", name)) for name in "ab"]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    assert len(Ledger(tmp_path / "predictions.csv").rows) == 40
