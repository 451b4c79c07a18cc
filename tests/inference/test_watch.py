"""Scans that arrive: when each is taken."""

from __future__ import annotations

from pathlib import Path

import pytest

from segpipe.errors import DataError
from segpipe.inference import watch
from segpipe.inference.gather import Examination, gather
from segpipe.inference.watch import Arrivals


class Clock:
    """The seconds that `watch` believes in; every look costs none."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(watch, "time", clock)
    return clock


def idle(case: str) -> bool:
    return False


def looks(arrivals: Arrivals, clock: Clock, seconds: int) -> list[tuple[float, str]]:
    """When each scan was taken, looking once a second."""
    found = []
    for _ in range(seconds):
        clock.now += 1
        found += [(clock.now, scan.case) for scan in arrivals.look(idle)]
    return found


def test_a_scan_is_taken_once_when_it_is_still_and_again_when_it_changes(tmp_path: Path, clock: Clock) -> None:
    def find() -> list[Examination]:
        return gather(tmp_path, tmp_path / "out", ["MR"])

    arrivals = Arrivals(find, 5.0)
    assert looks(arrivals, clock, 3) == []  # nothing there is no fault
    path = tmp_path / "a.nii"
    path.write_bytes(b"1")
    assert looks(arrivals, clock, 3) == []
    path.write_bytes(b"12")  # still arriving: seen first at 7
    assert looks(arrivals, clock, 12) == [(12.0, "a")]
    path.write_bytes(b"123")
    assert [case for _, case in looks(arrivals, clock, 8)] == ["a"]


def test_a_scan_whose_channels_have_not_all_come_is_waited_for(tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    arrivals = Arrivals(lambda: gather(tmp_path, tmp_path / "out", ["T2", "ADC"]), 2.0)
    (tmp_path / "p_T2.nii").write_bytes(b"1")
    assert looks(arrivals, clock, 9) == []
    assert [line for line in caplog.messages if line.startswith("p: not taken yet: channel ADC")] == caplog.messages[-1:]
    (tmp_path / "p_ADC.nii").write_bytes(b"1")
    assert [case for _, case in looks(arrivals, clock, 9)] == ["p"]


def test_a_scan_that_changes_while_it_is_segmented_is_taken_again_afterwards(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "a.nii"
    path.write_bytes(b"1")
    arrivals = Arrivals(lambda: [Examination("a", (path,))], 2.0)
    assert [case for _, case in looks(arrivals, clock, 5)] == ["a"]
    path.write_bytes(b"12")
    for _ in range(9):
        clock.now += 1
        assert arrivals.look(lambda case: True) == []
    assert [case for _, case in looks(arrivals, clock, 5)] == ["a"]


def test_a_file_that_goes_away_and_a_folder_that_cannot_be_searched_are_no_fault(tmp_path: Path, clock: Clock) -> None:
    def find() -> list[Examination]:
        if clock.now < 3:
            raise DataError("nothing there")
        return [Examination("gone", (tmp_path / "gone.nii",))]

    assert looks(Arrivals(find, 1.0), clock, 9) == []
