"""For callers who wait in one request for what became of a job, as the clients of ModelHub and of MONAI Label do."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Sequence
from pathlib import Path

from fastapi.concurrency import run_in_threadpool

from segpipe.server.faults import not_now, refused
from segpipe.server.models import Served
from segpipe.server.service import Service
from segpipe.server.store import Job
from segpipe.server.upload import Sent

_LOOK_SECONDS = 0.2


async def done(service: Service, id: str) -> Job:
    """The job once it is done. No thread is held up meanwhile, so that others are served.

    Raises:
        RequestError: it has failed (400), was cancelled (409), or was removed (404).
    """
    while not (job := await run_in_threadpool(service.job, id)).over:
        await asyncio.sleep(_LOOK_SECONDS)
    if job.state == "failed":
        raise refused(f"the scan cannot be segmented: {job.error}")
    if job.state != "done":
        raise not_now("the job was cancelled: send the scan again")
    return job


def submit_files(service: Service, model: Served, files: Sequence[Path], name: str) -> Job:
    """Take a scan whose files lie on this machine already; they stay.

    Args:
        files: one a channel, or one with all.
        name: for people.

    Raises:
        RequestError: see `Service.submit`.
    """
    with service.draft() as draft:
        sent = []
        for number, path in enumerate(files):
            target = draft.folder / f"{number:04d}{''.join(path.suffixes)}"
            shutil.copyfile(path, target)
            sent.append(Sent("file", name, target))
        return service.submit(draft, model, sent, name=name)
