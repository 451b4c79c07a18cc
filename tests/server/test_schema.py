"""Whatever the description of the addresses allows: no answer is the server's own fault, and each is as described."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import hypothesis
import pytest

pytest.importorskip("fastapi")
pytest.importorskip("schemathesis")

import schemathesis
from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance

from segpipe.io.write import write_volume
from segpipe.server.app import build_app
from segpipe.server.service import Service
from segpipe.server.settings import Limits, ServerSettings
from segpipe.server.upload import Sent
from tests.bundle.conftest import write_model
from tests.inference.conftest import blocks_volume

EXAMPLES = 10
HERE = {"Host": "127.0.0.1"}
CHECKS = [schemathesis.checks.not_a_server_error, status_code_conformance, response_schema_conformance]
FOREIGN = ("/api/", "/infer/", "/session/", "/datastore/", "/activelearning/", "/train/", "/auth/", "/info/")
"""Protocols of other servers: the description does not list their refusals."""


def test_no_request_makes_the_server_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = ServerSettings((write_model(tmp_path / "model.ts"),), tmp_path / "data", corrections=tmp_path / "c", limits=Limits(queue=5))
    app = build_app(settings)
    service: Service = app.state.service
    end = service.close
    monkeypatch.setattr(service, "start", lambda: None)  # each request would load the model, and end the server
    monkeypatch.setattr(service, "close", lambda: None)
    statuses = dict[str, set[int]]()
    try:
        for found in schemathesis.openapi.from_asgi("/openapi.json", app, headers=HERE).get_all_operations():
            operation = found.ok()
            known = "test" if "/models/" in operation.path else done_job(service)
            statuses[operation.label] = asked(operation, "") | asked(operation, known)
    finally:
        end()
    assert len(statuses) >= 14, statuses
    assert statuses["GET /v1/models"] == {200}
    assert statuses["GET /v1/models/{id}"] >= {200, 404}
    assert statuses["GET /v1/jobs/{id}"] >= {200, 404}
    assert statuses["GET /v1/jobs/{id}/results/{format}"] >= {404}
    assert statuses["PUT /v1/jobs/{id}/correction"] >= {400, 404}
    assert statuses["POST /v1/jobs"] & {400, 404}


def done_job(service: Service) -> str:
    """A job as if a worker had done it."""
    with service.draft() as draft:
        path = draft.folder / "0000.nii.gz"
        write_volume(path, blocks_volume())
        job = service.submit(draft, service.model(), [Sent("files", "scan.nii.gz", path)])
    write_volume(service.folder(job) / "result" / "labels.nii.gz", blocks_volume())
    assert service.store.start(job.id)
    assert service.store.end(replace(job, state="done", results={"nifti": "result/labels.nii.gz"}))
    return job.id


def asked(operation: Any, id: str) -> set[int]:
    """The statuses of a few requests to one address; seeded.

    Args:
        id: to be asked for; empty: any.
    """
    statuses = set[int]()

    @hypothesis.given(operation.as_strategy())
    @hypothesis.settings(
        max_examples=EXAMPLES, derandomize=True, deadline=None, database=None, suppress_health_check=list(hypothesis.HealthCheck)
    )
    def ask(case: Any) -> None:
        if id and "id" in (case.path_parameters or {}):
            case.path_parameters["id"] = id
        answer = case.call(headers=HERE)
        statuses.add(answer.status_code)
        assert answer.status_code != 500, answer.text
        if not operation.path.startswith(FOREIGN):
            case.validate_response(answer, checks=CHECKS)

    ask()
    return statuses
