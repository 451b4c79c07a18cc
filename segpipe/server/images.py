"""Scans that clients of MONAI Label have put on the server: by a name of theirs, or for a session; each is kept as long as a job is.

DATA/images/<hash>/0000.nii.gz   the scan, as it was sent; of a session also 0001.nii.gz and so on
DATA/images/<hash>/about.json    its name, and the last jobs that were made of it
"""

from __future__ import annotations

import filecmp
import hashlib
import json
import shutil
import threading
import time
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from segpipe.io.alive import new_token
from segpipe.io.atomic import sweep, write_text
from segpipe.server.faults import missing, not_now, refused
from segpipe.server.settings import ServerSettings
from segpipe.server.upload import Sent, cleaned

_FOLDER, _ABOUT = "images", "about.json"
_LONGEST = 200
_HOUR = 3600.0


@dataclass(frozen=True)
class Image:
    """Attributes:
    id: as its client calls it; of a session its number.
    file: name of the scan in its folder.
    name: of the file as it was sent, for people.
    session: it is of a session, and in no list.
    created: seconds since 1970.
    job: the last one that segmented it; empty: none.
    label: the case in the data set of corrections; empty: its label map was not corrected.
    more: names of further files, where a session has one a channel.
    channels: which channel each file is; empty: they are in the model's order, or one holds all.
    """

    id: str
    file: str
    name: str
    session: bool
    created: float
    job: str = ""
    label: str = ""
    more: Sequence[str] = ()
    channels: Sequence[str] = ()

    @property
    def ending(self) -> str:
        """Of its file, with the dot."""
        return "".join(Path(self.file).suffixes)

    @property
    def title(self) -> str:
        """For people: as its client calls it, of a session the name of its file, which Slicer makes up otherwise."""
        return self.name if self.session else self.download

    @property
    def download(self) -> str:
        """What its file may be called where somebody saves it: no folders."""
        return cleaned(f"{self.id}{self.ending}")


class Images:
    """Those of one server; requests share it."""

    def __init__(self, settings: ServerSettings) -> None:
        self._root = settings.data / _FOLDER
        self._limits = settings.limits
        self._lock = threading.Lock()

    def add(self, files: Sequence[Sent], id: str = "", channels: Sequence[str] = ()) -> Image:
        """Keep a scan that was sent. One that is here already stays; a name means one scan, or a client that put one patient's here would
        get the label map of another, who was given the same name meanwhile.

        Args:
            files: in a folder of their own, from which they are moved; several of a session alone.
            id: empty: of a new session.
            channels: of the files, see `Image`.

        Raises:
            RequestError: a name that cannot be one (400), another scan has it, or too many are kept (409).
        """
        if id and (len(id) > _LONGEST or not id.isprintable()):
            raise refused(f"image: must be a name of at most {_LONGEST} printable characters")
        first, *more = files
        others = [sent.path.name for sent in more]
        image = Image(id or uuid.uuid4().hex, first.path.name, first.name, not id, time.time(), more=others, channels=list(channels))
        with self._lock:
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._expire()
            there = self._read(self._place(image.id))
            if there is not None:
                if filecmp.cmp(first.path, self.scans(there)[0], shallow=False):
                    return there
                raise not_now("image: another scan has this name here; give this one another name, or remove that one first")
            place, new = self._place(image.id), self._root / f".{new_token()}"
            if len(self.all(sessions=True)) >= self._limits.jobs:
                raise not_now(f"the server keeps {self._limits.jobs} images already, the most that it may (--max-jobs): remove some")
            new.mkdir(mode=0o700)
            for sent in files:
                sent.path.rename(new / sent.path.name)
            write_text(new / _ABOUT, json.dumps(asdict(image)))
            shutil.rmtree(place, ignore_errors=True)
            new.rename(place)
        return image

    def get(self, id: str, session: bool = False) -> Image:
        """Raises:
        RequestError: there is none of that name, or none any more (404).
        """
        found = self._read(self._place(id))
        if found is None or found.session != session:
            what = "session" if session else "image"
            raise missing(f"there is no such {what}; it may have been removed: put the scan on the server again")
        return found

    def all(self, sessions: bool = False) -> list[Image]:
        """In the order in which they came.

        Args:
            sessions: also those of sessions.
        """
        if not self._root.is_dir():
            return []
        found = [self._read(place) for place in self._root.iterdir() if not place.name.startswith(".")]
        kept = [image for image in found if image is not None and (sessions or not image.session)]
        return sorted(kept, key=lambda image: (image.created, image.id))

    def scans(self, image: Image) -> list[Path]:
        """Its file, or those of a session, in the order in which they were sent."""
        return [self._place(image.id) / name for name in (image.file, *image.more)]

    def note(self, image: Image, job: str = "", label: str = "") -> None:
        """Keep in mind what was made of it, unless it was replaced or removed meanwhile."""
        with self._lock:
            there = self._read(self._place(image.id))
            if there is not None and there.created == image.created:
                changed = replace(there, job=job or there.job, label=label or there.label)
                write_text(self._place(image.id) / _ABOUT, json.dumps(asdict(changed)))

    def remove(self, image: Image) -> None:
        """With its file; jobs that were made of it stay."""
        with self._lock:
            shutil.rmtree(self._place(image.id), ignore_errors=True)

    def _place(self, id: str) -> Path:
        return self._root / hashlib.sha256(id.encode()).hexdigest()[:32]

    def _read(self, place: Path) -> Image | None:
        try:
            return Image(**json.loads((place / _ABOUT).read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None

    def _expire(self) -> None:
        sweep([self._root])
        oldest = time.time() - self._limits.keep_hours * _HOUR
        for image in self.all(sessions=True):
            if image.created < oldest:
                shutil.rmtree(self._place(image.id), ignore_errors=True)
