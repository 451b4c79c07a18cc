"""Several devices: each has a job of its own out of one list, each job is done once, and a device that is of no use costs none."""

from __future__ import annotations

import logging
import re
from collections import Counter
from pathlib import Path

import numpy as np
import psutil
import pytest

pytest.importorskip("fastapi")

from fastapi.testclient import TestClient

from segpipe.errors import ConfigError
from segpipe.geometry.grid import Volume
from segpipe.io.write import write_volume
from segpipe.server.app import build_app
from segpipe.server.devices import devices_of, gpu_count
from segpipe.server.settings import Computing, ServerSettings
from tests.bundle.conftest import write_model
from tests.inference.conftest import oblique_grid
from tests.server.conftest import Server, until
from tests.server.drill import Drill, is_right, scan_of

TWO = ("--device", "cpu")
"""A second one: the servers of the tests have one already."""
TWICE = ("cpu", "cpu")
SIDE = 150


@pytest.mark.parametrize(
    ("words", "gpus", "found"),
    [
        (["auto"], 0, ("auto",)),
        (["cpu", "cpu"], 4, ("cpu", "cpu")),
        (["cuda"], 3, ("cuda:0", "cuda:1", "cuda:2")),
        (["cuda:1", "cuda:0"], 2, ("cuda:1", "cuda:0")),
        (["cuda", "cpu"], 1, ("cuda:0", "cpu")),
    ],
)
def test_a_device_is_a_job_at_a_time(words: list[str], gpus: int, found: tuple[str, ...]) -> None:
    assert devices_of(words, lambda: gpus) == found


@pytest.mark.parametrize(
    ("words", "gpus", "line"),
    [
        (["gpu"], 1, "--device: is 'gpu'; must be auto, cpu, cuda (every GPU) or cuda:N"),
        (["cuda:"], 1, "--device: is 'cuda:'"),
        (["cuda:00"], 1, "--device: is 'cuda:00'"),
        (["cuda:\u0661"], 4, "--device: is 'cuda:\u0661'"),
        (["cpu,cpu"], 1, "--device: is 'cpu,cpu'"),
        (["cuda"], 0, "--device cuda: torch finds no NVIDIA GPU here: give cpu or auto"),
        (["cuda:2"], 2, "--device cuda:2: this machine has 2 GPU(s), counted from cuda:0"),
        (["cpu"] * 65, 0, "--device: is given 65 times; must be at most 64"),
    ],
)
def test_a_device_that_is_not_here_is_told_before_anything_is_served(words: list[str], gpus: int, line: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(line)}"):
        devices_of(words, lambda: gpus)


def test_gpus_are_counted_as_torch_counts_them() -> None:
    import torch

    assert gpu_count() == torch.cuda.device_count()


def test_two_devices_do_every_accepted_job_once_and_right_though_the_server_is_killed(tmp_path: Path) -> None:
    drill = Drill([write_model(tmp_path / "model.ts")], tmp_path, requests=24, clients=4, kills=1, options=TWO)
    try:
        count = drill.run()
        assert len(psutil.Process(drill.server.process.pid).children()) == 2
    finally:
        code = drill.server.stop()
    log = drill.server.log.read_text()
    assert code == 0, log
    assert not count.wrong
    assert len(set(count.accepted.values())) == 24
    assert set(count.kept) == {"done"}
    assert set(Counter(re.findall(r"job (\w+): done", log)).values()) == {1}
    assert "2 jobs at a time, on cpu, cpu" in log


def test_two_jobs_run_at_once_and_one_is_cancelled_alone(tmp_path: Path) -> None:
    shape = (SIDE, SIDE, SIDE)
    write_volume(tmp_path / "large.nii.gz", Volume(np.ones((1, *shape), np.uint8), oblique_grid(shape)))
    model = write_model(tmp_path / "model.ts")
    server = Server([model], tmp_path / "data", tmp_path / "log", *TWO)
    ids = [server.send(tmp_path / "large.nii.gz")["id"] for _ in range(3)]

    def states() -> list[str]:
        return [server.client.get(f"/v1/jobs/{id}").json()["state"] for id in ids]

    until(lambda: states() == ["running", "running", "queued"])
    server.client.delete(f"/v1/jobs/{ids[0]}")
    until(lambda: states() == ["cancelled", "running", "running"])  # its device takes the next one
    assert server.stop() == 0, server.log.read_text()
    server = Server([model], tmp_path / "data", tmp_path / "log", *TWO)
    try:
        until(lambda: states() == ["cancelled", "running", "running"])
        small = [server.client.post("/v1/jobs", files=[("files", (f"{n}.nii.gz", scan_of(n)))]).json()["id"] for n in range(4)]
        for id in ids[1:]:
            server.client.delete(f"/v1/jobs/{id}")
        assert all(is_right(number, server.result(server.ended(id)["id"])) for number, id in enumerate(small))
        assert states() == ["cancelled"] * 3
    finally:
        assert server.stop() == 0, server.log.read_text()


def test_a_device_that_cannot_be_used_costs_no_job(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    computing = Computing(devices=("cuda:99", "cpu"), threads=1)
    app = build_app(ServerSettings((write_model(tmp_path / "model.ts"),), tmp_path / "data", computing=computing))
    with caplog.at_level(logging.ERROR, "segpipe"), TestClient(app, base_url="http://127.0.0.1") as client:
        ids = [client.post("/v1/jobs", files=[("files", (f"{n}.nii.gz", scan_of(n)))]).json()["id"] for n in range(6)]
        until(lambda: {client.get(f"/v1/jobs/{id}").json()["state"] for id in ids} == {"done"})
        assert all(is_right(n, client.get(f"/v1/jobs/{id}/results/nifti").content) for n, id in enumerate(ids))
        until(lambda: "cuda:99: cannot be used" in caplog.text)
        assert client.get("/health").status_code == 200


def test_a_worker_that_is_killed_while_it_loads_first_costs_no_device(tmp_path: Path) -> None:
    """As by a system whose memory others fill for a moment."""
    before = set(psutil.Process().children())
    app = build_app(ServerSettings((write_model(tmp_path / "model.ts"),), tmp_path / "data", computing=Computing(devices=TWICE, threads=1)))
    with TestClient(app, base_url="http://127.0.0.1") as client:
        first = until(lambda: set(psutil.Process().children()) - before).pop()
        first.kill()
        until(lambda: first not in psutil.Process().children())
        ids = [client.post("/v1/jobs", files=[("files", (f"{n}.nii.gz", scan_of(n)))]).json()["id"] for n in range(12)]
        until(lambda: {client.get(f"/v1/jobs/{id}").json()["state"] for id in ids} == {"done"})
        assert len(app.state.service.workshop._places) == 2


def test_the_last_device_tells_each_job_what_is_wrong_with_it(tmp_path: Path) -> None:
    computing = Computing(devices=("cuda:98", "cuda:99"), threads=1)
    app = build_app(ServerSettings((write_model(tmp_path / "model.ts"),), tmp_path / "data", computing=computing))
    with TestClient(app, base_url="http://127.0.0.1") as client:
        ids = [client.post("/v1/jobs", files=[("files", (f"{n}.nii.gz", scan_of(n)))]).json()["id"] for n in range(2)]
        until(lambda: all(client.get(f"/v1/jobs/{id}").json()["ended"] for id in ids))
        found = [client.get(f"/v1/jobs/{id}").json() for id in ids]
        assert [job["state"] for job in found] == ["failed", "failed"]
        assert all("device is 'cuda:9" in job["error"] for job in found)
