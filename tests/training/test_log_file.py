"""The log of a run is kept, and a full disk costs one line of it."""

import logging
import sys
from pathlib import Path

import pytest

from segpipe.training.log_file import LogFile, log_to

log = logging.getLogger("segpipe.test")


def test_lines_and_what_ended_the_run_are_in_the_file(tmp_path: Path) -> None:
    logging.getLogger("segpipe").setLevel(logging.DEBUG)
    with pytest.raises(ValueError, match="broken"), log_to(tmp_path / "log.txt"):
        log.info("step 1")
        raise ValueError("broken")
    text = (tmp_path / "log.txt").read_text()
    assert "INFO step 1" in text and "DEBUG ended by ValueError: broken" in text
    assert not [handler for handler in logging.getLogger("segpipe").handlers if isinstance(handler, LogFile)]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's device that is always full")
def test_a_full_disk_is_told_once_without_a_traceback(caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]) -> None:
    with caplog.at_level(logging.INFO), log_to(Path("/dev/full")):
        for step in range(3):
            log.info("step %d", step)
    assert [text for text in caplog.messages if "cannot be written" in text] == [
        "/dev/full: cannot be written (No space left on device); the run goes on, and its lines are on the screen only"
    ]
    assert caplog.messages.count("step 2") == 1
    sys.stderr.flush()
    assert "Traceback" not in capsys.readouterr().err
