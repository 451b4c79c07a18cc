"""MONAI Label's `/datastore/`: scans that clients have put here, and the label maps that they have corrected."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse

from segpipe.server.corrections import label_path
from segpipe.server.faults import missing, not_now, refused
from segpipe.server.images import Image, Images
from segpipe.server.label_file import NIFTI, as_model, parsed
from segpipe.server.look import check_label
from segpipe.server.models import Served
from segpipe.server.service import Draft, Service
from segpipe.server.upload import Form, receive
from segpipe.server.waiting import done, submit_files

FINAL = "final"
"""The tag of corrected label maps; there is no other."""


def stats(service: Service, images: Images) -> dict[str, Any]:
    """How many scans are here, and how many have a corrected label map."""
    there = images.all()
    completed = sum(1 for image in there if label_of(service, image) is not None)
    return {"total": len(there), "completed": completed, "label_tags": {FINAL: completed}, "train": []}


def label_of(service: Service, image: Image) -> Path | None:
    """The corrected label map of an image, if there is one."""
    folder = service.settings.corrections
    path = label_path(folder, image.label) if folder is not None and image.label else None
    return path if path is not None and path.is_file() else None


def add_datastore(routes: APIRouter, service: Service, images: Images) -> None:
    """Its addresses."""
    _add_images(routes, service, images)
    _add_labels(routes, service, images)


def _add_images(routes: APIRouter, service: Service, images: Images) -> None:
    @routes.get("/datastore/")
    def listed(output: str = "stats") -> Any:
        """`stats`, `all` (every scan and label map by its name), or `train` (the pairs, as addresses)."""
        if output == "all":
            return {"name": "segpipe", "description": "", "objects": {image.id: _told(service, image) for image in images.all()}}
        if output not in ("stats", "train"):
            raise refused("output: must be stats, all or train")
        if output == "train":
            pairs = [image.id for image in images.all() if label_of(service, image) is not None]
            return [{"image": f"/datastore/image?image={id}", "label": f"/datastore/label?label={id}"} for id in pairs]
        return stats(service, images)

    @routes.put("/datastore/")
    async def put(request: Request, image: str = "") -> dict[str, str]:
        """Put a scan here, the field `file`, under the name `image` or that of its file; refused where another scan has that name."""
        with service.draft() as draft:
            form = await receive(request, draft.folder, service.settings.limits)
            if len(form.files) != 1:
                raise refused(
                    f"file: {len(form.files)} were sent; must be one scan, of several channels one file with all of them or one zip of "
                    "DICOM: of one file a channel make a session (PUT /session/)"
                )
            kept = await run_in_threadpool(images.add, form.files, image or form.files[0].name)
        return {"image": kept.id}

    @routes.delete("/datastore/")
    def remove(id: str, type: str = "image") -> dict[str, str]:
        """Remove a scan; corrected label maps stay in their data set."""
        if type != "image":
            raise not_now("corrected label maps are not removed from here: they lie in the folder of --corrections")
        images.remove(images.get(id))
        return {}

    @routes.get("/datastore/image", response_class=FileResponse)
    def image_file(image: str) -> FileResponse:
        """A scan, as it was sent."""
        found = images.get(image)
        return FileResponse(images.scans(found)[0], media_type="application/octet-stream", filename=found.download)

    @routes.get("/datastore/image/info")
    async def image_info(image: str) -> dict[str, Any]:
        """What is known of a scan, with the checksum of its file."""
        found = await run_in_threadpool(images.get, image)
        digest = await service.turns.run(_digest, images.scans(found)[0])
        return {"id": found.id, "name": found.download, "ts": int(found.created), "checksum": f"SHA256:{digest}"}


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _told(service: Service, image: Image) -> dict[str, Any]:
    label = label_of(service, image)
    labels = {FINAL: {"ext": NIFTI, "info": {"name": label.name}}} if label is not None else {}
    return {"image": {"ext": image.ending, "info": {"name": image.name, "ts": int(image.created)}}, "labels": labels}


def _add_labels(routes: APIRouter, service: Service, images: Images) -> None:
    @routes.put("/datastore/label")
    async def save(request: Request, image: str, tag: str = FINAL) -> dict[str, str]:
        """Keep the corrected label map of a scan, the field `label`, in the data set of corrections.

        The field `params` may name its segments, `{"label_info": [{"name": "organ", "idx": 1}]}`, as 3D Slicer does.
        """
        if tag not in ("", FINAL):
            raise refused(f"tag: must be {FINAL}: corrected label maps are what the data set is made of")
        found = images.get(image)
        with service.draft() as draft:
            form = await receive(request, draft.folder, service.settings.limits)
            id = await run_in_threadpool(_job_for, service, images, found)
            await done(service, id)
            case = await service.turns.run(_save, service, draft, form, id)
        await run_in_threadpool(images.note, found, id, case)
        return {"image": found.id, "label": case}

    @routes.get("/datastore/label", response_class=FileResponse)
    def label_file(label: str, tag: str = FINAL) -> FileResponse:
        """The corrected label map of a scan, by the name of the scan."""
        found = images.get(label)
        path = label_of(service, found) if tag in ("", FINAL) else None
        if path is None:
            raise missing(f"the scan has no label map of this tag; there are those of the tag {FINAL} that somebody has corrected")
        return FileResponse(path, media_type="application/gzip", filename=f"{found.id}{NIFTI}")


def _job_for(service: Service, images: Images, image: Image) -> str:
    """The job on whose label map a correction is founded; of a scan that was drawn by hand alone one is made, which proves its grid."""
    if service.settings.corrections is None:
        raise not_now("this server keeps no corrections; it must be started with --corrections DIR")
    if image.job and service.store.get(image.job) is not None:
        return image.job
    served: Served = service.model()
    job = submit_files(service, served, images.scans(image), image.title)
    images.note(image, job=job.id)
    return job.id


def _save(service: Service, draft: Draft, form: Form, id: str) -> str:
    if [sent.field for sent in form.files] != ["label"]:
        raise refused("label: is missing; must be one label map, NIfTI or NRRD")
    check_label(form.files[0])
    params = parsed(form.fields.get("params", ""))
    model = service.maker(service.job(id))
    path = as_model(form.files[0].path, service.result(id, "nifti"), params, model)
    return service.save_correction(id, path)
