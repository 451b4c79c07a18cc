"""What a corrected case is called, and the table that tells where each is from."""

from __future__ import annotations

import csv
from pathlib import Path

import hypothesis
import hypothesis.strategies as st
import pytest

pytest.importorskip("fastapi")

from segpipe.errors import ConfigError
from segpipe.server.corrections import TABLE, _tell, case_of, label_path
from segpipe.server.store import Job
from segpipe.server.upload import cleaned

ID = "5b0c7f0e6f3a4c0b9d1e2f3a4b5c6d7e"


def job_of(name: str, id: str = ID) -> Job:
    return Job(id, "zones", "1.0", name, ("0000.nii.gz",), sha256="ab" * 32)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("prostate_07.nii.gz", "prostate_07"),
        ("Müller, Hans (T2).nrrd", "Müller_Hans_T2"),
        ("study 2026-11-26.zip", "study_2026-11-26"),
        ("v1.2.nii", "v1_2"),
        ("../../etc/passwd.nii.gz", "passwd"),
        ("-rf.nii.gz", "rf"),
        ("頭部CT.nii.gz", "頭部CT"),
        ("?.nii.gz", "scan"),
        ("a" * 90 + ".nii.gz", "a" * 40),
    ],
)
def test_a_case_is_called_as_its_scan_and_by_its_job(tmp_path: Path, name: str, wanted: str) -> None:
    assert case_of(tmp_path, job_of(name)) == f"{wanted}_{ID}"


@hypothesis.given(st.text(max_size=200))
@hypothesis.settings(suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
def test_every_name_makes_a_file_of_its_own(tmp_path: Path, name: str) -> None:
    first, second = (case_of(tmp_path, job_of(cleaned(name), id)) for id in (ID, ID[::-1]))
    assert first != second
    for case in (first, second):
        path = label_path(tmp_path, case)
        assert path.parent == tmp_path / "labels"
        assert len(f"{case}_0000.nii.gz".encode()) <= 255
        assert case[0].isalnum()


def test_a_case_of_an_older_server_keeps_its_name(tmp_path: Path) -> None:
    old = label_path(tmp_path, ID)
    old.parent.mkdir()
    old.write_bytes(b"a label map")
    assert case_of(tmp_path, job_of("scan.nii.gz")) == ID


def test_the_table_keeps_each_line_and_computes_nothing(tmp_path: Path) -> None:
    names = ["scan, one.nii.gz", '=cmd|"x".nii.gz', "Müller.nii.gz"]
    for name in names:
        _tell(tmp_path, "case", job_of(name))
    rows = list(csv.DictReader((tmp_path / TABLE).read_text(encoding="utf-8").splitlines()))
    assert [row["scan"] for row in rows] == [names[0], "'" + names[1], names[2]]
    assert {row["model_sha256"] for row in rows} == {"ab" * 32}


def test_a_table_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / TABLE).mkdir()
    with pytest.raises(ConfigError, match="corrections.csv: cannot be written"):
        _tell(tmp_path, "case", job_of("scan.nii.gz"))
