"""One training at a time in a folder, and a killed one does not block the next."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from segpipe.errors import ConfigError
from segpipe.training.run_lock import NAME, sole

HOLDER = """
import os, pathlib, sys, time
from segpipe.training.run_lock import sole
with sole(pathlib.Path(sys.argv[1])):
    if os.fork() == 0:  # a loader process, which outlives a killed training for a while
        time.sleep(30)
        os._exit(0)
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdout is not None
    with process, process.stdout:
        assert process.stdout.readline() == "held\n"
        yield process
        os.killpg(process.pid, 9)


@pytest.mark.skipif(sys.platform == "win32", reason="there the process id in the file stands for the lock")
def test_a_second_training_is_refused_until_the_first_is_killed(tmp_path: Path, holder: "subprocess.Popen[str]") -> None:
    with pytest.raises(ConfigError, match=rf"another training \(process {holder.pid}\) writes into this folder"), sole(tmp_path):
        pass
    holder.kill()
    holder.wait()
    assert (tmp_path / NAME).exists()  # it could not remove it
    with sole(tmp_path):
        pass


def test_the_file_names_its_process_and_is_removed(tmp_path: Path) -> None:
    with sole(tmp_path):
        assert (tmp_path / NAME).read_text() == str(os.getpid())
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_a_killed_training_left_does_not_stand_in_the_way(tmp_path: Path) -> None:
    (tmp_path / NAME).write_text("4194999")
    with sole(tmp_path):
        assert (tmp_path / NAME).read_text() == str(os.getpid())
