"""`segpipe listen` between senders and a real PACS."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tests.pacs.drill import Drill, Node, make, run, send, surroundings, wait_for
from tests.pacs.objects import make_object
from tests.pacs.orthanc import Orthanc, free_port


def test_a_node_that_is_killed_loses_nothing_and_sends_nothing_twice(orthanc: Orthanc, model: Path, tmp_path: Path) -> None:
    report = run(Drill(series=12, senders=4, kills=1, seed=3), model, orthanc, tmp_path, surroundings(), orthanc.node)
    assert report.found == Counter({f"1.2.3.88.{number}": 1 for number in range(12)})
    assert report.left == []
    assert not any(word in report.log for word in ("1.2.3.88", "Secret", "SECRET"))


def test_results_wait_for_a_pacs_that_is_away_and_nothing_is_done_twice(orthanc: Orthanc, model: Path, tmp_path: Path) -> None:
    out, port = tmp_path / "out", free_port()
    for number in (0, 1):
        make(tmp_path / "made" / str(number), number)
    (tmp_path / "report").mkdir()
    make_object(tmp_path / "report" / "seg.dcm", "1.2.3.88.0", "report")
    node = Node(model, out, orthanc.web, port, 0.5, tmp_path / "node.log", surroundings())
    node.start()
    assert send(port, tmp_path / "made" / "0") == 0
    wait_for(orthanc, 1, 60)
    orthanc.stop(keep=True)
    assert send(port, tmp_path / "made" / "0", tmp_path / "made" / "1", tmp_path / "report") == 0
    until(lambda: len(list(out.glob("*_seg.dcm"))) == 2 and "nobody answers" in (tmp_path / "node.log").read_text())
    assert node.end() == 0
    orthanc.start()
    node.start()
    wait_for(orthanc, 2, 60)
    assert send(port, tmp_path / "made" / "1") == 0  # once more, after all is done
    until(lambda: not list((out / ".incoming").iterdir()))
    assert node.end() == 0
    assert Counter(tags["StudyInstanceUID"] for tags in orthanc.tags()) == {"1.2.3.88.0": 1, "1.2.3.88.1": 1}
    assert len(list((out / "aside").rglob("*.dcm"))) == 1
    with contextlib.closing(sqlite3.connect(out / "deliveries.sqlite")) as outbox:
        assert outbox.execute("SELECT DISTINCT state FROM deliveries").fetchall() == [("sent",)]


def until(true: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)
