"""The server's own words under `/v1`: models, jobs, results."""

from __future__ import annotations

import mimetypes
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from fastapi import Path as InPath
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse, JSONResponse
from pydantic import BaseModel

from segpipe.server import examples
from segpipe.server.channels import in_order
from segpipe.server.faults import missing, refused
from segpipe.server.image import image_of
from segpipe.server.service import Draft, Service
from segpipe.server.store import Job
from segpipe.server.told import job_to_json, summary_to_json
from segpipe.server.upload import Form, named_nifti, receive, receive_body

Id = Annotated[str, InPath(pattern="^[0-9a-f]{32}$", description="Of a job.")]
Name = Annotated[str, InPath(max_length=128, description="Of a model.")]
_ALONE = "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
"""Of a page's policy: what `default-src` says nothing of; a form of a card could ask for the token."""
_NIFTI = "application/gzip"
_DICOM = "application/dicom"
_ENDINGS = {"nifti": "nii.gz", "dicom-seg": "dcm", "rtstruct": "dcm", "sr": "dcm"}


class ErrorLine(BaseModel):
    """What went wrong: what is, what must be, what to do."""

    error: str


def faults(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Errors of an address, for its description."""
    return {status: {"model": ErrorLine, "description": examples.STATUS[status]} for status in (401, 403, 421, *statuses)}


def router(service: Service) -> APIRouter:
    """Every address under `/v1`."""
    routes = APIRouter(prefix="/v1")
    _add_models(routes, service)
    _add_jobs(routes, service)
    _add_results(routes, service)
    _add_corrections(routes, service)
    return routes


def _add_models(routes: APIRouter, service: Service) -> None:
    @routes.get("/models", tags=["models"], responses={200: examples.of({"models": [examples.MODEL]}), **faults()})
    def models() -> dict[str, Any]:
        """The models that are served."""
        return {"models": [served.to_json() for served in service.models()]}

    @routes.get("/models/{id}", tags=["models"], responses={200: examples.of(examples.MODEL), **faults(404, 422)})
    def model(id: Name) -> dict[str, Any]:
        """One model: what it takes, what it finds, what it knows."""
        return service.model(id).to_json()

    @routes.get(
        "/models/{id}/card", tags=["models"], response_class=Response, responses={200: {"content": {"text/html": {}}}, **faults(404, 422)}
    )
    def card(id: Name) -> Response:
        """The card of a package, a page that holds nothing of others and runs nothing."""
        place = service.model(id).card
        if place is None:
            raise missing(f"{id} has no card: it is served as a bare model file, not as a package")
        policy = {"Content-Security-Policy": f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; {_ALONE}"}
        return Response(place.read_bytes(), media_type="text/html; charset=utf-8", headers=policy)

    @routes.get(
        "/models/{id}/samples/{file}",
        tags=["models"],
        response_class=FileResponse,
        responses={200: {"content": {_NIFTI: {}, "image/png": {}}}, **faults(404, 422)},
    )
    def sample(id: Name, file: Annotated[str, InPath(max_length=128)]) -> FileResponse:
        """A scan that comes with a package."""
        found = {path.name: path for sample in service.model(id).samples for path in sample.files}
        if file not in found:
            raise missing(f"{id} has no such sample; must be one of: {', '.join(found) or 'none'}")
        return FileResponse(found[file], media_type=_media(found[file]))


def _add_jobs(routes: APIRouter, service: Service) -> None:
    @routes.post(
        "/jobs",
        status_code=202,
        tags=["jobs"],
        openapi_extra={"requestBody": examples.JOB_BODY},
        responses={202: examples.of(examples.JOB), **faults(400, 404, 408, 413, 422, 429, 503, 507)},
    )
    async def submit(request: Request) -> dict[str, Any]:
        """Take a scan. The answer comes when the job is on disk; what was answered so is done, whatever happens to the server."""
        with service.draft() as draft:
            form = await receive(request, draft.folder, service.settings.limits)
            job = await run_in_threadpool(_submitted, service, draft, form)
        return await run_in_threadpool(job_to_json, service, job)

    @routes.get("/jobs", tags=["jobs"], responses={200: examples.of({"jobs": [examples.JOB]}), **faults()})
    def jobs() -> dict[str, Any]:
        """The jobs that are kept, the newest first."""
        return {"jobs": [job_to_json(service, job) for job in service.jobs()]}

    @routes.get("/jobs/{id}", tags=["jobs"], responses={200: examples.of(examples.JOB), **faults(404, 422)})
    def job(id: Id) -> dict[str, Any]:
        """How far a job is, or what became of it."""
        return job_to_json(service, service.job(id))

    @routes.delete("/jobs/{id}", tags=["jobs"], responses={200: examples.of(examples.JOB), **faults(404, 422)})
    def cancel(id: Id, keep: bool = False) -> dict[str, Any]:
        """Cancel a job that waits or runs; remove one that has ended, with its files, or with `keep` leave it as it is."""
        before = service.job(id)
        left = service.cancel(id, keep)
        return {"removed": before.id} if left is None else job_to_json(service, left)


def _submitted(service: Service, draft: Draft, form: Form) -> Job:
    model, tta = service.model(form.fields.get("model", "")), form.flag("tta")
    sample = form.fields.get("sample", "")
    if sample and form.files:
        raise refused("sample: is given beside files; must be one of the two")
    if sample:
        return service.submit_sample(model, sample, tta)
    return service.submit(draft, model, in_order(form, model), tta)


def _add_results(routes: APIRouter, service: Service) -> None:
    @routes.get(
        "/jobs/{id}/results/{format}",
        tags=["results"],
        response_class=Response,
        responses={200: {"content": {_NIFTI: {}, _DICOM: {}, "application/json": {}}}, **faults(404, 409, 422)},
    )
    def result(id: Id, format: Annotated[str, InPath(max_length=32)]) -> Response:
        """`nifti`: the label map on the scan's grid; `json`: volumes; of a DICOM series also `dicom-seg`, `rtstruct`, `sr`."""
        if format == "json":
            service.result(id, "nifti")
            return JSONResponse(summary_to_json(service.job(id)))
        path = service.result(id, format)
        kind = _DICOM if path.suffix == ".dcm" else _NIFTI
        return FileResponse(path, media_type=kind, filename=f"{id}_{format}.{_ENDINGS[format]}")

    @routes.get(
        "/jobs/{id}/image",
        tags=["results"],
        response_class=FileResponse,
        responses={200: {"content": {_NIFTI: {}}}, **faults(404, 409, 422, 503)},
    )
    async def image(id: Id, channel: int = 0) -> FileResponse:
        """The scan, or one channel of it, as NIfTI for a viewer, on the grid of the label map."""
        path = await image_of(service, id, channel)
        packed = path.name.endswith(".gz")
        return FileResponse(path, media_type=_NIFTI if packed else "application/octet-stream", filename=f"{id}.nii{'.gz' * packed}")


def _add_corrections(routes: APIRouter, service: Service) -> None:
    body = {"required": True, "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}

    @routes.put(
        "/jobs/{id}/correction",
        tags=["results"],
        openapi_extra={"requestBody": body},
        responses={200: examples.of({"id": examples.JOB["id"], "corrected": True}), **faults(400, 404, 408, 409, 413, 422, 503, 507)},
    )
    async def correct(id: Id, request: Request) -> dict[str, Any]:
        """Keep a label map that somebody has corrected, with its scan, in the server's data set; the body is a NIfTI file."""
        with service.draft(job=False) as draft:
            path = draft.folder / "corrected"
            await receive_body(request, path, service.settings.limits)
            await service.turns.run(service.save_correction, id, named_nifti(path))
        return {"id": id, "corrected": True}

    @routes.get(
        "/jobs/{id}/correction",
        tags=["results"],
        response_class=FileResponse,
        responses={200: {"content": {_NIFTI: {}}}, **faults(404, 409, 422)},
    )
    def corrected(id: Id) -> FileResponse:
        """The corrected label map."""
        return FileResponse(service.correction(id), media_type=_NIFTI, filename=f"{id}_corrected.nii.gz")


def _media(path: Path) -> str:
    return _NIFTI if path.name.endswith(".gz") else mimetypes.guess_type(path.name)[0] or "application/octet-stream"
