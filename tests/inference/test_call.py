"""`segpipe predict` as a process of its own: hung scans, killed workers, killed commands, several commands, signals."""

from __future__ import annotations

import csv
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from torch import nn

from segpipe.geometry.grid import Grid, Volume
from segpipe.inference.held import MOST_IN_HAND
from segpipe.inference.table import LEDGER, TABLE
from segpipe.io.read import read_volume
from segpipe.io.write import write_volume

from .conftest import MakeModel

REPOSITORY = Path(__file__).resolve().parents[2]
SHAPE = (9, 8, 7)
HANGS = 900.0
"""A scan with a voxel above it never ends."""

pytestmark = [pytest.mark.skipif(os.name == "nt", reason="signals are POSIX"), pytest.mark.timeout(240)]
Start = Callable[..., "subprocess.Popen[str]"]


class Stuck(nn.Module):
    """Class 1 above 0.5; never ends on what is above `HANGS`, in compiled code that hears no signal."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        while bool(x.max() > 900.0):
            x = x + 0.0
        return torch.cat([0.5 - x, x - 0.5, -x - 9.0], dim=1) + self.bias


@pytest.fixture
def model(make_model: MakeModel) -> Path:
    return make_model(network=Stuck()).path


@pytest.fixture
def start() -> Iterator[Start]:
    """Start the program; what still runs at the end of the test is killed."""
    running: list[subprocess.Popen[str]] = []
    # tests in the background of a shell have inherited that it is ignored, and would hand that on
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    def begin(*words: str | Path) -> subprocess.Popen[str]:
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "segpipe", *map(str, words)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
        running.append(process)
        return process

    yield begin
    signal.signal(signal.SIGINT, before)
    for process in running:
        process.kill()
        process.communicate()


def scans(folder: Path, count: int, first: int = 0, hang: int | None = None) -> None:
    """`case_000.nii.gz` ..., each with a block of its own."""
    for number in range(first, first + count):
        array = np.zeros((1, *SHAPE), dtype=np.float32)
        array[0, number % 7 :, number % 5 :, : 1 + number % 6] = 1
        if number == hang:
            array[0, 0, 0, 0] = HANGS + 100
        write_volume(folder / f"case_{number:03}.nii.gz", Volume(array, Grid(SHAPE, np.eye(4))))


def copies(folder: Path, count: int) -> None:
    """The same scan many times, which is quick to make."""
    scans(folder, 1)
    data = (folder / "case_000.nii.gz").read_bytes()
    for number in range(1, count):
        (folder / f"case_{number:03}.nii.gz").write_bytes(data)


def table(out: Path) -> dict[str, dict[str, str]]:
    with (out / TABLE).open(newline="", encoding="utf-8") as file:
        return {row["case"]: row for row in csv.DictReader(file)}


def states(out: Path) -> dict[str, tuple[str, int]]:
    """State and number of attempts of each case, as another program reads them."""
    if not (out / LEDGER).exists():
        return {}
    connection = sqlite3.connect(out / LEDGER, 30)
    try:
        return {name: (state, attempts) for name, state, attempts in connection.execute("SELECT name, state, attempts FROM cases")}
    except sqlite3.OperationalError:  # not made yet
        return {}
    finally:
        connection.close()


def wait_for(what: Callable[[], bool], seconds: float = 90.0) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def workers(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def let_it_hang(process: subprocess.Popen[str]) -> psutil.Process:
    """The only worker, after it has computed for another second: whatever does not hang was begun by then."""
    [worker] = workers(process)

    def seconds() -> float:
        return sum(worker.cpu_times()[:2])

    before = seconds()
    wait_for(lambda: seconds() > before + 1.0)
    return worker


def left_over(out: Path) -> list[str]:
    """Hidden files: what was not written to its end."""
    return [path.name for path in out.rglob(".*")]


def test_a_scan_that_hangs_is_given_up_and_the_others_go_on(model: Path, start: Start, tmp_path: Path) -> None:
    scans(tmp_path / "in", 4, hang=1)
    process = start("predict", model, tmp_path / "in", tmp_path / "out", "--timeout", "3", "--workers", "2")
    said, errors = process.communicate(timeout=120)
    assert process.returncode == 3, errors
    rows = table(tmp_path / "out")
    assert {case: row["status"] for case, row in rows.items()} == {
        "case_000": "done",
        "case_001": "failed",
        "case_002": "done",
        "case_003": "done",
    }
    assert f"{tmp_path / 'in' / 'case_001.nii.gz'}: was not done after 3 s" in rows["case_001"]["reason"]
    assert "--timeout" in rows["case_001"]["reason"] and "failed  case_001: " in said
    assert not left_over(tmp_path / "out")


def test_a_scan_that_kills_its_worker_is_tried_once_more_alone_and_then_set_aside(model: Path, start: Start, tmp_path: Path) -> None:
    out = tmp_path / "out"
    scans(tmp_path / "in", 4, hang=1)
    process = start("predict", model, tmp_path / "in", out, "--workers", "2")

    def others_done() -> bool:
        found = states(out)
        return len(found) == 4 and all(state == "done" for name, (state, _) in found.items() if name != "case_001")

    wait_for(others_done)
    wait_for(lambda: states(out)["case_001"] == ("running", 1))
    busiest = max(workers(process), key=lambda one: sum(one.cpu_times()[:2]))
    busiest.send_signal(signal.SIGKILL)
    wait_for(lambda: states(out)["case_001"] == ("running", 2))
    wait_for(lambda: len(workers(process)) == 1)
    time.sleep(0.5)
    workers(process)[0].send_signal(signal.SIGSEGV)
    said, errors = process.communicate(timeout=120)
    assert process.returncode == 3, errors
    assert "was killed (SIGKILL)" in errors and "tried once more, alone" in errors
    row = table(out)["case_001"]
    assert row["status"] == "failed" and str(tmp_path / "in" / "case_001.nii.gz") in row["reason"]
    assert "crashed (SIGSEGV)" in row["reason"] and "the 2nd time, alone" in row["reason"] and row["reason"] in " ".join(said.split())
    assert states(out)["case_001"] == ("set aside", 2)


def test_all_that_a_killed_worker_held_is_tried_alone_and_the_guilty_one_set_aside(model: Path, start: Start, tmp_path: Path) -> None:
    out = tmp_path / "out"
    scans(tmp_path / "in", 4, hang=1)
    process = start("predict", model, tmp_path / "in", out)
    wait_for(lambda: {name: state for name, (state, _) in states(out).items() if state == "running"}.keys() == {"case_001", "case_002"})
    let_it_hang(process).send_signal(signal.SIGKILL)
    wait_for(lambda: states(out)["case_001"] == ("running", 2))
    again = let_it_hang(process)
    assert states(out)["case_003"] == ("done", 1)  # it was not held, and comes before those that are to be tried alone
    assert states(out)["case_002"] == ("waiting", 1)  # alone means alone
    again.send_signal(signal.SIGKILL)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 3, errors
    both = f"{tmp_path / 'in' / 'case_001.nii.gz'}, {tmp_path / 'in' / 'case_002.nii.gz'}: the worker that segmented them was killed"
    assert both in errors and "each of them is tried once more, alone, after the others" in errors
    assert states(out) == {
        "case_000": ("done", 1),
        "case_001": ("set aside", 2),
        "case_002": ("done", 2),
        "case_003": ("done", 1),
    }
    assert sorted(path.name for path in out.glob("*.nii.gz")) == ["case_000.nii.gz", "case_002.nii.gz", "case_003.nii.gz"]
    assert not left_over(out)


def test_a_scan_that_waits_behind_one_that_hangs_is_not_given_up_with_it(model: Path, start: Start, tmp_path: Path) -> None:
    out = tmp_path / "out"
    scans(tmp_path / "in", 4, hang=1)
    process = start("predict", model, tmp_path / "in", out, "--timeout", "6")
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 3, errors
    found = states(out)
    assert found["case_001"] == ("failed", 1) and "(last in the stage 'network')" in table(out)["case_001"]["reason"]
    assert {found[case] for case in ("case_000", "case_002", "case_003")} == {("done", 1)}  # read twice, tried once
    assert not left_over(out) and "the worker that" not in errors


def test_a_scan_that_waits_behind_one_that_hangs_goes_to_a_worker_that_has_nothing_to_do(model: Path, start: Start, tmp_path: Path) -> None:
    out = tmp_path / "out"
    scans(tmp_path / "in", 5, hang=0)
    process = start("predict", model, tmp_path / "in", out, "--workers", "2")
    wait_for(lambda: sum(found == ("done", 1) for found in states(out).values()) == 4)
    assert states(out)["case_000"] == ("running", 1)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)


def test_within_a_memory_limit_one_scan_is_in_hand(model: Path, start: Start, tmp_path: Path) -> None:
    out = tmp_path / "out"
    scans(tmp_path / "in", 3, hang=1)
    process = start("predict", model, tmp_path / "in", out, "--memory-gb", "4")
    wait_for(lambda: states(out).get("case_001", ("", 0))[0] == "running")
    let_it_hang(process)
    assert {name: state for name, (state, _) in states(out).items()} == {"case_000": "done", "case_001": "running", "case_002": "waiting"}
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_in_order_and_the_same_command_goes_on(
    model: Path, start: Start, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    out = tmp_path / "out"
    scans(tmp_path / "in", 3, hang=1)
    process = start("predict", model, tmp_path / "in", out)
    wait_for(lambda: (states(out).get("case_000", ("", 0))[0], states(out).get("case_001", ("", 0))[0]) == ("done", "running"))
    children = workers(process)
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == code
    told = f" of 3 scan(s), whose label maps are in {out}; the same command does the others"  # the ledger knows a moment before the count
    assert f"stopped after 0{told}" in errors or f"stopped after 1{told}" in errors
    assert children and not [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]
    assert table(out)["case_000"]["status"] == "done"
    assert states(out)["case_001"] == ("waiting", 0)
    scans(tmp_path / "in", 1, first=1)  # another one, without the fault
    again = start("predict", model, tmp_path / "in", out)
    again.communicate(timeout=120)
    assert again.returncode == 0
    assert {name: row["status"] for name, row in table(out).items()} == {"case_000": "skipped", "case_001": "done", "case_002": "done"}


def test_workers_end_with_a_command_that_is_killed_even_while_they_hang(model: Path, start: Start, tmp_path: Path) -> None:
    scans(tmp_path / "in", 2, hang=0)
    process = start("predict", model, tmp_path / "in", tmp_path / "out")
    wait_for(lambda: states(tmp_path / "out").get("case_000", ("", 0))[0] == "running")
    children = workers(process)
    process.kill()
    assert children
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive


def test_two_commands_at_once_share_a_folder_and_both_end_with_all_of_it_done(model: Path, start: Start, tmp_path: Path) -> None:
    out = tmp_path / "out"
    copies(tmp_path / "in", 300)  # long enough for the second to come in time
    both = [start("predict", model, tmp_path / "in", out) for _ in range(2)]
    said = [process.communicate(timeout=200) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    found = states(out)
    assert len(found) == 300 and {attempts for _, attempts in found.values()} == {1}
    done = [int(next(line for line in text.splitlines() if "│" in line).split("│")[1]) for text, _ in said]
    assert sum(done) == 300 and min(done) > 0, done
    assert {row["status"] for row in table(out).values()} <= {"done", "skipped"} and len(table(out)) == 300
    assert len(list(out.glob("*.nii.gz"))) == 300 and not left_over(out)


def test_shards_divide_a_folder(model: Path, start: Start, tmp_path: Path) -> None:
    out = tmp_path / "out"
    scans(tmp_path / "in", 12)
    both = [start("predict", model, tmp_path / "in", out, "--shard", f"{number}/2") for number in (1, 2)]
    for process in both:
        process.communicate(timeout=120)
    assert [process.returncode for process in both] == [0, 0]
    assert {attempts for _, attempts in states(out).values()} == {1} and len(table(out)) == 12
    assert {row["status"] for row in table(out).values()} == {"done"}  # no part has looked at the other's scans


def test_scans_are_taken_as_they_arrive_once_they_are_still(model: Path, start: Start, tmp_path: Path) -> None:
    out, into = tmp_path / "out", tmp_path / "in"
    into.mkdir()
    process = start("predict", model, into, out, "--watch", "--still", "1.5")
    wait_for((out / LEDGER).exists)
    scans(tmp_path / "elsewhere", 2)
    data = (tmp_path / "elsewhere" / "case_000.nii.gz").read_bytes()
    for part in range(4):  # arrives slowly
        with (into / "case_000.nii.gz").open("ab") as file:
            file.write(data[len(data) * part // 4 : len(data) * (part + 1) // 4])
        time.sleep(0.8)
    wait_for((out / "case_000.nii.gz").exists)
    (tmp_path / "elsewhere" / "case_001.nii.gz").rename(into / "case_001.nii.gz")
    (into / "broken.nii.gz").write_bytes(b"no scan")
    wait_for(lambda: states(out).get("case_001", ("", 0))[0] == "done" and states(out).get("broken", ("", 0))[0] == "failed")
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 3, errors
    assert "case_000: done" in errors and "broken: failed: " in errors and f"no longer watching {into}" in errors
    assert {name: row["status"] for name, row in table(out).items()} == {"case_000": "done", "case_001": "done", "broken": "failed"}
    assert states(out)["case_000"] == ("done", 1)  # never half of it


def test_a_command_that_is_killed_again_and_again_loses_nothing(model: Path, start: Start, tmp_path: Path) -> None:
    """Nine times at a random moment of its work; at the end every output is there once, whole, and that of an undisturbed call."""
    scans(tmp_path / "in", 60)
    undisturbed = start("predict", model, tmp_path / "in", tmp_path / "whole", "--probabilities")
    undisturbed.communicate(timeout=120)
    assert undisturbed.returncode == 0
    out, rng, before = tmp_path / "out", random.Random(0), 0
    for _ in range(9):
        process = start("predict", model, tmp_path / "in", out, "--probabilities")
        goal = min(before + rng.randint(1, 7), 58)
        wait_for(lambda goal=goal: sum(state in ("done", "skipped") for state, _ in states(out).values()) >= goal)
        time.sleep(rng.random() * 0.05)
        process.kill()
        process.communicate()
        after = sum(state in ("done", "skipped") for state, _ in states(out).values())
        assert after >= max(goal, before)  # what was done stays done
        before = after
    last = start("predict", model, tmp_path / "in", out, "--probabilities")
    _, errors = last.communicate(timeout=120)
    assert last.returncode == 0, errors
    found = states(out)
    assert len(found) == 60 and {state for state, _ in found.values()} <= {"done", "skipped"}
    assert sum(attempts - 1 for _, attempts in found.values()) <= 9 * MOST_IN_HAND  # the scans in hand, each time
    assert not left_over(out)
    for path in (tmp_path / "whole").glob("*.nii.gz"):
        assert (out / path.name).read_bytes() == path.read_bytes()
    assert sorted(path.name for path in out.iterdir()) == sorted(path.name for path in (tmp_path / "whole").iterdir())
    assert np.array_equal(read_volume(out / "case_003.nii.gz").array[0] == 10, read_volume(tmp_path / "in/case_003.nii.gz").array[0] > 0.5)


def test_memory_stays_flat_over_a_thousand_scans(model: Path, start: Start, tmp_path: Path) -> None:
    copies(tmp_path / "in", 1000)
    process = start("predict", model, tmp_path / "in", tmp_path / "out")

    def done() -> int:
        return sum(state == "done" for state, _ in states(tmp_path / "out").values())

    wait_for(lambda: done() >= 100)
    both = [psutil.Process(process.pid), *workers(process)]
    assert len(both) == 2
    early = late = [one.memory_info().rss for one in both]
    while process.poll() is None:
        try:
            late = [one.memory_info().rss for one in both]
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            break
        time.sleep(0.1)
    process.communicate(timeout=30)
    assert process.returncode == 0 and done() == 1000
    grown_mb = [(after - before) / 1e6 for before, after in zip(early, late, strict=True)]
    assert max(grown_mb) < 25, f"the command grew by {grown_mb[0]:.0f} MB, its worker by {grown_mb[1]:.0f} MB"
