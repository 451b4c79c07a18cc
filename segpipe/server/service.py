"""What a server does, whatever the words are in which it is asked: takes scans, has them segmented one after the other, gives results.

    DATA/jobs.sqlite            every job
    DATA/incoming/<id>/         a request that is coming; nothing of it counts
    DATA/jobs/<id>/0000.nii.gz  the scan of a job, once it is taken
    DATA/jobs/<id>/result/      its label map, and what was made of it
    DATA/packages/              archives of the models, made when somebody asks; anew after each start

A job is taken when its files and its line in the list are on disk, and only then its sender is told so.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from segpipe.errors import SegpipeError
from segpipe.io.atomic import check_folder, flush_folder
from segpipe.server.corrections import case_of, keep, label_path
from segpipe.server.desk import Progress
from segpipe.server.faults import RequestError, broken, is_no_room, missing, no_room, not_now, refused
from segpipe.server.look import check_files
from segpipe.server.models import Sample, Served, change_of, read_models
from segpipe.server.scan import volume_of
from segpipe.server.settings import ServerSettings
from segpipe.server.store import Job, Store
from segpipe.server.turns import Turns
from segpipe.server.upload import ARCHIVE, Sent
from segpipe.server.work import Workshop

log = logging.getLogger(__name__)

INCOMING, KEPT, TRASH, ARCHIVES = "incoming", "jobs", ".removed", "packages"
_OURS = 0o700
_MOST_LISTED = 1000
_TURNS = (2, 64)
"""Scans in the memory of the server at once, and requests that may wait for that."""


@dataclass(frozen=True)
class Draft:
    """A request whose files are coming.

    Attributes:
        folder: of its own, for its files.
    """

    id: str
    folder: Path


class Service:
    """Threads and requests share it.

    Attributes:
        turns: for what takes the memory of a scan.

    Raises:
        ModelError, ConfigError: see `read_models`, `Store`; the folder cannot be written.
    """

    def __init__(self, settings: ServerSettings) -> None:
        self.settings = settings
        self._models = read_models(settings.models)
        data = settings.data
        check_folder(data)
        data.mkdir(_OURS, parents=True, exist_ok=True)
        for name in (INCOMING, KEPT):
            (data / name).mkdir(_OURS, parents=True, exist_ok=True)
            (data / name).chmod(_OURS)
        self.store = Store(data)
        self._tidy_up()
        self._taking = threading.Lock()
        self.turns = Turns(*_TURNS)
        self.workshop = Workshop(settings, self._models, self.store, data / KEPT)

    def start(self) -> None:
        """Begin to work on what waits."""
        self.workshop.start()

    def close(self) -> None:
        """End; what is in hand waits for the next start."""
        self.workshop.close()
        self.store.close()

    def _tidy_up(self) -> None:
        """What a server before has left: requests that were coming, folders without a job, archives of packages that have changed since."""
        data = self.settings.data
        known = self.store.ids()
        for name in (TRASH, ARCHIVES):
            shutil.rmtree(data / name, ignore_errors=True)
        left = [*(data / INCOMING).iterdir(), *(path for path in (data / KEPT).iterdir() if path.name not in known)]
        for path in left:
            shutil.rmtree(path, ignore_errors=True)

    # ---- models

    def models(self) -> list[Served]:
        """In the order in which they were given."""
        return list(self._models.values())

    def model(self, id: str = "") -> Served:
        """A model by its id; without one, the only one.

        Raises:
            RequestError: there is none of that id (404), or several and none is named (400).
        """
        if not id and len(self._models) == 1:
            return next(iter(self._models.values()))
        names = ", ".join(self._models)
        if not id:
            raise refused(f"model: is missing; must be one of {names}")
        if id not in self._models:
            raise missing(f"there is no such model; must be one of {names}")
        return self._models[id]

    def maker(self, job: Job) -> Served:
        """The model that made a job.

        Raises:
            RequestError: it is not served any more (409); one of another version may mean other structures by the same values.
        """
        found = self._models.get(job.model)
        if found is None or found.identity != job.identity:
            raise not_now(f"the job was made by {job.model} {job.version}, {change_of(found, job)}: send the scan again")
        return found

    # ---- taking scans

    @contextlib.contextmanager
    def draft(self, job: bool = True) -> Iterator[Draft]:
        """A folder for the files of one request, of which nothing is left afterwards unless `submit` has taken it.

        Args:
            job: whether it is to be one, for which there must be room among those that wait.

        Raises:
            RequestError: too many jobs wait (429), nobody works any more (503), or the disk is full (507).
        """
        if job:
            self._check_queue()
        id = uuid.uuid4().hex
        folder = self.settings.data / INCOMING / id
        try:
            folder.mkdir(_OURS)
        except OSError as error:
            raise no_room() if is_no_room(error) else error from error
        try:
            yield Draft(id, folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def submit(self, draft: Draft, model: Served, files: list[Sent], tta: bool = False, name: str = "") -> Job:
        """Take the scan in `draft` for `model`; when this returns, the job is on disk, whatever happens next. Waits for the disk.

        Args:
            files: one a channel in the model's order, or one with all channels, or one zip archive of DICOM; all in `draft.folder`.
            name: for people; empty: that of the first file.

        Raises:
            RequestError: not what the model takes (400), too many jobs wait (429), or the disk is full (507).
        """
        check_files(files, model, self.settings.limits)
        names = tuple(sent.path.name for sent in files)
        job = Job(draft.id, model.id, model.version, name or files[0].name, names, tta, sha256=model.sha256)
        place = self.settings.data / KEPT / job.id
        try:
            for sent in files:
                _flush(sent.path)
            flush_folder(draft.folder)
            with self._taking:
                self._check_queue()
                draft.folder.rename(place)
                flush_folder(place.parent)
                self.store.add(job)
        except OSError as error:
            shutil.rmtree(place, ignore_errors=True)
            raise no_room() if is_no_room(error) else error from error
        except SegpipeError:  # the list cannot be written: a scan that its sender believes refused is not kept
            shutil.rmtree(place, ignore_errors=True)
            raise
        self.workshop.wake()
        return job

    def submit_sample(self, model: Served, name: str, tta: bool = False) -> Job:
        """Take a sample of a package as if it had been sent.

        Raises:
            RequestError: there is no such sample (404), or as `submit`.
        """
        sample = self.sample(model, name)
        with self.draft() as draft:
            files = []
            for number, path in enumerate(sample.files):
                target = draft.folder / f"{number:04d}{''.join(path.suffixes)}"
                shutil.copyfile(path, target)
                files.append(Sent("sample", path.name, target))
            return self.submit(draft, model, files, tta, sample.name)

    def sample(self, model: Served, name: str) -> Sample:
        """A sample of a package.

        Raises:
            RequestError: there is none of that name (404).
        """
        found = next((sample for sample in model.samples if sample.name == name), None)
        if found is None:
            known = ", ".join(sample.name for sample in model.samples) or "none"
            raise missing(f"{model.id} has no such sample; must be one of: {known}")
        return found

    def _check_queue(self) -> None:
        if self.workshop.fault:
            raise broken(self.workshop.fault)
        waiting, most = self.store.counts()["queued"], self.settings.limits.queue
        if waiting >= most:
            raise RequestError(429, f"{waiting} jobs wait already, and {most} may (--max-queue): send the scan again later")

    # ---- jobs

    def job(self, id: str) -> Job:
        """Raises:
        RequestError: there is none, or none any more (404).
        """
        found = self.store.get(id)
        if found is None:
            raise missing("there is no such job; it may have been removed: GET /v1/jobs lists those that there are")
        return found

    def jobs(self) -> list[Job]:
        """The newest first."""
        return self.store.newest(_MOST_LISTED)

    def progress(self, job: Job) -> Progress:
        """How far a job is, from what its worker says."""
        return self.workshop.progress(job)

    def position(self, job: Job) -> int:
        """Of a job that waits: 1 is the next; else 0."""
        return self.store.position(job.id)

    def cancel(self, id: str, keep: bool = False) -> Job | None:
        """Do without a job that waits or runs; remove one that has ended, with its files: None then.

        Args:
            keep: leave one that has ended, for somebody who took it for running.

        Raises:
            RequestError: see `job`.
        """
        job = self.job(id)
        if job.over and keep:
            return job
        if job.over:
            self._remove(id)
            return None
        self.workshop.cancel(id)
        return self.job(id)

    def _remove(self, id: str) -> None:
        self.workshop.remove(id)

    # ---- results

    def folder(self, job: Job) -> Path:
        """Where the files of a job lie."""
        return self.settings.data / KEPT / job.id

    def scan(self, job: Job) -> list[Path]:
        """The files of its scan, as they were sent."""
        return [self.folder(job) / name for name in job.files]

    def result(self, id: str, format: str) -> Path:
        """A file that was made of a job: nifti, dicom-seg, rtstruct or sr.

        Raises:
            RequestError: it has not ended well (409), or has no such result (404).
        """
        job = self.job(id)
        if job.state != "done":
            why = job.error or f"it is {job.state}"
            raise not_now(f"the job has no results: {why}")
        if format not in job.results:
            of_series = "" if job.files[0].endswith(ARCHIVE) else "; DICOM results are made of DICOM series alone"
            raise missing(f"the job has no such result; must be one of json, {', '.join(job.results)}{of_series}")
        path = self.folder(job) / job.results[format]
        if not path.is_file():
            raise missing("the file of this result is gone: somebody has removed it; send the scan again")
        return path

    def save_correction(self, id: str, path: Path) -> str:
        """Keep what somebody has made of a job's label map, with the scan, in the data set of corrections; the name of the case there.

        Args:
            path: a NIfTI file.

        Raises:
            RequestError: see `corrections.keep`, `maker`; no folder was given, or the job is not done (409).
        """
        predicted, job = self.result(id, "nifti"), self.job(id)
        model = self.maker(job)
        case = keep(self._corrections(), job, model, volume_of(self.scan(job), model, job.name), predicted, path)
        log.info("job %s: its label map was corrected", id)
        return case

    def correction(self, id: str) -> Path:
        """The corrected label map of a job.

        Raises:
            RequestError: there is none (404), or no folder was given (409).
        """
        folder = self._corrections()
        path = label_path(folder, case_of(folder, self.job(id)))
        if not path.is_file():
            raise missing("the label map of this job was not corrected")
        return path

    def _corrections(self) -> Path:
        if self.settings.corrections is None:
            raise not_now("this server keeps no corrections; it must be started with --corrections DIR")
        return self.settings.corrections


def _flush(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())
