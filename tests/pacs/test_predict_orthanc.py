"""`segpipe predict` between two doors of a real PACS."""

from __future__ import annotations

import sqlite3
from collections import Counter
from pathlib import Path

from tests.dicom.series import Series
from tests.pacs.conftest import Program
from tests.pacs.orthanc import Orthanc

STUDY = "1.2.3.77"


def fill(orthanc: Orthanc, folder: Path, *seeds: int) -> None:
    for seed in seeds:
        for path in Series(seed=seed, size=(12, 10)).write(folder / str(seed)).paths:
            orthanc.put(path)


def test_a_study_is_fetched_segmented_and_its_results_come_back_once(
    orthanc: Orthanc, model: Path, writing: Program, tmp_path: Path
) -> None:
    fill(orthanc, tmp_path / "made", 1, 2)
    out = tmp_path / "out"
    words = ("predict", str(model), str(out), "--from", f"{orthanc.web}/studies/{STUDY}")
    first = writing(*words, "--to", orthanc.web)
    assert first.returncode == 0, first.stderr
    again = writing(*words, "--to", orthanc.web)
    assert again.returncode == 0, again.stderr
    assert "2 │" in again.stdout.replace("skipped", ""), again.stdout
    by_node = writing(*words, "--to", orthanc.node)
    assert by_node.returncode == 0, by_node.stderr
    assert Counter(tags["StudyInstanceUID"] for tags in orthanc.tags()) == {STUDY: 2}
    with sqlite3.connect(out / "deliveries.sqlite") as outbox:
        assert outbox.execute("SELECT state, tries, COUNT(*) FROM deliveries GROUP BY state, tries").fetchall() == [("sent", 1, 4)]
    assert not (out / ".fetched").exists()
    assert not any(word in (first.stderr + first.stdout) for word in (STUDY, "1.2.3.1", "Secret"))


def test_a_series_alone_is_fetched_alone(orthanc: Orthanc, model: Path, writing: Program, tmp_path: Path) -> None:
    fill(orthanc, tmp_path / "made", 1, 2)
    run = writing("predict", str(model), str(tmp_path / "out"), "--from", f"{orthanc.web}/studies/{STUDY}/series/1.2.3.2")
    assert run.returncode == 0, run.stderr
    assert len(list((tmp_path / "out").glob("*.nii.gz"))) == 1
