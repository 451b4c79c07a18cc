"""What a supervisor does with workers that end before their time; `test_call` shows the rest with real ones."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any, cast

import pytest

from segpipe.errors import ConfigError, DataError, ModelError
from segpipe.inference.crew import Crew, how_it_ended
from segpipe.inference.messages import error_from_json, error_to_json
from segpipe.inference.packing import row_from_json, row_to_json, scan_from_json, scan_to_json
from segpipe.inference.supervise import Supervisor

from .test_table import ROW


class NoCrew:
    """Workers that are never there."""

    def __init__(self, most: int, others: int) -> None:
        self.most = most
        self.workers = [object()] * others


def supervisor(crew: NoCrew) -> Supervisor:
    nothing: Any = None
    return Supervisor(nothing, cast(Crew, crew), nothing, nothing)


def test_a_worker_that_does_not_start_leaves_the_work_to_the_others(caplog: pytest.LogCaptureFixture) -> None:
    crew = NoCrew(4, others=2)
    for _ in range(9):
        supervisor(crew)._did_not_start("was killed")
    assert crew.most == 2 and "a worker was killed; it had not loaded the model yet: 2 go(es) on" in caplog.messages


def test_three_in_a_row_with_no_other_left_end_the_call() -> None:
    one = supervisor(NoCrew(4, others=0))
    one._did_not_start("was killed")
    one._did_not_start("was killed")
    with pytest.raises(ConfigError, match="a worker was killed: it had not loaded the model yet"):
        one._did_not_start("was killed")


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (-signal.SIGKILL, "killed (SIGKILL), most often by the system because the memory was full: lower --batch or --workers"),
        (-signal.SIGSEGV, "crashed (SIGSEGV), as a damaged file may let a decoder do"),
        (-99, "crashed (signal 99)"),
        (1, "ended by itself (exit code 1): run again with --debug"),
    ],
)
def test_each_end_has_a_cause_and_a_cure(code: int, said: str) -> None:
    assert said in how_it_ended(code)


def test_rows_scans_and_errors_come_through_the_pipe_as_they_were() -> None:
    from segpipe.inference.gather import Examination

    scan = Examination("sub/ä", (Path("/in/ä_0000.nii"), Path("/in/ä_0001.nii")), "a channel is missing")
    assert scan_from_json(scan_to_json(scan)) == scan
    assert row_from_json(row_to_json(ROW)) == ROW and row_from_json(row_to_json(None)) is None
    for error in (ConfigError("a"), DataError("b"), ModelError("c")):
        back = error_from_json(error_to_json(error, False))
        assert type(back) is type(error) and str(back) == str(error)
    assert isinstance(error_from_json(error_to_json(RuntimeError("alloc"), True)), MemoryError)
    bug = error_from_json(error_to_json(KeyError("x"), False))
    assert isinstance(bug, RuntimeError) and str(bug) == "KeyError in a worker: 'x'"
