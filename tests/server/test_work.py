"""Jobs in hand: progress, cancelling, time limits, a worker that dies over a scan."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest

pytest.importorskip("fastapi")

from segpipe.errors import DataError
from segpipe.geometry.grid import Volume
from segpipe.inference.messages import Message
from segpipe.io.write import write_volume
from segpipe.server import worker
from tests.bundle.conftest import write_model
from tests.inference.conftest import blocks_volume, oblique_grid
from tests.server.conftest import Server, until

SIDE = 150
"""Voxels along each axis of a scan that takes minutes in windows of eight."""


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scans")
    shape = (SIDE, SIDE, SIDE)
    write_volume(folder / "large.nii.gz", Volume(np.ones((1, *shape), np.uint8), oblique_grid(shape)))
    write_volume(folder / "small.nii.gz", blocks_volume())
    return folder


@pytest.fixture(scope="module")
def server(scans: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("work")
    server = Server([write_model(folder / "model.ts")], folder / "data", folder / "log", "--timeout", "12")
    yield server
    assert server.stop() == 0, server.log.read_text()


def workers(server: Server) -> list[int]:
    return [child.pid for child in psutil.Process(server.process.pid).children()]


def test_a_running_job_tells_its_windows_and_can_be_cancelled(server: Server, scans: Path) -> None:
    first = server.send(scans / "small.nii.gz")
    server.ended(first["id"])
    before = workers(server)
    id, behind = server.send(scans / "large.nii.gz")["id"], server.send(scans / "small.nii.gz")["id"]
    address = f"/v1/jobs/{id}"
    seen = until(lambda: job if (job := server.client.get(address).json())["progress"] > 0.1 else None)
    assert (seen["state"], seen["stage"], seen["position"]) == ("running", "network", None)
    assert seen["progress"] < 0.95
    assert server.client.get(f"/v1/jobs/{behind}").json()["position"] == 1
    answer = server.client.delete(address).json()
    assert answer["state"] in ("running", "cancelled")
    job = server.ended(id)
    assert (job["state"], job["error"], job["results"]) == ("cancelled", None, {})
    assert server.ended(behind)["state"] == "done"
    assert workers(server) == before  # it let go by itself, and kept its model
    assert server.client.delete(address).json() == {"removed": id}
    assert not (server.data / "jobs" / id).exists()


def test_a_job_that_takes_too_long_fails_and_the_next_one_is_done(server: Server, scans: Path) -> None:
    id, behind = server.send(scans / "large.nii.gz")["id"], server.send(scans / "small.nii.gz")["id"]
    job = server.ended(id)
    assert job["state"] == "failed"
    assert "was not done after 12 s" in job["error"]
    assert server.ended(behind)["state"] == "done"


def test_a_scan_that_workers_die_of_fails_alone(server: Server, scans: Path) -> None:
    id, behind = server.send(scans / "large.nii.gz")["id"], server.send(scans / "small.nii.gz")["id"]
    killed = set[int]()

    def kill() -> bool:
        if server.client.get(f"/v1/jobs/{id}").json()["stage"] == "network":
            for pid in workers(server):
                psutil.Process(pid).kill()
                killed.add(pid)
        return bool(server.client.get(f"/v1/jobs/{id}").json()["ended"])

    until(kill)
    job = server.ended(id)
    assert job["state"] == "failed"
    assert job["error"].startswith("large.nii.gz: the worker that segmented it was killed (SIGKILL)")
    assert job["error"].endswith("(the 2nd time)")
    assert len(killed) >= 2
    assert server.ended(behind)["state"] == "done"


@pytest.mark.parametrize("device", ["cpu", "cuda:0"])
def test_a_worker_whose_gpu_fails_at_everything_fails_no_more_jobs(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    def broken(where: torch.device) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered\nCompile with TORCH_USE_CUDA_DSA")

    def failing(job: Message) -> Message:
        raise DataError("unexpected RuntimeError: CUDA error")

    monkeypatch.setattr(torch.cuda, "synchronize", broken)
    outbox = io.BytesIO()
    bench = worker._Bench.__new__(worker._Bench)
    bench._talk = worker._Talk(outbox)
    bench._segmenters = {False: SimpleNamespace(predictor=SimpleNamespace(device=torch.device(device)))}
    monkeypatch.setattr(bench, "_done", failing)
    goes_on = bench.segment({"id": "a"})
    [told] = [json.loads(line) for line in outbox.getvalue().splitlines()]
    if device == "cpu":
        assert (goes_on, told) == (True, {"failed": ["a", "unexpected RuntimeError: CUDA error"]})
    else:
        fault = "cuda:0 reports a fault (CUDA error: an illegal memory access was encountered): the job is given to a new worker"
        assert (goes_on, told["log"][2]) == (False, fault)  # its end is what the server hears of the job
