"""The stages of several scans side by side: the same files as one after the other, whatever fails, and nothing left behind."""

from __future__ import annotations

import gc
import importlib
import random
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

from segpipe.errors import ConfigError, DataError
from segpipe.geometry.grid import Grid, Volume
from segpipe.inference.gather import Examination, gather
from segpipe.inference.held import MOST_IN_HAND
from segpipe.inference.pipeline import Pipeline, side_by_side_pays
from segpipe.inference.predictor import Predictor
from segpipe.inference.preparation import Ready
from segpipe.inference.segment import Attempt, LeaseLostError, Segmenter
from segpipe.inference.table import Row
from segpipe.inference.task import FolderOptions
from segpipe.io.write import write_volume
from segpipe.progress import Told

from .conftest import MakeModel, blocks, oblique_grid

pytestmark = pytest.mark.timeout(60)
SCANS = 6
WAIT_SECONDS = 20.0


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert not [one for one in threading.enumerate() if one not in before]


class Scan:
    """A job that notes what it is told."""

    def __init__(self, scan: Examination, ended: dict[str, Row | None], lost: bool = False) -> None:
        self.scan, self.before, self.followed = scan, None, False
        self.stages: list[str] = []
        self._ended, self._lost = ended, lost

    def mark(self, row: Row) -> None:
        if self._lost:
            raise LeaseLostError

    def told(self, done: int, total: int) -> None: ...

    def stage(self, name: str) -> None:
        self.stages.append(name)

    def end(self, row: Row | None) -> None:
        self._ended[self.scan.case] = row


def run(
    segmenter: Segmenter, scans: Sequence[Examination], side_by_side: bool = True, lost: str = ""
) -> tuple[dict[str, Row | None], list[Scan]]:
    """What became of each scan, in the order in which they ended, and their jobs."""
    ended: dict[str, Row | None] = {}
    jobs = [Scan(scan, ended, scan.case == lost) for scan in scans]
    run_jobs(segmenter, jobs, ended, side_by_side)
    return ended, jobs


def run_jobs(segmenter: Segmenter, jobs: Sequence[Scan], ended: dict[str, Row | None], side_by_side: bool = True) -> None:
    pipeline, left = Pipeline(segmenter, side_by_side), deque(jobs)

    def feed() -> bool:
        if pipeline.hungry and left:
            pipeline.give(left.popleft())
        return len(ended) < len(jobs)

    pipeline.run(feed)


# ------------------------------------------------------------------------------------------------ with a real network


@pytest.fixture
def scans(tmp_path: Path) -> list[Examination]:
    for number in range(SCANS):
        shape = (11 + 3 * number, 30 - number, 9)
        write_volume(tmp_path / "in" / f"case_{number}.nii.gz", Volume(blocks(shape), oblique_grid(shape)))
    return gather(tmp_path / "in", tmp_path / "out", ["T2"])


@pytest.fixture
def predictor(make_model: MakeModel) -> Predictor:
    return Predictor([make_model(spacing_mm=(1.3, 1.1, 2.0), patch_size=(16, 16, 8))], batch=2)


def segmenter(predictor: Predictor, out: Path, **options: Any) -> Segmenter:
    return Segmenter(predictor, out, "", FolderOptions(**options))


def statuses(ended: dict[str, Row | None]) -> dict[str, str]:
    return {case: row.status if row else "lost" for case, row in ended.items()}


def written(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.rglob("*") if path.is_file()}


@pytest.mark.parametrize("probabilities", [False, True])
def test_the_files_are_those_of_one_scan_after_the_other_in_any_order(
    predictor: Predictor, scans: list[Examination], tmp_path: Path, probabilities: bool
) -> None:
    whole, _ = run(segmenter(predictor, tmp_path / "turn", probabilities=probabilities), scans, side_by_side=False)
    assert list(whole) == [scan.case for scan in scans] and set(statuses(whole).values()) == {"done"}
    alone = segmenter(predictor, tmp_path / "alone", probabilities=probabilities)
    for scan in scans:
        alone.segment(scan, None, lambda row: None, lambda done, total: None)
    assert written(tmp_path / "alone") == written(tmp_path / "turn")
    for seed in range(3):
        order = random.Random(seed).sample(scans, len(scans))
        ended, _ = run(segmenter(predictor, tmp_path / f"side {seed}", probabilities=probabilities), order)
        assert list(ended) == [scan.case for scan in order]
        assert written(tmp_path / f"side {seed}") == written(tmp_path / "turn")


def test_a_row_tells_the_seconds_of_each_stage_and_not_those_in_which_it_waited(
    predictor: Predictor, scans: list[Examination], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    restore = Segmenter.restore

    def slow(self: Segmenter, attempt: Attempt, part: Any) -> None:
        time.sleep(0.02)
        restore(self, attempt, part)

    monkeypatch.setattr(Segmenter, "restore", slow)
    ended, jobs = run(segmenter(predictor, tmp_path / "out"), scans[:3])
    for row in ended.values():
        assert row is not None and set(row.seconds) == {"read", "prepare", "network", "restore", "write"}
        assert 0 < row.seconds["restore"] < row.seconds["network"] + 0.02 * jobs[-1].stages.count("restore")
    for job in jobs:
        assert job.stages[:2] == ["read", ""] and job.stages[2] == "network" and job.stages[-2:] == ["write", ""]
        assert "restore" in job.stages


@pytest.mark.parametrize("place", ["read_volume", "prepare", "parts", "put", "prediction", "write_label_map"])
@pytest.mark.parametrize("number", [0, 2])
def test_a_fault_of_one_scan_in_any_stage_leaves_the_others_done(
    predictor: Predictor, scans: list[Examination], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, number: int
) -> None:
    break_stage(monkeypatch, place, number, lambda: DataError("something in it"))
    ended, _ = run(segmenter(predictor, tmp_path / "out"), scans)
    bad = scans[number]
    expected = {scan.case: "failed" if scan is bad else "done" for scan in scans}
    assert statuses(ended) == expected
    row = ended[bad.case]
    assert row is not None and row.reason == f"{bad.images[0]}: something in it"
    assert set(written(tmp_path / "out")) == {f"{scan.case}.nii.gz" for scan in scans if scan is not bad}


@pytest.mark.parametrize("place", ["read_volume", "prepare", "parts", "put", "prediction", "write_label_map"])
@pytest.mark.parametrize("error", [ConfigError, KeyboardInterrupt, SystemExit])
def test_what_must_end_the_call_ends_it_from_any_stage_in_order(
    predictor: Predictor,
    scans: list[Examination],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    place: str,
    error: type[BaseException],
) -> None:
    break_stage(monkeypatch, place, 2, lambda: error("no space left"))
    ended: dict[str, Row | None] = {}
    with pytest.raises(error, match="no space left"):
        run_jobs(segmenter(predictor, tmp_path / "out"), [Scan(scan, ended) for scan in scans], ended)
    assert set(statuses(ended).values()) <= {"done"} and scans[2].case not in ended
    assert set(written(tmp_path / "out")) == {f"{case}.nii.gz" for case in ended}


def test_a_scan_whose_networks_were_done_is_written_before_the_end(
    predictor: Predictor, scans: list[Examination], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Minutes of work are not thrown away for a second of writing."""
    write = Segmenter.write

    def slow(self: Segmenter, *args: Any) -> Row:
        time.sleep(0.3)
        return write(self, *args)

    monkeypatch.setattr(Segmenter, "write", slow)
    break_stage(monkeypatch, "parts", 1, KeyboardInterrupt)
    ended: dict[str, Row | None] = {}
    with pytest.raises(KeyboardInterrupt):
        run_jobs(segmenter(predictor, tmp_path / "out"), [Scan(scan, ended) for scan in scans], ended)
    assert statuses(ended) == {scans[0].case: "done"}


@pytest.mark.parametrize("place", ["read_volume", "prepare", "parts", "put", "prediction", "write_label_map"])
def test_a_scan_for_which_there_is_no_memory_beside_others_is_tried_again_alone(
    predictor: Predictor, scans: list[Examination], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    run(segmenter(predictor, tmp_path / "alone"), scans, side_by_side=False)
    break_stage(monkeypatch, place, 2, partial(next, iter([MemoryError("once")]), None))
    tries: list[str] = []
    real = Segmenter.read

    def read(self: Segmenter, scan: Examination, *args: Any, **kwargs: Any) -> Attempt:
        tries.append(scan.case)
        return real(self, scan, *args, **kwargs)

    monkeypatch.setattr(Segmenter, "read", read)
    ended, _ = run(segmenter(predictor, tmp_path / "out"), scans)
    assert set(statuses(ended).values()) == {"done"}
    assert [tries.count(f"case_{number}") for number in range(SCANS)] == [1, 1, 2, 1, 1, 1]
    assert written(tmp_path / "out") == written(tmp_path / "alone")


def test_a_scan_for_which_there_is_no_memory_alone_either_fails_and_is_not_tried_for_ever(
    predictor: Predictor, scans: list[Examination], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_stage(monkeypatch, "parts", 2, lambda: MemoryError("always"))
    ended, _ = run(segmenter(predictor, tmp_path / "out"), scans)
    assert statuses(ended) == {scan.case: "failed" if scan is scans[2] else "done" for scan in scans}
    assert (row := ended[scans[2].case]) is not None and "MemoryError" in row.reason


def test_a_scan_that_is_tried_again_has_the_machine_to_itself(started: Start) -> None:
    class Short(Stages):
        def write(self, attempt: Attempt, mark: Callable[[Row], None]) -> Row | None:
            self.at(f"write {attempt.scan.case}")
            return Row(attempt.scan.case, "", "", "done") if not attempt.short_of_memory else None

        def read(self, scan: Examination, before: Row | None, followed: bool) -> Attempt:
            attempt = super().read(scan, before, followed)
            attempt.short_of_memory = scan.case == "b" and self.begun.count("read b") == 1
            return attempt

    stages = Short()
    ended, _ = started(stages, "abcde")
    stages.wait_for("write e")
    again = len(stages.begun) - 1 - stages.begun[::-1].index("read b")
    own = [f"network b{part}" for part in range(4)]
    assert stages.begun.count("read b") == 2
    assert stages.begun[again : again + 10] == [
        "read b",
        *(name for part in range(4) for name in (own[part], f"restore b{part}")),
        "write b",
    ]
    assert len(ended) == 5


def test_a_scan_that_is_tried_alone_is_tried_once_though_others_keep_coming(tmp_path: Path) -> None:
    tries: list[str] = []

    class Short(Stages):
        def read(self, scan: Examination, before: Row | None, followed: bool) -> Attempt:
            tries.append(scan.case)
            attempt = super().read(scan, before, followed)
            attempt.short_of_memory = scan.case == "b"
            return attempt

        def write(self, attempt: Attempt, mark: Callable[[Row], None]) -> Row | None:
            super().write(attempt, mark)
            return None if attempt.short_of_memory else Row(attempt.scan.case, "", "", "done")

        def failed(self, attempt: Attempt) -> Row:
            return Row(attempt.scan.case, "", "", "failed")

    ended: dict[str, Row | None] = {}
    stages, count = Short(), 0
    pipeline = Pipeline(cast(Segmenter, stages))

    def feed() -> bool:
        nonlocal count
        if "b" not in ended and count < 400 and pipeline._in_hand.__len__() < MOST_IN_HAND:  # as a command does, which asks nobody
            pipeline.give(Scan(Examination("ab"[count] if count < 2 else f"c{count}", ()), ended))
            count += 1
        return len(ended) < count

    pipeline.run(feed)
    assert tries.count("b") == 2 and (row := ended["b"]) is not None and row.status == "failed"
    assert count < 400 and len(ended) == count


def test_a_scan_that_another_worker_has_is_left_to_it(predictor: Predictor, scans: list[Examination], tmp_path: Path) -> None:
    ended, _ = run(segmenter(predictor, tmp_path / "out"), scans, lost=scans[1].case)
    assert statuses(ended) == {scan.case: "lost" if scan is scans[1] else "done" for scan in scans}
    assert f"{scans[1].case}.nii.gz" not in written(tmp_path / "out")


def break_stage(monkeypatch: pytest.MonkeyPatch, place: str, number: int, error: Callable[[], BaseException | None]) -> None:
    """Let one place in the code raise `error`, if it is one, for scan `number`, which its size tells."""
    long = 11 + 3 * number
    module, owner_name, name = {
        "read_volume": ("source", "", "read_volume"),
        "prepare": ("preparation", "Preparation", "prepare"),
        "parts": ("predictor", "Predictor", "parts"),
        "put": ("restoration", "Restoration", "put"),
        "prediction": ("restoration", "Restoration", "prediction"),
        "write_label_map": ("segment", "", "write_label_map"),
    }[place]
    owner = importlib.import_module(f"segpipe.inference.{module}")
    owner = getattr(owner, owner_name) if owner_name else owner
    real = getattr(owner, name)

    def is_bad(args: Sequence[Any]) -> bool:
        if place == "read_volume":
            return bool(args[0].name == f"case_{number}.nii.gz")
        if place in ("prepare", "parts"):
            return bool(args[1].grid.shape[0] == long)
        if place in ("put", "prediction"):
            return bool(args[0]._traces[0].scan_grid.shape[0] == long)
        return bool(args[1].shape[0] == long)

    def instead(*args: Any, **kwargs: Any) -> Any:
        if is_bad(args) and (raised := error()) is not None:
            raise raised
        return real(*args, **kwargs)

    monkeypatch.setattr(owner, name, instead)


# ------------------------------------------------------------------------- with stages that take as long as a test wants


class Stages:
    """A segmenter whose stages wait for the test.

    Attributes:
        begun: what has begun, in order.
        gates: by `stage case`, what must be set before that stage goes on.
    """

    def __init__(self, parts: int = 4) -> None:
        self.begun: list[str] = []
        self.gates: dict[str, threading.Event] = {}
        self._parts = parts

    def hold(self, *names: str) -> None:
        self.gates |= {name: threading.Event() for name in names}

    def free(self, *names: str) -> None:
        for name in names:
            self.gates[name].set()

    def at(self, name: str) -> None:
        self.begun.append(name)
        if name in self.gates:
            assert self.gates[name].wait(WAIT_SECONDS), f"{name} waited in vain"

    def wait_for(self, *names: str) -> None:
        end = time.monotonic() + WAIT_SECONDS
        while not set(names) <= set(self.begun):
            assert time.monotonic() < end, f"{set(names) - set(self.begun)} did not begin: {self.begun}"
            time.sleep(0.005)

    def read(self, scan: Examination, before: Row | None, followed: bool) -> Attempt:
        attempt = Attempt(scan, Row(scan.case, "", "", "failed"), before)
        self.at(f"read {scan.case}")
        return attempt

    def compute(self, attempt: Attempt, told: Told) -> Iterator[tuple[str, int]]:
        for number in range(self._parts):
            self.at(f"network {attempt.scan.case}{number}")
            told(number, self._parts)
            yield attempt.scan.case, number

    def restore(self, attempt: Attempt, part: tuple[str, int]) -> None:
        assert part[0] == attempt.scan.case
        self.at(f"restore {part[0]}{part[1]}")

    def write(self, attempt: Attempt, mark: Callable[[Row], None]) -> Row | None:
        self.at(f"write {attempt.scan.case}")
        return Row(attempt.scan.case, "", "", "done")


@pytest.fixture
def started() -> Iterator[Callable[..., tuple[dict[str, Row | None], list[Scan]]]]:
    """Run scans a, b, c ... through `Stages` on a thread of its own, which is joined at the end."""
    threads: list[threading.Thread] = []

    def start(stages: Stages, cases: str, side_by_side: bool = True) -> tuple[dict[str, Row | None], list[Scan]]:
        ended: dict[str, Row | None] = {}
        jobs = [Scan(Examination(case, ()), ended) for case in cases]
        threads.append(threading.Thread(target=run_jobs, args=(cast(Segmenter, stages), jobs, ended, side_by_side)))
        threads[-1].start()
        return ended, jobs

    yield start
    for thread in threads:
        thread.join(WAIT_SECONDS)
        assert not thread.is_alive()


Start = Callable[..., tuple[dict[str, Row | None], list[Scan]]]


def test_three_scans_are_in_hand_and_not_a_fourth(started: Start) -> None:
    stages = Stages()
    stages.hold("write a", "network b3")
    ended, _ = started(stages, "abcde")
    stages.wait_for("write a", "network b3", "read c")
    time.sleep(0.1)
    assert "read d" not in stages.begun and not ended and MOST_IN_HAND == 3
    stages.free("network b3")
    stages.wait_for("network c3")  # which does not wait for the first to be written
    time.sleep(0.1)
    assert "read d" not in stages.begun and not ended
    stages.free("write a")
    stages.wait_for("write e")
    assert next(iter(ended)) == "a"


def test_one_scan_is_read_ahead_and_not_two(started: Start) -> None:
    stages = Stages()
    stages.hold("network a0")
    started(stages, "abc")
    stages.wait_for("network a0", "read b")
    time.sleep(0.1)
    assert "read c" not in stages.begun
    stages.free("network a0")
    stages.wait_for("write c")


def test_the_networks_are_one_block_ahead_of_the_restoration_and_not_more(started: Start) -> None:
    stages = Stages(parts=8)
    stages.hold("restore a0")
    _, [job] = started(stages, "a")
    stages.wait_for("restore a0", "network a2")  # one is restored, one waits, one is in hand
    time.sleep(0.1)
    assert "network a3" not in stages.begun
    assert job.stages[-1] == "restore"  # the networks wait, and still it is worked on
    stages.free("restore a0")


def test_a_scan_that_waits_for_another_one_is_not_at_work(started: Start) -> None:
    stages = Stages(parts=4)
    stages.hold("restore a3", "network b2")
    _, (first, second) = started(stages, "ab")
    stages.wait_for("restore a3", "network b0")  # whose block comes after what is to be done of the first scan
    wait_until(lambda: second.stages[-1] == "")
    assert second.stages == ["read", "", "network", ""] and first.stages[-1] == "restore"
    stages.free("restore a3")
    stages.wait_for("network b2")
    wait_until(lambda: second.stages[-1] == "network")
    stages.free("network b2")


def test_one_after_the_other_nothing_is_read_ahead(started: Start) -> None:
    stages = Stages(parts=1)
    stages.hold("write a")
    started(stages, "ab", side_by_side=False)
    stages.wait_for("write a")
    time.sleep(0.1)
    assert stages.begun == ["read a", "network a0", "restore a0", "write a"]
    stages.free("write a")
    stages.wait_for("write b")


def test_a_scan_may_come_while_another_one_is_in_the_networks() -> None:
    stages, ended = Stages(), dict[str, Row | None]()
    stages.hold("network a0")
    pipeline = Pipeline(cast(Segmenter, stages))
    first, second = (Scan(Examination(case, ()), ended) for case in "ab")
    pipeline.give(first)

    def more() -> None:
        stages.wait_for("network a0")
        pipeline.give(second)
        stages.wait_for("read b")
        stages.free("network a0")

    thread = threading.Thread(target=more)
    thread.start()
    pipeline.run(lambda: len(ended) < 2)
    thread.join()
    assert list(ended) == ["a", "b"]


def test_a_scan_that_is_read_and_waits_can_be_taken_back_and_one_in_the_networks_cannot() -> None:
    stages, ended = Stages(), dict[str, Row | None]()
    stages.hold("network a0")
    pipeline = Pipeline(cast(Segmenter, stages))
    jobs = {case: Scan(Examination(case, ()), ended) for case in "abc"}
    pipeline.give(jobs["a"])
    taken: dict[str, bool] = {}

    def more() -> None:
        stages.wait_for("network a0")
        pipeline.give(jobs["b"])
        wait_until(lambda: jobs["b"].stages == ["read", ""])
        taken.update({case: pipeline.take_back(jobs[case]) for case in "ba"})
        taken["again"] = pipeline.take_back(jobs["b"])
        pipeline.give(jobs["c"])
        stages.free("network a0")

    thread = threading.Thread(target=more)
    thread.start()
    pipeline.run(lambda: len(ended) < 2)
    thread.join()
    assert taken == {"b": True, "a": False, "again": False}
    assert list(ended) == ["a", "c"] and "network b0" not in stages.begun


def test_what_fills_the_memory_with_classes_is_written_before_the_next_one_does(started: Start) -> None:
    class Wide(Stages):
        def read(self, scan: Examination, before: Row | None, followed: bool) -> Attempt:
            attempt = super().read(scan, before, followed)
            attempt.ready = Ready(Grid((1, 1, 1), np.eye(4)), (), None, True, 1, (), {})
            return attempt

    stages = Wide()
    stages.hold("write a")
    ended, _ = started(stages, "ab")
    stages.wait_for("write a", "network b1")
    time.sleep(0.1)
    assert "restore b0" not in stages.begun and not ended
    stages.free("write a")
    stages.wait_for("write b")


def test_what_goes_wrong_while_scans_are_given_ends_it_too() -> None:
    stages, ended = Stages(), dict[str, Row | None]()
    pipeline = Pipeline(cast(Segmenter, stages))

    def feed() -> bool:
        if not stages.begun:
            pipeline.give(Scan(Examination("a", ()), ended))
            stages.wait_for("read a")
            return True
        raise ConfigError("the ledger is gone")

    with pytest.raises(ConfigError, match="the ledger is gone"):
        pipeline.run(feed)


@pytest.mark.parametrize("seed", range(12))
def test_whatever_fails_whenever_it_comes_to_an_end(seed: int) -> None:
    """Random times and faults, several at once."""
    rng = random.Random(seed)
    faults = [ConfigError("disk"), KeyboardInterrupt(), RuntimeError("bug")]

    class Faulty(Stages):
        def at(self, name: str) -> None:
            super().at(name)
            time.sleep(rng.random() * 0.004)
            if rng.random() < 0.02:
                raise rng.choice(faults)

    ended: dict[str, Row | None] = {}
    jobs = [Scan(Examination(f"{number:02}", ()), ended) for number in range(20)]
    try:
        run_jobs(cast(Segmenter, Faulty()), jobs, ended)
    except (ConfigError, KeyboardInterrupt, RuntimeError) as error:
        assert error in faults
    else:
        assert len(ended) == 20


def wait_until(what: Callable[[], bool]) -> None:
    end = time.monotonic() + WAIT_SECONDS
    while not what():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


def test_scans_that_have_ended_are_not_kept(predictor: Predictor, scans: list[Examination], tmp_path: Path) -> None:
    """Their volumes are large: no more attempts live than are in hand."""
    alive: weakref.WeakSet[Attempt] = weakref.WeakSet()
    most = 0
    read = Segmenter.read

    class Counting(Segmenter):
        def read(self, scan: Examination, before: Row | None, followed: bool = False) -> Attempt:
            nonlocal most
            gc.collect()
            most = max(most, len(alive))
            attempt = read(self, scan, before)
            alive.add(attempt)
            return attempt

    ended, _ = run(Counting(predictor, tmp_path / "out", "", FolderOptions()), scans)
    gc.collect()
    assert len(ended) == SCANS and 0 < most < MOST_IN_HAND and not alive


def test_scans_are_side_by_side_where_networks_leave_cores_free_and_memory_is_not_limited(make_model: MakeModel) -> None:
    model = make_model()
    threads = torch.get_num_threads()
    free, limited = Predictor([model]), Predictor([model], memory_gb=4.0)
    assert not side_by_side_pays(free, cores=threads) and side_by_side_pays(free, cores=threads + 1)
    assert not side_by_side_pays(limited, cores=threads + 1)
    on_gpu = Predictor([model])
    on_gpu.device = torch.device("cuda")
    assert side_by_side_pays(on_gpu, cores=threads)
