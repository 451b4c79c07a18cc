"""ModelHub's addresses under `/api`, answered as its own server does, so that its web pages and scripts can use a package.

With several models each address takes `?model=ID`. What ModelHub lacks stays lacking here: its answers know no progress and one model.
Label maps are NIfTI files on the scan's grid, not bare arrays in HDF5; addresses of files elsewhere are not fetched.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Request
from fastapi import Path as InPath
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse

from segpipe.bundle.layout import LICENCES, MODELHUB
from segpipe.bundle.pack import write_archive
from segpipe.geometry.grid import Grid
from segpipe.io.atomic import replacing
from segpipe.io.read import read_grid
from segpipe.server.faults import RequestError, missing, refused
from segpipe.server.models import NOT_FOR_DIAGNOSIS, Served
from segpipe.server.service import ARCHIVES, Draft, Service
from segpipe.server.store import Job
from segpipe.server.upload import Form, Sent, receive
from segpipe.server.waiting import done

_NIFTI = "application/gzip"
_FILE = "file"
File = Annotated[str, InPath(max_length=128)]
Output = Annotated[str, InPath(pattern=r"^[0-9a-f]{32}\.nii\.gz$")]


def router(service: Service) -> APIRouter:
    """Every address under `/api`."""
    routes = APIRouter(prefix="/api", tags=["ModelHub"])
    _add_told(routes, service)
    _add_files(routes, service)
    _add_predict(routes, service)
    return routes


def _add_told(routes: APIRouter, service: Service) -> None:
    @routes.get("/get_config")
    def get_config(model: str = "") -> dict[str, Any]:
        """The package's `config.json`."""
        return _config(service.model(model))

    @routes.get("/get_legal")
    def get_legal(model: str = "") -> dict[str, str]:
        """The licences, each with its text."""
        folder = _folder(service.model(model))
        texts = {what: (folder / name).read_text(encoding="utf-8") for what, name in LICENCES.items()}
        return {
            "modelhub_license": texts["code"],
            "modelhub_acknowledgements": NOT_FOR_DIAGNOSIS,
            "model_license": texts["weights"],
            "sample_data_license": texts["samples"],
        }

    @routes.get("/get_model_io")
    def get_model_io(model: str = "") -> dict[str, Any]:
        """What it takes, and what it gives."""
        io: dict[str, Any] = _config(service.model(model))["model"]["io"]
        return io

    @routes.get("/get_samples")
    def get_samples(request: Request, model: str = "") -> list[str]:
        """An address for each file of the samples."""
        return [f"{request.base_url}api/samples/{path.name}" for sample in service.model(model).samples for path in sample.files]


def _add_files(routes: APIRouter, service: Service) -> None:
    @routes.get("/samples/{file}", response_class=FileResponse)
    def sample(file: File, model: str = "") -> FileResponse:
        """A file of a sample."""
        found = {path.name: path for sample in service.model(model).samples for path in sample.files}
        if file not in found:
            raise missing(f"there is no such sample; must be one of: {', '.join(found) or 'none'}")
        return FileResponse(found[file], filename=file)

    @routes.get("/thumbnail/{file}")
    def thumbnail(file: File) -> None:
        """ModelHub's picture of a model, which packages do not hold."""
        raise missing("packages hold no picture: GET /api/get_samples lists the samples")

    @routes.get("/get_model_files", response_class=FileResponse)
    async def get_model_files(model: str = "") -> FileResponse:
        """The whole package as a zip archive, as `segpipe package` makes it."""
        served = service.model(model)
        place = await service.turns.run(_archive, service, served)
        return FileResponse(place, media_type="application/zip", filename=f"{served.id}-{served.version}.zip")

    @routes.get("/output/{file}", response_class=FileResponse)
    def output(file: Output) -> FileResponse:
        """A label map, as `prediction` of an answer names it."""
        return FileResponse(service.result(file.partition(".")[0], "nifti"), media_type=_NIFTI, filename=file)


def _archive(service: Service, served: Served) -> Path:
    folder = _folder(served)
    place = service.settings.data / ARCHIVES / f"{served.id}-{served.version}.zip"
    if not place.exists():
        with replacing(place) as temporary:
            write_archive(folder, temporary)
    return place


def _add_predict(routes: APIRouter, service: Service) -> None:
    @routes.get("/predict")
    def predict_address(fileurl: str = "") -> None:
        """Refused: a server that fetches what it is told to reaches what its caller cannot."""
        raise RequestError(403, "fileurl: this server fetches nothing from elsewhere; must be sent: curl -F file=@scan.nii.gz ADDRESS")

    @routes.post("/predict")
    async def predict(request: Request, model: str = "") -> dict[str, Any]:
        """Segment a scan: the field `file`; of several channels one field each, called as in `get_model_io`."""
        with service.draft() as draft:
            form = await receive(request, draft.folder, service.settings.limits)
            job = await run_in_threadpool(_submitted, service, draft, form, model)
        return await _answer(service, await done(service, job.id), request)

    @routes.get("/predict_sample")
    async def predict_sample(request: Request, filename: str, model: str = "") -> dict[str, Any]:
        """Segment a sample, named by one of its files."""
        job = await run_in_threadpool(_submitted_sample, service, filename, model)
        return await _answer(service, await done(service, job.id), request)


def _submitted(service: Service, draft: Draft, form: Form, model: str) -> Job:
    served = service.model(model)
    return service.submit(draft, served, in_order(form, served), form.flag("tta"))


def in_order(form: Form, served: Served) -> list[Sent]:
    """One file, or one a channel by the names of their fields, in the model's order.

    Raises:
        RequestError: the fields are not those of the model.
    """
    if len(form.files) == 1 and form.files[0].field in (_FILE, *(channel.lower() for channel in served.channels)):
        return form.files
    by_name = {sent.field.lower(): sent for sent in form.files}
    wanted = [channel.lower() for channel in served.channels]
    if len(by_name) < len(form.files) or set(by_name) != set(wanted):
        raise refused(f"the form must have the field file, or one file a channel in the fields {', '.join(wanted)}: see /api/get_model_io")
    return [by_name[name] for name in wanted]


def _submitted_sample(service: Service, filename: str, model: str) -> Job:
    served = service.model(model)
    name = next((sample.name for sample in served.samples if filename in {path.name for path in sample.files}), filename[:64])
    return service.submit_sample(served, name)


async def _answer(service: Service, job: Job, request: Request) -> dict[str, Any]:
    """As ModelHub's server answers; `prediction` is the address of the label map."""
    grid = await run_in_threadpool(_grid, service, job)
    labels = ", ".join(f"{one['value']} {one['name']}" for one in job.volumes)
    return {
        "output": [
            {
                "prediction": f"{request.base_url}api/output/{job.id}.nii.gz",
                "shape": list(grid.shape),
                "type": "mask_image",
                "name": "label map",
                "description": f"on the scan's own grid: {labels}. {NOT_FOR_DIAGNOSIS}",
            }
        ],
        "timestamp": datetime.now(UTC).isoformat(timespec="seconds"),
        "processing_time": round((job.ended or 0.0) - (job.started or 0.0), 3),
        "model": {"id": _id(service.model(job.model)), "name": job.model},
        "warnings": list(job.warnings),
    }


def _grid(service: Service, job: Job) -> Grid:
    return read_grid(service.result(job.id, "nifti"))


def _id(served: Served) -> str:
    return str(served.package["id"]) if served.package else served.sha256


def _config(served: Served) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((_folder(served) / MODELHUB).read_text(encoding="utf-8"))
    return config


def _folder(served: Served) -> Path:
    if served.folder is None:
        raise missing(f"{served.id} is served as a bare model file, which has none of this: serve the package that `segpipe package` makes")
    return served.folder
