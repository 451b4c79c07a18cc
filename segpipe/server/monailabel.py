"""MONAI Label's addresses, so that its plugins for 3D Slicer and OHIF work with the models that are served.

A client puts a scan on the server (`/datastore/`, or `/session/` for one that it does not name), has it segmented (`/infer/MODEL`), and
sends back the label map that somebody has corrected, which goes into the data set of corrections. Training is a command, not an address.
"""

from __future__ import annotations

import hmac
import json
import os
import secrets
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, BinaryIO
from urllib.parse import parse_qs

from fastapi import APIRouter, Request, Response
from fastapi import Path as InPath
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse, StreamingResponse

from segpipe import __version__
from segpipe.server.channels import arranged, in_order, named
from segpipe.server.datastore import add_datastore, stats
from segpipe.server.faults import RequestError, missing, refused
from segpipe.server.images import Image, Images
from segpipe.server.label_file import NRRD, label_names, parsed, with_ending
from segpipe.server.models import NOT_FOR_DIAGNOSIS, Served
from segpipe.server.service import Draft, Service
from segpipe.server.store import Job
from segpipe.server.upload import ARCHIVE, Form, receive
from segpipe.server.waiting import done, submit_files

STRATEGIES = {"first": "The scan that has waited longest for a label map", "random": "Any scan without a label map"}
_OUTPUTS = ("", "all", "image", "json", "dicom_seg")
_MOST_OF_LOGIN = 4096
_PIECE_BYTES = 1 << 18
_TEXT_ENDS = 128
"""From here on a byte is not itself in UTF-8."""
Name = Annotated[str, InPath(max_length=128)]


def router(service: Service) -> APIRouter:
    """Every address of MONAI Label that its plugins use."""
    routes = APIRouter(tags=["MONAI Label"])
    images = Images(service.settings)
    _add_info(routes, service, images)
    _add_infer(routes, service, images)
    _add_sessions(routes, service, images)
    add_datastore(routes, service, images)
    _add_next(routes, service, images)
    _add_training(routes)
    _add_login(routes, service)
    return routes


def _add_info(routes: APIRouter, service: Service, images: Images) -> None:
    @routes.get("/info/")
    def info() -> dict[str, Any]:
        """What is served. Labels are those without the background, which no segment stands for."""
        models = service.models()
        names = [name for served in models for name in _labels(served)]
        return {
            "name": "segpipe",
            "description": f"Models of segpipe. {NOT_FOR_DIAGNOSIS}",
            "version": __version__,
            "labels": list(dict.fromkeys(names)),
            "models": {served.id: _told(served) for served in models},
            "trainers": {},
            "strategies": {name: {"description": text} for name, text in STRATEGIES.items()},
            "scoring": {},
            "train_stats": {},
            "datastore": stats(service, images),
        }


def _told(served: Served) -> dict[str, Any]:
    return {
        "type": "segmentation",
        "labels": _labels(served),
        "dimension": 2 if served.pictures else 3,
        "description": f"{served.description}{_wanted(served)}",
        "config": {},
    }


def _wanted(served: Served) -> str:
    """What a client must send of a scan with several channels; its protocol has no word for them."""
    if len(served.channels) == 1:
        return ""
    return f" Takes {', '.join(served.channels)}: one file with all of them in this order, one zip of DICOM, or a session of one file each."


def _labels(served: Served) -> dict[str, int]:
    return {str(label["name"]): int(label["value"]) for label in served.labels[1:]}


def _add_infer(routes: APIRouter, service: Service, images: Images) -> None:
    @routes.post("/infer/{model}", response_class=Response)
    async def infer(model: Name, request: Request, image: str = "", session_id: str = "", output: str = "") -> Response:
        """Segment a scan that was put here, that of a session, or the field `file`; answers when it is done.

        `output`: all (the default: parameters and label map as multipart), image, json, or dicom_seg (of DICOM series).
        """
        if output not in _OUTPUTS:
            raise refused("output: must be all, image, json or dicom_seg")
        with service.draft() as draft:
            form = await receive(request, draft.folder, service.settings.limits)
            params = parsed(form.fields.get("params", ""))
            job = await run_in_threadpool(_job, service, images, draft, form, (model, image, session_id))
        job = await done(service, job.id)
        return await service.turns.run(_answer, service, job, params, output)


def _job(service: Service, images: Images, draft: Draft, form: Form, asked: tuple[str, str, str]) -> Job:
    """The job that answers: one that was made of the same scan by the same model before, or a new one."""
    served, (_, id, session) = service.model(asked[0]), asked
    if any(sent.field == "label" for sent in form.files):
        raise refused(f"label: {served.id} takes a scan alone; scribbles and label maps to start from must be left out")
    if form.files:
        return service.submit(draft, served, in_order(form, served))
    if not id and not session:
        raise refused("image: is missing; must be the name of a scan that was put here, or the form must have the field file")
    return job_of(service, images, images.get(session or id, session=bool(session)), served)


def job_of(service: Service, images: Images, image: Image, served: Served) -> Job:
    """The job of an image that is here; a new one where none is, or it was of another model, or has failed."""
    if image.job:
        job = service.store.get(image.job)
        if job is not None and job.identity == served.identity and job.state in ("queued", "running", "done"):
            return job
    job = submit_files(service, served, arranged(images.scans(image), image.channels, served), image.title)
    images.note(image, job=job.id)
    return job


def _answer(service: Service, job: Job, params: dict[str, Any], output: str) -> Response:
    told = {
        "label_names": label_names(job.volumes),
        "centroids": {},
        "model": job.model,
        "job": job.id,
        "volumes": list(job.volumes),
        "warnings": list(job.warnings),
        "not_for_diagnosis": NOT_FOR_DIAGNOSIS,
    }
    if output == "json":
        return Response(json.dumps(told), media_type="application/json")
    if output == "dicom_seg":
        path = service.result(job.id, "dicom-seg")
        return FileResponse(path, media_type="application/dicom", filename=f"{job.id}.dcm")
    if output in ("", "all"):
        _check_bytes(job, params)
    with tempfile.TemporaryDirectory(prefix=".answer-", dir=service.folder(job)) as folder:
        path = with_ending(service.result(job.id, "nifti"), Path(folder), params, series=job.files[0].endswith(ARCHIVE))
        file, name = path.open("rb"), f"{job.id}{''.join(path.suffixes)}"  # can be read to its end when its name is gone
    if output == "image":
        return _sent(file, "application/octet-stream", headers={"Content-Disposition": f'attachment; filename="{name}"'})
    return _multipart(json.dumps(told), name, file)


def _check_bytes(job: Job, params: dict[str, Any]) -> None:
    """Refuse what older plugins of OHIF, which alone ask so, would show as another label: they read voxels as text in UTF-8."""
    if params.get("result_extension") != NRRD or params.get("result_compress", True):
        return
    high = [one for one in job.volumes if one["voxels"] and int(one["value"]) >= _TEXT_ENDS]
    if high:
        what = f"{high[0]['name']} has the value {high[0]['value']}, and clients that read uncompressed NRRD as text know those below 128"
        raise refused(f"{what}: ask with output=image, or output=dicom_seg")


def _multipart(params: str, name: str, file: BinaryIO) -> Response:
    """Two parts; their headers are spelt as OHIF's plugin looks for them."""
    boundary = secrets.token_hex(16)
    parts: Sequence[bytes] = (
        f"--{boundary}\r\n".encode(),
        b'Content-Disposition: form-data; name="params"\r\nContent-Type: application/json\r\n\r\n',
        params.encode(),
        f"\r\n--{boundary}\r\n".encode(),
        f'Content-Disposition: form-data; name="image"; filename="{name}"\r\n'.encode(),
        b"Content-Type: application/octet-stream\r\n\r\n",
    )
    return _sent(file, f"multipart/form-data; boundary={boundary}", b"".join(parts), f"\r\n--{boundary}--\r\n".encode())


def _sent(file: BinaryIO, kind: str, before: bytes = b"", after: bytes = b"", headers: Mapping[str, str] | None = None) -> Response:
    """A file as its client takes it, piece by piece: label maps of all those that take long would fill the memory."""
    size = len(before) + os.fstat(file.fileno()).st_size + len(after)
    return StreamingResponse(_pieces(file, before, after), media_type=kind, headers={"Content-Length": str(size), **(headers or {})})


def _pieces(file: BinaryIO, before: bytes, after: bytes) -> Iterator[bytes]:
    with file:
        yield before
        while piece := file.read(_PIECE_BYTES):
            yield piece
        yield after


def _add_sessions(routes: APIRouter, service: Service, images: Images) -> None:
    @routes.put("/session/")
    async def create(request: Request) -> dict[str, Any]:
        """Put a scan here for one client: the field `files`, one file, or one a channel, which the field `channels` may name."""
        with service.draft() as draft:
            form = await receive(request, draft.folder, service.settings.limits)
            if not form.files or len(form.files) > _most_channels(service):
                must = "must be one scan, one zip of a DICOM series, or one file a channel of a model"
                raise refused(f"files: has {len(form.files)}; {must}")
            image = await run_in_threadpool(images.add, form.files, "", named(form))
        return {"session_id": image.id, "session_info": _session(image)}

    @routes.get("/session/{id}")
    def session(id: Name, image: bool = False, channel: int = 0) -> Any:
        """Whether there is such a session; with `image`, its scan, or one file of it."""
        found = images.get(id, session=True)
        if not image:
            return _session(found)
        scans = images.scans(found)
        if not 0 <= channel < len(scans):
            raise missing(f"channel: there is no such file; must be 0 to {len(scans) - 1}")
        return _file(scans[channel], found.name if channel == 0 else f"{channel:04d}_{found.name}")

    @routes.delete("/session/{id}")
    def remove(id: Name) -> dict[str, Any]:
        """End a session, and remove its scan."""
        found = images.get(id, session=True)
        images.remove(found)
        return _session(found)


def _most_channels(service: Service) -> int:
    return max(len(served.channels) for served in service.models())


def _session(image: Image) -> dict[str, Any]:
    return {"name": image.id, "image": image.name, "creation_ts": int(image.created)}


def _file(path: Path, name: str) -> FileResponse:
    return FileResponse(path, media_type="application/octet-stream", filename=name)


def _add_next(routes: APIRouter, service: Service, images: Images) -> None:
    @routes.post("/activelearning/{strategy}")
    def next_sample(strategy: Name) -> dict[str, Any]:
        """A scan whose label map nobody has corrected yet; empty where there is none."""
        if strategy not in STRATEGIES:
            raise missing(f"there is no such strategy; must be one of {', '.join(STRATEGIES)}")
        waiting = [image for image in images.all() if not image.label]
        if not waiting:
            return {}
        image = secrets.choice(waiting) if strategy == "random" else waiting[0]
        return {"id": image.id, "name": image.download, "ts": int(image.created), "strategy": {strategy: {}}}


def _add_training(routes: APIRouter) -> None:
    @routes.get("/train/")
    def status() -> None:
        """No training runs here, ever."""
        raise missing("no training runs on this server")

    @routes.post("/train/")
    @routes.post("/train/{model}")
    def train(model: str = "") -> None:
        """Refused: a training is started where its data and its settings are."""
        raise RequestError(501, "this server does not train; the corrected label maps are a data set for: segpipe train dataset.root=DIR")

    @routes.delete("/train/")
    def stop() -> None:
        """There is nothing to stop."""
        raise missing("no training runs on this server")


def _add_login(routes: APIRouter, service: Service) -> None:
    token = service.settings.token

    @routes.get("/auth/")
    def enabled() -> dict[str, bool]:
        """Whether a token is needed."""
        return {"enabled": bool(token)}

    @routes.post("/auth/token")
    async def login(request: Request) -> dict[str, str]:
        """Plugins ask for a user and a password; the password is the server's token, users are all one."""
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > _MOST_OF_LOGIN:
                raise refused("the form is too long; must hold username and password")
        given = parse_qs(body.decode("latin-1")).get("password", [""])[0]
        if not token or not hmac.compare_digest(given.encode(), token.encode()):
            raise RequestError(401, "the password is wrong; must be the server's token")
        return {"access_token": token, "token_type": "bearer"}

    @routes.get("/auth/token/valid")
    def valid() -> dict[str, bool]:
        """Who gets here has shown the token."""
        return {"valid": True}
