"""What a supervisor gives to which worker, and does when one hangs or dies; `test_call` shows it with real ones."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from segpipe.errors import ConfigError, DataError, ModelError
from segpipe.inference.claims import Claims
from segpipe.inference.crew import Crew, how_it_ended
from segpipe.inference.gather import Examination
from segpipe.inference.held import Hands
from segpipe.inference.ledger import Ledger
from segpipe.inference.messages import Message, error_from_json, error_to_json
from segpipe.inference.packing import row_from_json, row_to_json, scan_from_json, scan_to_json
from segpipe.inference.supervise import Supervisor
from segpipe.inference.table import Row
from segpipe.inference.task import Facts, FolderOptions, Task
from segpipe.io.alive import new_token
from segpipe.progress import board

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
    scan = Examination("sub/ä", (Path("/in/ä_0000.nii"), Path("/in/ä_0001.nii")), "a channel is missing")
    assert scan_from_json(scan_to_json(scan)) == scan
    assert row_from_json(row_to_json(ROW)) == ROW and row_from_json(row_to_json(None)) is None
    for error in (ConfigError("a"), DataError("b"), ModelError("c")):
        back = error_from_json(error_to_json(error, False))
        assert type(back) is type(error) and str(back) == str(error)
    assert isinstance(error_from_json(error_to_json(RuntimeError("alloc"), True)), MemoryError)
    bug = error_from_json(error_to_json(KeyError("x"), False))
    assert isinstance(bug, RuntimeError) and str(bug) == "KeyError in a worker: 'x'"


# ------------------------------------------------------------------------------------------ with workers that a test plays


class Played:
    """A worker that says what the test lets it say."""

    def __init__(self, ready: bool = True) -> None:
        self.ready, self.hands = ready, Hands()
        self.sent: list[Message] = []
        self.ended = False

    def send(self, message: Message) -> None:
        self.sent.append(message)

    def code(self) -> int:
        return -signal.SIGKILL

    @property
    def cases(self) -> str:
        """What it was given, in order."""
        return "".join(message["segment"]["scan"]["case"] for message in self.sent if "segment" in message)

    @property
    def followed(self) -> list[bool]:
        return [message["segment"]["followed"] for message in self.sent if "segment" in message]


class PlayedCrew:
    def __init__(self, most: int, ahead: bool = True) -> None:
        self.most, self.ahead, self.heard = most, ahead, 0.0
        self.workers: list[Played] = []
        self.all: list[Played] = []

    def start(self, count: int) -> None:
        while len(self.workers) < min(count, self.most):
            self.workers.append(Played())
            self.all.append(self.workers[-1])

    def welcome(self, worker: Played, ready: Message) -> None:
        worker.ready = True

    def dismiss(self, worker: Played) -> None:
        self.workers.remove(worker)
        worker.ended = True


class Play:
    """A supervisor with scans a, b, c ... whose events the test makes."""

    def __init__(self, ledger: Ledger, out: Path, scans: str, workers: int = 1, ahead: bool = True, timeout: float = 0.0) -> None:
        task = Task(Facts(("T2",), ((0, "background"),), False, "", ""), out, "", FolderOptions())
        examinations = [Examination(case, (Path(f"/in/{case}.nii"),)) for case in scans]
        ledger.enqueue([(case, 0) for case in scans], task.job)
        self.rows: list[Row] = []
        self.ledger, self.crew = ledger, PlayedCrew(workers, ahead)
        self.claims = Claims(ledger, task.job, new_token(), self.rows.append)
        self.claims.add(examinations)
        with board("", 1) as shown:
            self.supervisor = Supervisor(task, cast(Crew, self.crew), self.claims, shown, timeout)
        self.hand_out()

    @property
    def first(self) -> Played:
        return self.crew.all[0]

    def hand_out(self) -> None:
        self.supervisor._hand_out()

    def say(self, worker: Played, message: Message | None, now: float = 0.0) -> None:
        self.crew.heard = now
        self.supervisor._hear(cast(Any, worker), message)
        self.supervisor._give_up()
        self.hand_out()

    def stages(self, worker: Played, *words: str, now: float = 0.0) -> None:
        """`a:read` and so on; `a:` for a scan that waits."""
        for word in words:
            self.say(worker, {"stage": word.split(":")}, now)

    def end(self, worker: Played, case: str) -> None:
        self.say(worker, {"end": row_to_json(Row(case, f"/in/{case}.nii", f"{case}.nii", "done"))})

    def state(self, case: str) -> tuple[str, int, int]:
        entry = self.ledger.entry(case)
        assert entry is not None
        return entry.state, entry.attempts, entry.crashes


@pytest.fixture
def play(tmp_path: Path) -> Iterator[Callable[..., Play]]:
    with Ledger(tmp_path) as ledger:
        ledger.begin()
        yield lambda *args, **kwargs: Play(ledger, tmp_path, *args, **kwargs)


def test_a_worker_gets_the_next_scan_when_the_networks_begin_with_the_one_before(play: Callable[..., Play]) -> None:
    one = play("abcde")
    assert one.first.cases == "a"
    one.stages(one.first, "a:read", "a:")
    assert one.first.cases == "a"
    one.stages(one.first, "a:network", "b:read", "b:", "a:", "a:write", "b:network", "c:read", "c:")
    assert one.first.cases == "abc"
    one.stages(one.first, "c:network")
    assert one.first.cases == "abc"  # three are the most
    one.end(one.first, "a")
    assert one.first.cases == "abcd" and one.first.followed == [True] * 4
    one.stages(one.first, "d:network")
    for case in "bcd":
        one.end(one.first, case)
    assert one.first.cases == "abcde" and one.first.followed[-1] is False


def test_within_a_memory_limit_a_worker_gets_a_scan_when_it_has_none(play: Callable[..., Play]) -> None:
    one = play("abc", ahead=False)
    one.stages(one.first, "a:read", "a:network", "a:write", "a:")
    assert one.first.cases == "a" and one.first.followed == [False]
    one.end(one.first, "a")
    assert one.first.cases == "ab"


def test_the_last_scans_go_to_whoever_is_idle_first(play: Callable[..., Play]) -> None:
    one = play("abcde", workers=2)
    first, second = one.crew.all
    assert (first.cases, second.cases) == ("a", "b")
    one.stages(first, "a:network")
    assert first.cases == "ac"
    one.stages(second, "b:network")
    assert second.cases == "bd"
    one.stages(first, "a:write", "c:network")
    assert first.cases == "ac"  # one scan, two workers
    one.end(second, "b")
    assert second.cases == "bd"  # it has d
    one.end(second, "d")
    assert second.cases == "bde"


def test_a_scan_that_waits_behind_another_one_is_asked_back_for_a_worker_with_nothing_to_do(play: Callable[..., Play]) -> None:
    one = play("abcd", workers=2)
    first, second = one.crew.all
    one.stages(first, "a:network", "c:read", "c:")
    assert (first.cases, second.cases) == ("ac", "b")
    one.end(second, "b")
    assert second.cases == "bd" and first.sent[-1] != {"return": "c"}
    one.end(second, "d")
    one.hand_out()
    assert first.sent.count({"return": "c"}) == 1
    one.say(first, {"returned": ["c"]})
    assert second.cases == "bdc" and one.state("c") == ("running", 1, 0)


def test_a_scan_that_takes_too_long_is_failed_and_what_waited_behind_it_is_next(play: Callable[..., Play]) -> None:
    one = play("abcde", timeout=10.0)
    start = time.monotonic()
    one.stages(one.first, "a:read", "a:", "a:network", now=start)
    one.stages(one.first, "b:read", now=start + 1)
    one.stages(one.first, "b:", now=start + 5)
    one.stages(one.first, "a:write", "b:network", "c:read", "c:", now=start + 6)
    assert not one.first.ended
    one.stages(one.first, "a:write", now=start + 10.5)
    assert one.first.ended and [(row.case, row.status) for row in one.rows] == [("a", "failed")]
    assert one.rows[0].reason.startswith("/in/a.nii: was not done after 10 s of work (last in the stage 'write')")
    assert [one.state(case) for case in "bc"] == [("running", 1, 0), ("waiting", 0, 0)]
    assert one.crew.all[1].cases == "b"
    one.stages(one.crew.all[1], "b:network", now=start)
    assert one.crew.all[1].cases == "bc"


def test_only_scans_that_were_begun_are_suspected_of_having_killed_a_worker(
    play: Callable[..., Play], caplog: pytest.LogCaptureFixture
) -> None:
    one = play("abcd")
    one.stages(one.first, "a:read", "a:", "a:network", "b:read", "b:", "a:write", "b:network")
    assert one.first.cases == "abc"
    one.say(one.first, None)
    assert [one.state(case) for case in "abc"] == [("waiting", 1, 1), ("waiting", 1, 1), ("running", 1, 0)]
    assert "/in/a.nii, /in/b.nii: the worker that segmented them was killed (SIGKILL)" in caplog.text
    assert "each of them is tried once more, alone, after the others" in caplog.text
    second = one.crew.all[1]
    one.stages(second, "c:network")
    assert second.cases == "cd"
    for case in "cd":
        one.end(second, case)
    assert second.cases == "cda"
    one.stages(second, "a:read", "a:network")
    assert second.cases == "cda"  # alone
    one.say(second, None)
    assert one.state("a") == ("set aside", 2, 1) and one.rows[-1].reason.endswith("(the 2nd time, alone)")
    one.end(one.crew.all[2], "b")
    assert one.state("b") == ("done", 2, 0) and one.claims.open == 0


def test_a_worker_that_dies_without_a_word_has_died_of_what_it_was_given(
    play: Callable[..., Play], caplog: pytest.LogCaptureFixture
) -> None:
    one = play("ab")
    one.say(one.first, None)
    assert one.state("a") == ("waiting", 1, 1)
    assert "/in/a.nii: the worker that segmented it was killed (SIGKILL)" in caplog.text and "; it is tried once more, alone" in caplog.text


def test_whoever_has_lost_a_scan_is_told_not_to_write_it(play: Callable[..., Play]) -> None:
    one = play("ab")
    row = row_to_json(Row("a", "/in/a.nii", "a.nii", "started", output_hash="*"))
    one.say(one.first, {"mark": row})
    assert one.first.sent[-1] == {"go": ["a", True]}
    one.ledger.release(one.claims._worker, "a")
    one.say(one.first, {"mark": row})
    assert one.first.sent[-1] == {"go": ["a", False]}
    one.say(one.first, {"lost": ["a"]})
    assert one.first.cases == "ab" and one.rows == []


def test_a_worker_that_computes_otherwise_than_the_table_tells_ends_the_call(play: Callable[..., Play]) -> None:
    one = play("ab", 2)
    late = one.crew.all[-1]
    late.ready = False
    one.say(late, {"ready": {"options": one.supervisor.task.facts.options}, "passes": 1})
    assert late.ready
    with pytest.raises(ConfigError, match=r"a worker computes otherwise \(runtime=compiled\) than the first one .*leave out --compile"):
        one.say(late, {"ready": {"options": "runtime=compiled"}, "passes": 1})
