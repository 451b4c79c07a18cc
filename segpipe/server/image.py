"""The scan of a job as NIfTI, for a viewer: as it was sent where it is NIfTI, else converted once it is known to be readable."""

from __future__ import annotations

import threading
from pathlib import Path

from fastapi.concurrency import run_in_threadpool

from segpipe.errors import SegpipeError
from segpipe.geometry.grid import Volume
from segpipe.io.find import NIFTI, split_name
from segpipe.io.nifti import count_channels
from segpipe.io.write import write_volume
from segpipe.server.faults import missing, not_now
from segpipe.server.scan import volume_of
from segpipe.server.service import Service
from segpipe.server.store import Job

_ONE = threading.Lock()
"""One conversion at a time: two requests for the same image do not make it twice."""


async def image_of(service: Service, id: str, channel: int) -> Path:
    """A file with one channel of a job's scan. What must be converted first waits for its turn, on no thread.

    Args:
        channel: its number in the model's order.

    Raises:
        RequestError: there is no such job or channel (404); the scan is not NIfTI, and the job is not done (409): only then is it known
            that it can be read; or too many are to be converted (503).
    """
    job = await run_in_threadpool(service.job, id)
    there = await run_in_threadpool(_there, service, job, channel)
    return there if there is not None else await service.turns.run(_made, service, job, channel)


def _there(service: Service, job: Job, channel: int) -> Path | None:
    """The file, if it needs no conversion, or was converted already."""
    files = service.scan(job)
    several = len(files) > 1
    if channel < 0 or (several and channel >= len(files)):
        raise missing(f"channel: there is no such one; must be 0 to {max(1, len(files)) - 1}")
    path = files[channel] if several else files[0]
    if split_name(path)[1] in NIFTI and (several or not channel) and _is_one(path):
        return path
    if job.state != "done":
        raise not_now(f"the image is converted once the job is done; it is {job.state}")
    place = _place(service, job, channel)
    return place if place.exists() else None


def _made(service: Service, job: Job, channel: int) -> Path:
    files, place = service.scan(job), _place(service, job, channel)
    several = len(files) > 1
    with _ONE:
        if not place.exists():
            volume = volume_of([files[channel if several else 0]], service.model(job.model), job.name)
            _convert(volume, 0 if several else channel, place)
    return place


def _place(service: Service, job: Job, channel: int) -> Path:
    return service.folder(job) / "result" / f"image_{channel:02d}.nii.gz"


def _is_one(path: Path) -> bool:
    try:
        return count_channels(path) == 1
    except (SegpipeError, OSError, EOFError):  # what cannot be read is given back as it is
        return True


def _convert(volume: Volume, channel: int, made: Path) -> None:
    if channel >= volume.channels:
        raise missing(f"channel: there is no such one; must be 0 to {volume.channels - 1}")
    write_volume(made, Volume(volume.array[channel : channel + 1], volume.grid))
