"""`segpipe train` and `segpipe plan` as a user runs them."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from rich.console import Console

from segpipe.commands.train import _table
from segpipe.dataset.phantom import write_phantom
from segpipe.training.checkpoint import network_weights
from segpipe.training.finish import Finished
from tests.conftest import Run

TINY = [
    "plan.patch_size=[16,16,8]",
    "plan.batch_size=2",
    "network.features=[4,8]",
    "network.stages=2",
    "training.overlays=0",
    "augment=none",
    "device=cpu",
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_phantom(folder, "prostate", cases=4, seed=3, size="small")
    return folder


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "segpipe", *words]


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*words), capture_output=True, text=True, timeout=240)


RANKS = """
import os, pathlib, signal
import pytorch_lightning as pl

class Ranks(pl.Callback):
    def on_train_end(self, trainer, pl_module):
        weights = sum(float(w.double().sum()) for w in pl_module.network.parameters())
        pathlib.Path(__file__).with_name(f"rank{trainer.global_rank}of{trainer.world_size}").write_text(repr(weights))

class Leaver(pl.Callback):
    # The second process alone gets a signal.
    def on_train_batch_end(self, trainer, pl_module, *rest):
        if pl_module.global_step == 2 and trainer.global_rank == 1:
            os.kill(os.getpid(), signal.SIGTERM)

class Poison(pl.Callback):
    # The second process alone gets an image that is none.
    def on_train_batch_start(self, trainer, pl_module, batch, *rest):
        if batch["step"] == 1 and trainer.global_rank == 1:
            batch["image"].fill_(float("nan"))
"""


def test_two_ranks_train_one_model(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "segpipe_test_ranks.py").write_text(RANKS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    arguments = ["train", f"dataset.root={data}", f"run_dir={tmp_path / 'run'}", *TINY, "training.max_steps=4", "training.devices=2"]
    done = run(*arguments, "training.callback=segpipe_test_ranks.Ranks")
    first, second = ((tmp_path / f"rank{rank}of2").read_text() for rank in (0, 1))
    assert first == second
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "model.ts").exists()
    assert json.loads((tmp_path / "run" / "schedule.json").read_text())["steps"] == 4
    assert done.stdout.count("model    ") == 1


def test_a_signal_to_the_second_rank_ends_both_and_the_command_tells_it(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "segpipe_test_ranks.py").write_text(RANKS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    arguments = ["train", f"dataset.root={data}", f"run_dir={tmp_path / 'run'}", *TINY, "training.max_steps=400", "training.devices=2"]
    done = run(*arguments, "training.callback=segpipe_test_ranks.Leaver")
    assert done.returncode == 143, done.stderr
    assert "stopped  early" in done.stdout and "training.resume=auto" in done.stdout
    assert (tmp_path / "run" / "model.ts").exists()
    assert json.loads((tmp_path / "run" / "schedule.json").read_text())["steps"] < 10


def test_two_ranks_end_together_when_their_time_is_up(data: Path, tmp_path: Path, forked: Run) -> None:
    """Each has its own clock, and none may wait for an answer that the other no longer gives."""
    arguments = ["train", f"dataset.root={data}", f"run_dir={tmp_path / 'run'}", *TINY, "training.max_minutes=0.3", "training.devices=2"]
    done = forked(*arguments, "threads=1")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "model.ts").exists()
    assert json.loads((tmp_path / "run" / "schedule.json").read_text())["steps"] > 0


def test_what_goes_wrong_in_the_second_rank_is_told_once_with_its_exit_code(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "segpipe_test_ranks.py").write_text(RANKS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    arguments = ["train", f"dataset.root={data}", f"run_dir={tmp_path / 'run'}", *TINY, "training.max_steps=4", "training.devices=2"]
    done = run(*arguments, "training.callback=segpipe_test_ranks.Poison")
    assert done.returncode == 3, done.stderr
    assert done.stderr.count("error: the loss became nan at step 1 with patches of ") == 1
    assert "bug:" not in done.stderr
    assert "Traceback" not in done.stderr


def test_two_ranks_go_on_as_if_they_had_not_been_interrupted(data: Path, tmp_path: Path, forked: Run) -> None:
    same = ["train", f"dataset.root={data}", *TINY, "training.devices=2", "network.dropout=0.2"]
    for name, rates in (("two", [2e-3, 1e-3]), ("four", [2e-3, 1e-3, 5e-4, 1e-4])):
        (tmp_path / f"{name}.json").write_text(json.dumps({"learning_rates": rates}))
    for folder, schedule, resume in (("whole", "four", "never"), ("parts", "two", "never"), ("parts", "four", "auto")):
        place = [f"run_dir={tmp_path / folder}", f"training.schedule_file={tmp_path / schedule}.json", f"training.resume={resume}"]
        done = forked(*same, *place)
        assert done.returncode == 0, done.stderr
    one, two = (network_weights(tmp_path / name / "checkpoints" / "last.ckpt") for name in ("whole", "parts"))
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_a_terminated_run_leaves_a_model_and_goes_on(data: Path, tmp_path: Path, forked: Run) -> None:
    folder = tmp_path / "run"
    arguments = ["train", f"dataset.root={data}", f"run_dir={folder}", *TINY, "training.max_steps=400", "training.validate_steps=20"]
    process = subprocess.Popen(command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not (folder / "checkpoints" / "last.ckpt").exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 143, errors
    assert "training.resume=auto" in output
    assert (folder / "model.ts").exists()
    steps = json.loads((folder / "schedule.json").read_text())["steps"]
    assert 0 < steps < 400
    again = forked(*[word.replace("=400", f"={steps + 5}") for word in arguments], "training.resume=auto")
    assert again.returncode == 0, again.stderr
    assert json.loads((folder / "schedule.json").read_text())["steps"] == steps + 5
    assert network_weights(folder / "checkpoints" / "last.ckpt")


def test_plan_shows_each_decision_with_its_reason_and_writes_json(data: Path, tmp_path: Path) -> None:
    small = ("plan.patch_size=[16,16,8]", "plan.batch_size=2")  # so that the steps that are timed are short
    done = run("plan", f"dataset.root={data}", f"out={tmp_path / 'plan.json'}", "network=vnet", *small)
    assert done.returncode == 0, done.stderr
    assert "median of the data set" in done.stdout.replace("\n", " ")
    assert json.loads((tmp_path / "plan.json").read_text())["network"]["name"] == "vnet"
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["training.max_stepz=1"], 2, "training.max_steps"),
        (["training.lr=-1"], 2, "training.lr"),
        (["network.name=resnet"], 2, "vnet"),
        (["training.loss=magic"], 2, "tversky"),
        (["dataset.root=/nowhere/at/all"], 3, "/nowhere/at/all"),
        (["conf=nothing"], 2, "hippocampus"),
        (["training.schedule_file=/nowhere.json"], 2, "/nowhere.json"),
    ],
)
def test_a_wrong_word_gets_one_line_and_its_exit_code(
    data: Path, tmp_path: Path, words: list[str], code: int, message: str, forked: Run
) -> None:
    done = forked("train", f"dataset.root={data}", f"run_dir={tmp_path / 'run'}", *TINY, "training.max_steps=1", *words)
    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert len([line for line in done.stderr.splitlines() if line.startswith("error")]) == 1


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    done = run("train", f"dataset.root={tmp_path}", f"run_dir={tmp_path / 'run'}", "training.max_steps=1")
    assert done.returncode == 3
    assert str(tmp_path) in done.stderr.replace("\n", "")


@pytest.mark.skipif(os.geteuid() == 0 and not Path("/proc/1").exists(), reason="needs a place that nobody may write")
def test_an_unwritable_place_is_refused(data: Path, forked: Run) -> None:
    done = forked("train", f"dataset.root={data}", "run_dir=/proc/1/run", *TINY, "training.max_steps=1")
    assert done.returncode == 2
    assert "/proc/1/run" in done.stderr


@pytest.mark.parametrize(("held_out", "what"), [(True, "held-out case(s)"), (False, "case(s) that it was trained on")])
def test_the_last_table_tells_whether_its_cases_were_held_out(held_out: bool, what: str, tmp_path: Path) -> None:
    done = Finished(tmp_path, tmp_path / "model.ts", {"organ": 0.9}, 0.9, 1, held_out, 6, "", False)
    table = _table(done)
    assert str(table.title).startswith(f"Dice on 1 {what}")
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(table)
    assert console.export_text().splitlines()[0].strip() == table.title  # on one line
