"""What is forked does what is started, or the tests that use it would tell something else."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from segpipe.dataset.phantom import write_phantom
from tests.conftest import REPOSITORY, Run
from tests.forked import Standby

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks on Linux alone")


@pytest.mark.parametrize("words", [["--version"], ["train", "training.lr=-1"], ["inspect", "nowhere"], ["convert", "a", "b", "c"]])
def test_a_forked_command_says_what_a_started_one_does(words: list[str], segpipe: Run, forked: Run) -> None:
    one, two = segpipe(*words), forked(*words)
    assert (one.returncode, one.stdout, one.stderr) == (two.returncode, two.stdout, two.stderr)


def test_each_has_its_own_folder_environment_and_chance(tmp_path: Path, forked: Run) -> None:
    """Those of a test's own are seen by a callback that a training imports from its folder."""
    write_phantom(tmp_path / "data", "prostate", cases=2, seed=3, size="small")
    code = """
import os, random, sys, numpy, torch, pytorch_lightning as pl
NAME = f"{os.environ['MINE']} {sys.executable} {random.random()} {numpy.random.random()} {torch.rand(1).item()}"
class Told(pl.Callback):
    def on_train_end(self, *_):
        open("told.txt", "w").write(NAME)
"""
    small = ("plan.patch_size=[16,16,8]", "plan.batch_size=1", "network.features=[4,8]", "network.stages=2", "training.max_steps=1")
    told = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "told.py").write_text(code)
        words = ("train", f"dataset.root={tmp_path / 'data'}", "run_dir=run", "training.callback=told.Told", "training.overlays=0", *small)
        done = forked(*words, cwd=tmp_path / name, MINE=name)
        assert done.returncode == 0, done.stderr
        told.append((tmp_path / name / "told.txt").read_text().split())
    assert [words[0] for words in told] == ["one", "two"]
    assert all(first != second for first, second in zip(told[0][2:], told[1][2:], strict=True))


def test_one_that_nobody_waits_for_any_more_is_ended(tmp_path: Path, _standby: Standby) -> None:
    """A callback of its own tells which process it is and never ends."""
    write_phantom(tmp_path / "data", "prostate", cases=2, seed=3, size="small")
    (tmp_path / "endless.py").write_text("import os, time\nopen('process', 'w').write(str(os.getpid()) + '.')\ntime.sleep(600)")
    words = ["train", "dataset.root=data", "run_dir=run", "training.callback=endless.Nothing", "training.max_steps=1", "device=cpu"]
    caller = subprocess.Popen(
        [sys.executable, "-S", str(REPOSITORY / "tests/forked.py"), "call", str(_standby.place), *words], cwd=tmp_path
    )
    told = tmp_path / "process"
    for _ in range(1200):
        if told.exists() and told.read_text().endswith("."):
            break
        time.sleep(0.05)
    process = int(told.read_text().rstrip("."))
    assert psutil.pid_exists(process) and caller.poll() is None
    caller.kill()
    caller.wait()
    for _ in range(200):
        if not psutil.pid_exists(process):
            break
        time.sleep(0.05)
    assert not psutil.pid_exists(process)
