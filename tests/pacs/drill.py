"""Many senders, one node that is killed again and again, one PACS: what must be there at the end, and what is."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil

from tests.dicom.series import Series
from tests.pacs.orthanc import Orthanc, free_port

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Drill:
    """Attributes:
    series: sent in all, by `senders` at once.
    kills: SIGKILL to the node, at random moments while series are sent or segmented.
    """

    series: int
    senders: int
    kills: int
    quiet: float = 1.5
    seed: int = 0
    limit: float = 600.0


@dataclass(frozen=True)
class Report:
    """Attributes:
    found: how often a result of each series lies in the PACS.
    seconds: from the first instance to the last result.
    log: what the node said.
    """

    found: Counter[str]
    seconds: float
    kills: list[float]
    left: list[str]
    log: str


def make(folder: Path, number: int) -> None:
    """A study with one small series, each with its own voxels."""
    voxels = np.random.default_rng(number).integers(0, 900, (8, 12, 10), dtype=np.uint16)
    study = {"StudyInstanceUID": f"1.2.3.88.{number}", "PatientID": f"P{number}", "FrameOfReferenceUID": f"1.2.3.89.{number}"}
    Series(seed=1000 + number, size=(12, 10), stored=voxels, more=study).write(folder)


class Node:
    """`segpipe listen` as a process of its own; started again by the drill, never by itself."""

    def __init__(self, model: Path, out: Path, to: str, port: int, quiet: float, log: Path, environment: dict[str, str]) -> None:
        self._words = [sys.executable, "-m", "segpipe", "listen", str(model), str(out), "--port", str(port), "--to", to]
        self._words += ["--quiet-seconds", str(quiet), "--threads", "1", "--device", "cpu"]
        self._log, self._environment = log, environment
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *more: str) -> None:
        with self._log.open("ab") as log:
            self.process = subprocess.Popen([*self._words, *more], stdout=log, stderr=log, env=self._environment)

    def kill(self) -> None:
        """SIGKILL to the command alone; what it leaves must end by itself."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def end(self) -> int:
        """SIGTERM; the exit code."""
        assert self.process is not None
        self.process.terminate()
        try:
            return self.process.wait(60)
        finally:
            for child in psutil.Process().children(recursive=True):
                if child.pid == self.process.pid:
                    child.kill()


def run(drill: Drill, model: Path, orthanc: Orthanc, folder: Path, environment: dict[str, str], to: str) -> Report:
    chance = random.Random(drill.seed)
    folders = [folder / "made" / f"{number:04d}" for number in range(drill.series)]
    for number, one in enumerate(folders):
        make(one, number)
    out, port, log = folder / "out", free_port(), folder / "node.log"
    node = Node(model, out, to, port, drill.quiet, log, environment)
    node.start()
    start = time.monotonic()
    shares = [folders[number :: drill.senders] for number in range(drill.senders)]
    words = [sys.executable, str(HERE / "sender.py"), str(port)]
    senders = [subprocess.Popen([*words, *map(str, share)], env=environment) for share in shares]
    kills = []
    try:
        for number in range(drill.kills):
            wait_for(orthanc, int(drill.series * (number + chance.uniform(0.3, 0.9)) / (drill.kills + 1)), drill.limit)
            time.sleep(chance.uniform(0.0, 0.5))
            node.kill()
            kills.append(time.monotonic() - start)
            node.start()
        codes = [sender.wait(drill.limit) for sender in senders]
        wait_for(orthanc, drill.series, drill.limit)
        seconds = time.monotonic() - start
        time.sleep(drill.quiet + 3)  # what came twice would come now
        code = node.end()
    finally:
        for process in (*senders, *filter(None, [node.process])):
            if process.poll() is None:
                process.kill()
                process.wait()
    said = log.read_text()
    assert (codes, code) == ([0] * drill.senders, 0), said[-3000:]
    found = Counter(tags["StudyInstanceUID"] for tags in orthanc.tags())
    left = [str(path.relative_to(out)) for name in (".incoming", ".taken", "aside") for path in (out / name).rglob("*") if path.is_file()]
    return Report(found, seconds, kills, left, said)


def send(port: int, *folders: Path) -> int:
    """Send them one after the other; 0 when all were taken."""
    words = [sys.executable, str(HERE / "sender.py"), str(port), *map(str, folders)]
    return subprocess.run(words, env=surroundings(), timeout=120).returncode


def wait_for(orthanc: Orthanc, results: int, limit: float) -> None:
    end = time.monotonic() + limit
    while orthanc.get("/statistics")["CountInstances"] < results:
        assert time.monotonic() < end, f"{orthanc.get('/statistics')['CountInstances']} of {results} results"
        time.sleep(0.03)


def surroundings() -> dict[str, str]:
    paths = os.pathsep.join([str(HERE.parent.parent), *filter(None, [os.environ.get("PYTHONPATH", "")])])
    clean = {key: value for key, value in os.environ.items() if not key.startswith("SEGPIPE_DICOMWEB")}
    return {**clean, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
