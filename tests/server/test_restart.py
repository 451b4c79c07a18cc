"""A server that is killed, or told to end: what it has accepted is done, once, and is that of its own scan."""

from __future__ import annotations

import contextlib
import hashlib
import json
import sqlite3
from functools import partial
from pathlib import Path

import pytest

pytest.importorskip("fastapi")

from segpipe.errors import ConfigError
from segpipe.package.export import export_model
from segpipe.server.service import Service
from segpipe.server.settings import ServerSettings
from segpipe.server.store import Job
from segpipe.server.upload import Sent
from tests.bundle.conftest import PLAN, write_model
from tests.inference.conftest import Thresholds
from tests.server.conftest import Server, until
from tests.server.drill import Drill, is_right, scan_of


def test_every_accepted_job_is_delivered_once_and_right_though_the_server_is_killed(tmp_path: Path) -> None:
    drill = Drill([write_model(tmp_path / "model.ts")], tmp_path, requests=24, clients=4, kills=1)
    try:
        count = drill.run()
    finally:
        code = drill.server.stop()
    assert code == 0, drill.server.log.read_text()
    assert len(count.accepted) == 24
    assert len(set(count.accepted.values())) == 24
    assert not count.wrong
    assert set(count.kept) == {"done"}
    assert 24 <= len(count.kept) <= 24 + count.broken  # those whose answer was lost may have been taken
    folders = list((tmp_path / "data" / "jobs").iterdir())
    assert len(folders) == len(count.kept)
    assert not list((tmp_path / "data" / "incoming").iterdir())


def test_a_server_that_is_told_to_end_goes_on_later(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model.ts")
    first = Server([model], tmp_path / "data", tmp_path / "log")
    ids = [first.client.post("/v1/jobs", files=[("files", (f"{number}.nii.gz", scan_of(number)))]).json()["id"] for number in range(6)]
    assert first.stop() == 0
    second = Server([model], tmp_path / "data", tmp_path / "log")
    try:
        assert all(is_right(number, second.result(second.ended(id)["id"])) for number, id in enumerate(ids))
        third = Server.__new__(Server)
        with pytest.raises(AssertionError, match="another segpipe serve has it"):
            third.__init__([model], tmp_path / "data", tmp_path / "other")  # type: ignore[misc]
        gone = tmp_path / "data" / "jobs" / ids[0]
        assert second.client.delete(f"/v1/jobs/{ids[0]}").json() == {"removed": ids[0]}
        assert not gone.exists()
        assert second.client.get(f"/v1/jobs/{ids[0]}").status_code == 404
    finally:
        assert second.stop() == 0, second.log.read_text()


def test_a_correction_of_what_another_version_made_is_not_kept(tmp_path: Path) -> None:
    """By the same values it may mean other structures."""
    model = write_model(tmp_path / "model.ts")
    first = Server([model], tmp_path / "data", tmp_path / "log")
    id = first.ended(first.client.post("/v1/jobs", files=[("files", ("1.nii.gz", scan_of(1)))]).json()["id"])["id"]
    assert first.stop() == 0
    with contextlib.closing(sqlite3.connect(tmp_path / "data" / "jobs.sqlite")) as jobs, jobs:
        jobs.execute("UPDATE jobs SET version = 'of yesterday'")
    second = Server([model], tmp_path / "data", tmp_path / "log", "--corrections", str(tmp_path / "corrections"))
    try:
        labels = second.result(id)
        answer = second.client.put(f"/v1/jobs/{id}/correction", content=labels)
        assert (answer.status_code, "of yesterday, which is not served" in answer.json()["error"]) == (409, True)
        assert not (tmp_path / "corrections").exists()
        now = second.ended(second.client.post("/v1/jobs", files=[("files", ("1.nii.gz", scan_of(1)))]).json()["id"])["id"]
        assert second.client.put(f"/v1/jobs/{now}/correction", content=labels).status_code == 200
    finally:
        assert second.stop() == 0, second.log.read_text()


def test_a_job_that_waits_is_never_done_by_another_model_of_the_same_name(tmp_path: Path) -> None:
    """Whoever sent it looks at the label map of the model that was there then; a job that is done says which one that was."""
    model = write_model(tmp_path / "model.ts")
    first = Server([model], tmp_path / "data", tmp_path / "log")
    done = first.ended(first.client.post("/v1/jobs", files=[("files", ("1.nii.gz", scan_of(1)))]).json()["id"])
    assert first.stop() == 0
    hash = hashlib.sha256(model.read_bytes()).hexdigest()
    assert done["model_sha256"] == hash
    waiting = [waiting_job(model, tmp_path / "data") for _ in range(3)]
    with contextlib.closing(sqlite3.connect(tmp_path / "data" / "jobs.sqlite")) as jobs, jobs:
        jobs.execute("UPDATE jobs SET sha256 = ? WHERE id = ?", ("0" * 64, waiting[1]))
        jobs.execute("UPDATE jobs SET sha256 = '' WHERE id = ?", (waiting[2],))
    other = tmp_path / "other.ts"
    export_model(Thresholds(), PLAN, {"metrics": {"cases": 4}}, other)
    version = hashlib.sha256(other.read_bytes()).hexdigest()[:12]
    with contextlib.closing(sqlite3.connect(tmp_path / "data" / "jobs.sqlite")) as jobs, jobs:
        jobs.execute("UPDATE jobs SET version = ? WHERE id IN (?, ?)", (version, *waiting[1:]))  # as of a package, made anew
    second = Server([other], tmp_path / "data", tmp_path / "log")
    try:
        told = [second.ended(id) for id in waiting]
        assert [job["state"] for job in told] == ["failed"] * 3
        assert told[0]["error"] == f"the scan was sent for test {hash[:12]}, which is not served any more: send it again"
        assert f"the file that is served as that now is another one (SHA-256 {version}, not 000000000000)" in told[1]["error"]
        assert "it was not kept then which file" in told[2]["error"]
        assert [job["model_sha256"] for job in told] == [hash, "0" * 64, None]
        assert second.client.get(f"/v1/jobs/{done['id']}").json()["model_sha256"] == hash
        assert json.loads(second.result(done["id"], "json"))["model_sha256"] == hash
        assert is_right(1, second.result(done["id"]))
    finally:
        assert second.stop() == 0, second.log.read_text()


def waiting_job(model: Path, data: Path) -> str:
    """A job of a server that ended before it began with it."""
    service = Service(ServerSettings((model,), data))
    with contextlib.closing(service), service.draft() as draft:
        path = draft.folder / "0000.nii.gz"
        path.write_bytes(scan_of(2))
        return service.submit(draft, service.model(), [Sent("files", "scan.nii.gz", path)]).id


def test_a_list_of_an_older_server_is_taken_over(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model.ts")
    id = waiting_job(model, tmp_path / "data")
    with contextlib.closing(sqlite3.connect(tmp_path / "data" / "jobs.sqlite")) as jobs, jobs:
        jobs.execute("ALTER TABLE jobs DROP COLUMN sha256")
        jobs.execute("PRAGMA user_version = 1")
    for _ in range(2):
        with contextlib.closing(Service(ServerSettings((model,), tmp_path / "data"))) as service:
            assert (service.job(id).state, service.job(id).sha256) == ("queued", "")


def test_a_scan_that_cannot_be_put_into_the_list_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    service = Service(ServerSettings((write_model(tmp_path / "model.ts"),), tmp_path / "data"))
    try:
        monkeypatch.setattr(service.store, "add", partial(_refuse, "jobs.sqlite: disk I/O error"))
        with service.draft() as draft:
            path = draft.folder / "0000.nii.gz"
            path.write_bytes(scan_of(1))
            with pytest.raises(ConfigError, match="disk I/O error"):
                service.submit(draft, service.model(), [Sent("files", "scan.nii.gz", path)])
        assert not list((tmp_path / "data" / "jobs").iterdir())
        assert not list((tmp_path / "data" / "incoming").iterdir())
    finally:
        service.close()


def _refuse(why: str, job: Job) -> None:
    raise ConfigError(why)


def test_a_worker_that_dies_costs_nobody_a_job(tmp_path: Path) -> None:
    import psutil

    server = Server([write_model(tmp_path / "model.ts")], tmp_path / "data", tmp_path / "log")
    try:
        before = server.client.post("/v1/jobs", files=[("files", ("1.nii.gz", scan_of(1)))]).json()["id"]
        server.ended(before)
        [worker] = psutil.Process(server.process.pid).children()
        worker.kill()
        id = server.client.post("/v1/jobs", files=[("files", ("2.nii.gz", scan_of(2)))]).json()["id"]
        assert is_right(2, server.result(server.ended(id)["id"]))
        assert json.loads(server.result(id, "json"))["id"] == id
        until(lambda: psutil.Process(server.process.pid).children()[0].pid != worker.pid)
    finally:
        assert server.stop() == 0, server.log.read_text()
