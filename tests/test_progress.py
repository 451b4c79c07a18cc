"""Progress as a user sees it: bars on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Iterator

import pytest

from segpipe import progress
from segpipe.progress import board


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """The seconds that `progress` believes in."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    yield now


def work(clock: list[float], seconds: dict[str, float], windows: int = 10) -> None:
    """Items of so many seconds each, in equal parts."""
    with board("segmenting", len(seconds)) as shown:
        for name, each in seconds.items():
            told = shown.parts(f"windows of {name}")
            for done in range(1, windows + 1):
                clock[0] += each / windows
                told(done, windows)
            shown.leave(told)
            shown.advance()


def test_a_long_item_has_a_line_at_most_every_15_seconds_and_a_short_one_none(clock: list[float], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        work(clock, {"short": 10.0, "long": 50.0})
    parts = [line for line in caplog.messages if line.startswith("windows")]
    assert parts == ["windows of long: 3 of 10", "windows of long: 6 of 10", "windows of long: 9 of 10", "windows of long: 10 of 10"]
    assert [line for line in caplog.messages if line.startswith("seg")] == ["segmenting: 1 of 2", "segmenting: 2 of 2"]


def test_a_terminal_has_a_second_bar_for_what_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("TERM", "xterm"), ("COLUMNS", "100")):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    monkeypatch.setattr(progress, "QUIET_SECONDS", 0.0)
    with board("segmenting", 1) as shown_to:
        told = shown_to.parts("windows of [a]")
        shown_to.grow(2)
        told(1, 4)
        progress.time.sleep(0.3)  # a few refreshes
        shown_to.leave(told)
        shown_to.advance()
    shown = terminal.getvalue()
    assert "windows of [a]" in shown and "1/4" in shown and "0/2" in shown


def test_what_ends_within_two_seconds_has_no_second_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    with board("segmenting", 1) as shown:
        shown.parts("windows of a")(1, 4)
        progress.time.sleep(0.3)
    assert "segmenting" in terminal.getvalue() and "windows" not in terminal.getvalue()


def test_lines_that_have_begun_tell_the_end_too(clock: list[float], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        for number in progress.track(range(3), "reading 3 cases"):
            clock[0] += 10.0 + number
        list(progress.track(range(2), "reading 2 cases"))  # at once
    assert caplog.messages == ["reading 3 cases: 1 of 3", "reading 3 cases: 3 of 3"]
