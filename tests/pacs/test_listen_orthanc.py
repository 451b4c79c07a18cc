"""`segpipe listen` between senders and a real PACS."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from tests.pacs.drill import Drill, run, surroundings
from tests.pacs.orthanc import Orthanc


def test_a_node_that_is_killed_loses_nothing_and_sends_nothing_twice(orthanc: Orthanc, model: Path, tmp_path: Path) -> None:
    report = run(Drill(series=12, senders=4, kills=1, seed=3), model, orthanc, tmp_path, surroundings(), orthanc.node)
    assert report.found == Counter({f"1.2.3.88.{number}": 1 for number in range(12)})
    assert report.left == []
    assert not any(word in report.log for word in ("1.2.3.88", "Secret", "SECRET"))
