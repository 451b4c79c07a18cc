"""Many requests by many clients at once to a server that is killed meanwhile, and the count of what came of it."""

from __future__ import annotations

import contextlib
import gzip
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import nibabel as nib
import numpy as np
import psutil

from tests.inference.conftest import expected_labels, oblique_grid
from tests.server.conftest import Server, until

SHAPE = (13, 11, 9)
_AGAIN_SECONDS = 0.1


@dataclass
class Count:
    """What came of a drill.

    Attributes:
        accepted: id of the job of each request.
        broken: requests whose answer was lost, so that they were sent again.
        refused: requests that were told to come later.
        wrong: numbers of those whose label map is not theirs.
        kept: states of all jobs that the server knows in the end.
        server_mb, worker_mb: resident memory, now and then.
    """

    accepted: dict[int, str] = field(default_factory=dict)
    broken: int = 0
    refused: int = 0
    wrong: list[int] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    server_mb: list[float] = field(default_factory=list)
    worker_mb: list[float] = field(default_factory=list)
    seconds: float = 0.0


def array_of(number: int) -> Any:
    """A scan that no other one is like, (I, J, K)."""
    return np.random.default_rng(number).choice([0.0, 1.0, 2.0], SHAPE).astype(np.float32)


def scan_of(number: int) -> bytes:
    """The same as a file."""
    return gzip.compress(nib.Nifti1Image(array_of(number), oblique_grid(SHAPE).affine).to_bytes(), 1)


def is_right(number: int, data: bytes) -> bool:
    """Whether a label map is that of the scan, voxel by voxel and where it lies."""
    image = nib.Nifti1Image.from_bytes(gzip.decompress(data))
    here = np.allclose(image.affine, oblique_grid(SHAPE).affine, atol=1e-5)
    return here and np.array_equal(np.asarray(image.dataobj), expected_labels(array_of(number)[None]))


class Drill:
    """Args:
    models: of the server, each by thresholds.
    kills: how often it is killed.
    options: more of the server.
    """

    def __init__(self, models: list[Path], folder: Path, requests: int, clients: int, kills: int, options: Sequence[str] = ()) -> None:
        self._options = options
        self._models, self._folder, self._requests, self._clients, self._kills = models, folder, requests, clients, kills
        self.count = Count()
        self._left = list(range(requests))
        self._lock = threading.Lock()
        self.server = self._start()

    def _start(self, *options: str) -> Server:
        return Server(self._models, self._folder / "data", self._folder / "log", "--max-queue", "40", *self._options, *options)

    def run(self) -> Count:
        """Until every request that was accepted is over."""
        begin = time.monotonic()
        clients = [threading.Thread(target=self._send) for _ in range(self._clients)]
        for client in clients:
            client.start()
        for number in range(self._kills):
            until(lambda number=number: len(self.count.accepted) >= self._requests * (number + 1) // (self._kills + 1), 600)
            self.server.kill()
            self.server = self._start("--port", str(self.server.port))
        for client in clients:
            client.join()
        for number, id in self.count.accepted.items():
            job = self.server.ended(id)
            if job["state"] != "done" or not is_right(number, self.server.result(id)):
                self.count.wrong.append(number)
            if number % 10 == 0:
                self._weigh()
        until(lambda: not {"queued", "running"} & set(self._states()))
        self.count.kept = self._states()
        self.count.seconds = time.monotonic() - begin
        return self.count

    def _states(self) -> list[str]:
        return [job["state"] for job in self.server.client.get("/v1/jobs").json()["jobs"]]

    def _weigh(self) -> None:
        with contextlib.suppress(psutil.Error):  # it has just been killed
            process = psutil.Process(self.server.process.pid)
            own, workers = process.memory_info().rss, sum(child.memory_info().rss for child in process.children())
            self.count.server_mb.append(own / 2**20)
            self.count.worker_mb.append(workers / 2**20)

    def _send(self) -> None:
        with httpx.Client(timeout=30.0, trust_env=False) as client:
            while (number := self._next()) is not None:
                while not self._sent(client, number):
                    time.sleep(_AGAIN_SECONDS)

    def _next(self) -> int | None:
        with self._lock:
            return self._left.pop(0) if self._left else None

    def _sent(self, client: httpx.Client, number: int) -> bool:
        files = [("files", (f"scan{number}.nii.gz", scan_of(number)))]
        try:
            answer = client.post(f"http://127.0.0.1:{self.server.port}/v1/jobs", files=files)
        except httpx.TransportError:
            with self._lock:
                self.count.broken += 1
            return False
        with self._lock:
            if answer.status_code == 202:
                self.count.accepted[number] = answer.json()["id"]
                if number % 10 == 0:
                    self._weigh()
            else:
                assert answer.status_code == 429, answer.text
                self.count.refused += 1
        return answer.status_code == 202
