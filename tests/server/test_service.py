"""Jobs that wait: the queue and its limits, cancelling, keeping, and a disk that is full; the work itself does not begin here."""

from __future__ import annotations

import errno
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")

from fastapi.testclient import TestClient

from segpipe.errors import ConfigError, DataError
from segpipe.io.write import write_volume
from segpipe.server import upload
from segpipe.server.app import build_app
from segpipe.server.service import Service
from segpipe.server.settings import Limits, ServerSettings
from segpipe.server.store import Job, Store
from tests.bundle.conftest import write_model
from tests.inference.conftest import blocks_volume

Make = Callable[..., tuple[TestClient, Service]]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("service")
    write_volume(folder / "scan.nii.gz", blocks_volume())
    return write_model(folder / "model.ts")


@pytest.fixture
def make(model: Path, tmp_path: Path) -> Iterator[Make]:
    services: list[Service] = []

    def made(**limits: Any) -> tuple[TestClient, Service]:
        app = build_app(ServerSettings((model,), tmp_path / "data", limits=Limits(**limits)))
        services.append(app.state.service)
        return TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False), app.state.service

    yield made
    for service in services:
        service.close()


@pytest.fixture
def send(model: Path) -> Callable[[TestClient], Any]:
    def sent(client: TestClient) -> Any:
        return client.post("/v1/jobs", files={"files": ("scan.nii.gz", (model.parent / "scan.nii.gz").read_bytes())})

    return sent


def test_jobs_wait_in_the_order_in_which_they_came(make: Make, send: Any) -> None:
    client, _ = make()
    ids = [send(client).json()["id"] for _ in range(3)]
    told = [client.get(f"/v1/jobs/{id}").json() for id in ids]
    assert [(job["state"], job["position"], job["stage"], job["progress"]) for job in told] == [
        ("queued", n, "waiting", 0) for n in (1, 2, 3)
    ]
    assert [job["id"] for job in client.get("/v1/jobs").json()["jobs"]] == ids[::-1]
    assert client.get("/health").json()["queue"] == 3
    assert client.get(f"/v1/jobs/{ids[0]}/results/nifti").status_code == 409
    cancelled = client.delete(f"/v1/jobs/{ids[0]}").json()
    assert (cancelled["state"], cancelled["position"]) == ("cancelled", None)
    assert client.get(f"/v1/jobs/{ids[2]}").json()["position"] == 2
    assert client.delete(f"/v1/jobs/{ids[0]}").json() == {"removed": ids[0]}
    assert client.delete(f"/v1/jobs/{ids[0]}").status_code == 404


def test_a_full_queue_says_so_and_takes_nothing(make: Make, send: Any) -> None:
    client, service = make(queue=2)
    assert [send(client).status_code for _ in range(3)] == [202, 202, 429]
    assert "2 jobs wait already, and 2 may (--max-queue)" in send(client).json()["error"]
    assert len(list((service.settings.data / "jobs").iterdir())) == 2
    assert not list((service.settings.data / "incoming").iterdir())


def test_a_full_disk_is_told_and_leaves_nothing(make: Make, send: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    client, service = make()
    real = shutil.disk_usage
    monkeypatch.setattr(upload.shutil, "disk_usage", lambda path: real(path)._replace(free=upload.FREE_BYTES - 1))
    answer = send(client)
    assert (answer.status_code, answer.json()["error"].split(":")[0]) == (507, "the server's disk is full")
    monkeypatch.setattr(upload.shutil, "disk_usage", real)

    def full(job: Job) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(service.store, "add", full)
    assert send(client).status_code == 507
    monkeypatch.undo()
    assert not list((service.settings.data / "incoming").iterdir())
    assert not list((service.settings.data / "jobs").iterdir())
    assert send(client).status_code == 202


def test_the_disk_that_fills_while_a_scan_comes_is_told(make: Make, send: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    client, service = make()

    class Full:
        def write(self, data: bytes) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        def close(self) -> None:
            """Nothing was written."""

    real = Path.open
    monkeypatch.setattr(Path, "open", lambda self, mode="r", *rest, **more: Full() if mode == "xb" else real(self, mode, *rest, **more))
    assert send(client).status_code == 507
    monkeypatch.undo()
    assert not list((service.settings.data / "incoming").iterdir())


def ended(store: Store, id: str, when: float) -> None:
    """As if a job had been done at a time."""
    store.add(Job(id, "test", "1", "scan", ("0000.nii.gz",), created=when))
    assert store.cancel(id)
    with store._file.using() as connection:
        connection.execute("UPDATE jobs SET ended = ? WHERE id = ?", (when, id))


def test_what_is_old_or_too_much_is_removed_and_what_waits_is_not(make: Make) -> None:
    _, service = make(jobs=3, keep_hours=1.0)
    now = time.time()
    for number, hours in enumerate((5.0, 2.0, 0.5, 0.4, 0.3, 0.2)):
        ended(service.store, f"{number:032x}", now - hours * 3600)
        (service.settings.data / "jobs" / f"{number:032x}").mkdir()
    service.store.add(Job("f" * 32, "test", "1", "scan", ("0000.nii.gz",), created=now - 9 * 3600))
    service.workshop.tidy_up()
    assert service.store.ids() == {"f" * 32, f"{4:032x}", f"{5:032x}"}
    assert {path.name for path in (service.settings.data / "jobs").iterdir()} == {f"{4:032x}", f"{5:032x}"}


def test_what_a_killed_server_left_half_done_is_swept(make: Make, send: Any, tmp_path: Path) -> None:
    client, service = make()
    id = send(client).json()["id"]
    service.store.start(id)
    other = send(client).json()["id"]
    service.store.start(other)
    service.store.unwanted(other)
    service.store._file.close()  # as a kill does
    for place in ("incoming/abc", "jobs/def", ".removed/ghi", "packages"):
        (tmp_path / "data" / place).mkdir(parents=True)
        (tmp_path / "data" / place / "0000.nii.gz").write_bytes(b"half")
    _, again = make()
    job = again.job(id)
    assert (job.state, job.tries, job.started) == ("queued", 1, None)
    assert again.job(other).state == "cancelled"
    assert sorted(path.name for path in (tmp_path / "data" / "jobs").iterdir()) == sorted((id, other))
    assert not list((tmp_path / "data" / "incoming").iterdir())
    assert not (tmp_path / "data" / "packages").exists()  # a package of the same version may have been made anew


def test_a_job_that_is_cancelled_and_then_given_back_is_not_done(make: Make, send: Any) -> None:
    """The server ends before its worker has let go of it, or its device cannot be used."""
    client, service = make()
    desk = service.workshop
    id, kept = (send(client).json()["id"] for _ in range(2))
    for one in (id, kept):
        assert desk.take().id == one
    assert client.delete(f"/v1/jobs/{id}").json()["state"] == "running"
    for one in (id, kept):
        desk.back(service.job(one))
    job = service.job(id)
    assert (job.state, job.tries, job.over, desk.is_cancelled(id)) == ("cancelled", 0, True, False)
    assert job.ended is not None
    assert desk.take().id == kept
    assert desk.take() is None


def test_a_job_that_is_given_back_while_it_is_cancelled_is_cancelled(make: Make, send: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    client, service = make()
    id = send(client).json()["id"]
    assert service.store.start(id)
    real = service.store.unwanted

    def unwanted(id: str) -> bool:
        service.workshop.back(service.job(id))
        return real(id)

    monkeypatch.setattr(service.store, "unwanted", unwanted)
    assert client.delete(f"/v1/jobs/{id}").json()["state"] == "cancelled"
    assert not service.workshop.is_cancelled(id)


def test_a_job_that_is_taken_while_it_is_cancelled_is_let_go_of(make: Make, send: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    client, service = make()
    id = send(client).json()["id"]
    real = service.store.cancel
    monkeypatch.setattr(service.store, "cancel", lambda id: service.store.start(id) and real(id))
    assert client.delete(f"/v1/jobs/{id}").json()["state"] == "running"
    assert service.workshop.is_cancelled(id)


def test_a_full_disk_does_not_end_the_work_when_old_jobs_are_to_go(
    make: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    _, service = make(keep_hours=1.0)
    ended(service.store, "a" * 32, time.time() - 9999)

    def full(id: str) -> bool:
        raise OSError(errno.ENOSPC, "the disk is full")

    monkeypatch.setattr(service.store, "remove", full)
    service.workshop.tidy_up()
    assert "old jobs cannot be removed (the disk is full): free some space" in caplog.text
    monkeypatch.undo()
    service.workshop.tidy_up()
    assert not service.store.ids()


def test_a_fault_of_the_list_of_jobs_is_no_fault_of_the_request_and_names_no_place(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    client, service = make()

    def broken(id: str) -> Job:
        raise ConfigError(f"{service.settings.data}/jobs.sqlite: the disk reports a fault")

    monkeypatch.setattr(service.store, "get", broken)
    answer = client.get(f"/v1/jobs/{'a' * 32}")
    assert (answer.status_code, answer.json()) == (
        500,
        {"error": "the server cannot use its own files: tell who runs it, its log says why"},
    )

    def unreadable(id: str) -> Job:
        raise DataError(f"{service.settings.data}/jobs/1/0000.zip: cannot be read: export it again")

    monkeypatch.setattr(service.store, "get", unreadable)
    answer = client.get(f"/v1/jobs/{'a' * 32}")
    assert (answer.status_code, answer.json()["error"]) == (400, "the server's folder/jobs/1/0000.zip: cannot be read: export it again")


def test_one_folder_is_one_servers(make: Make, tmp_path: Path, model: Path) -> None:
    make()
    with pytest.raises(ConfigError, match="another segpipe serve has it: choose another --data"):
        Service(ServerSettings((model,), tmp_path / "data"))


def test_two_models_of_one_name_are_refused(tmp_path: Path, model: Path) -> None:
    copy = shutil.copy(model, tmp_path / "other.ts")
    with pytest.raises(ConfigError, match="is called test, as .* is; one server serves one of a name"):
        Service(ServerSettings((model, Path(copy)), tmp_path / "data"))


def test_a_stopped_workshop_is_told_by_health_and_to_senders(make: Make, send: Any) -> None:
    client, service = make()
    service.workshop.fault = "the server has stopped to work: start it again"
    for answer in (client.get("/health"), send(client)):
        assert (answer.status_code, answer.json()) == (503, {"error": service.workshop.fault})


def test_errors_are_one_line_of_json(make: Make) -> None:
    client, service = make()
    for answer in (
        client.get("/nowhere"),
        client.post("/v1/models"),
        client.get("/v1/jobs/none"),
        client.get(f"/v1/jobs/{'0' * 32}"),
        client.get(f"/v1/jobs/{'0' * 32}/image?channel=x"),
        client.get("/v1/models/..%2f..%2fetc"),
        client.get("/v1/models/test/samples/..%2f..%2fetc%2fpasswd"),
    ):
        assert 400 <= answer.status_code < 500
        assert list(answer.json()) == ["error"]
        assert "\n" not in answer.json()["error"]

    def fail() -> None:
        raise RuntimeError("secret path")

    service.models = fail  # type: ignore[method-assign, assignment]
    answer = client.get("/v1/models")
    assert answer.status_code == 500
    assert answer.json()["error"].startswith("the server has a fault (RuntimeError)")
    assert "secret" not in answer.text


def test_what_is_of_patients_is_ours_alone(make: Make, send: Any, tmp_path: Path) -> None:
    client, _ = make()
    send(client)
    for path in [tmp_path / "data", *(tmp_path / "data").glob("*")]:
        assert path.stat().st_mode & 0o077 == 0, path


def test_a_picture_for_a_model_of_volumes_is_told_what_the_model_takes(make: Make) -> None:
    client, _ = make()
    answer = client.post("/v1/jobs", files={"files": ("retina.png", b"\x89PNG")})
    assert answer.status_code == 400
    assert answer.json()["error"].startswith("retina.png: is a picture; ")
    assert answer.json()["error"].endswith(" takes volumes: choose another model, or another scan")
