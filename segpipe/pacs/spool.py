"""Series that are sent to a node, on disk before the sender is told so, and each in one place until its results are known.

    OUT/.incoming/<series>/<instance>.dcm   is coming, or waits for its turn
    OUT/.taken/<series>/                    is being segmented; nothing is added any more
    OUT/aside/<series>/                     was not segmented, or came after the rest was: for somebody to look at, and for its rest
    OUT/aside/<series>-replaced/            was set aside, and came again with other content

Series and instances are called by hashes of their UIDs. Moves are renames, so that a kill leaves a series in one of these places, whole.
Only we may read them: they are of patients.
"""

from __future__ import annotations

import filecmp
import itertools
import logging
import shutil
import threading
import time
from collections.abc import Callable, Hashable
from pathlib import Path

from segpipe.dicom.identity import short
from segpipe.errors import ConfigError
from segpipe.io.atomic import flush_folder, sweep, write_bytes
from segpipe.pacs.coming import BROKEN_OFF, Caller, Coming, Limits
from segpipe.pacs.instances import bytes_in, digests_in, instances_in, study_of
from segpipe.pacs.parcel import Parcel
from segpipe.pacs.register import Register

log = logging.getLogger(__name__)

INCOMING, TAKEN, ASIDE, _TRASH = ".incoming", ".taken", "aside", ".removed"
_OURS = 0o700
_LOOK_SECONDS, _COUNT_SECONDS = 10.0, 60.0
_FREE_BYTES = 1 << 29
"""Left on the disk for results and for everybody else."""


class FullError(Exception):
    """There is no room now; the sender is to try again later."""


class Spool:
    """Threads share it.

    Args:
        out: output folder of the node.
        limits: also an attribute.

    Raises:
        ConfigError: another node has the folder, or it cannot be written.
    """

    def __init__(self, out: Path, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self._out, self.limits, self._clock = out, limits, clock
        self._lock = threading.RLock()
        for name in (INCOMING, TAKEN, ASIDE):
            (out / name).mkdir(parents=True, exist_ok=True)
            (out / name).chmod(_OURS)
        self.register = Register(out)
        shutil.rmtree(out / _TRASH, ignore_errors=True)
        self._coming: dict[str, Coming] = {}
        self._callers: dict[Hashable, Caller] = {}
        self._taken: set[str] = set()
        self._pending = 0
        self._find()
        self._count()

    def close(self) -> None:
        """Let another node have the folder."""
        self.register.close()

    def _find(self) -> None:
        """What a node before has left."""
        for folder in [path for path in (self._out / INCOMING).iterdir() if path.is_dir()]:
            sweep([folder])
            lacks = BROKEN_OFF if self.register.state(folder.name) == "coming" else ""
            coming = Coming(folder.name, self._clock(), study_of(folder), lacks)
            coming.sizes = {path.stem: path.stat().st_size for path in folder.glob("*.dcm")}
            self._coming[folder.name] = coming
        self.left = sorted(path.name for path in (self._out / TAKEN).iterdir())
        self._taken.update(self.left)

    def put(self, parcel: Parcel, data: bytes, sender: Hashable) -> None:
        """Keep an instance; when this returns it is on disk, whatever happens next.

        Args:
            sender: the association.

        Raises:
            FullError: no room for it.
            ConfigError: the disk cannot be written.
        """
        name, instance = short(f"{parcel.study}\0{parcel.series}"), short(parcel.instance)
        with self._lock:
            caller = self._caller(sender)
            caller.refused[name].add(instance)  # until it is on disk
            known = self._coming.get(name)
            self._check_room(name, len(data) - (known.sizes.get(instance, 0) if known else 0))
            coming = self._coming.setdefault(name, Coming(name, self._clock(), short(parcel.study)))
            coming.kinds.add(parcel.kind)
            coming.writing += 1
            self._pending += len(data)
        try:
            if sender not in coming.senders:
                self.register.coming(name)
                with self._lock:
                    coming.enter(sender, caller)
            self._write(self._out / INCOMING / name / f"{instance}.dcm", data)
            with self._lock:  # two senders may have written the same instance at once: it is there once
                self._bytes += len(data) - coming.sizes.get(instance, 0)
                coming.sizes[instance] = len(data)
                caller.refused[name].discard(instance)
        finally:
            with self._lock:
                coming.writing -= 1
                self._pending -= len(data)
                coming.heard(self._clock())

    def refused(self, sender: Hashable, kind: str) -> None:
        """A sender was refused something of which no series is known: any of its series of that SOP class may lack it."""
        with self._lock:
            self._caller(sender).kinds.add(kind)

    def _caller(self, sender: Hashable) -> Caller:
        now = self._clock()
        caller = self._callers.setdefault(sender, Caller(now, now))
        caller.last = now
        return caller

    def _check_room(self, name: str, size: int) -> None:
        new = name not in self._coming
        waiting = sum(not one.told for one in self._coming.values()) + len(self._taken)
        if new and waiting >= self.limits.series:
            raise FullError(f"{waiting} series wait or are in hand")
        # a series that has begun may end: what is refused from half of the room on is new ones
        most = self.limits.bytes // (2 if new else 1)
        if self._here + size > most and self._clock() - self._looked >= _LOOK_SECONDS:
            self._count()  # somebody may have looked at what is aside, and removed it
        if self._here + size > most:
            raise FullError(f"{(self._here - self._aside) / 2**30:.1f} GB are here, and {self._aside / 2**30:.1f} GB more in {ASIDE}")
        if shutil.disk_usage(self._out).free < _FREE_BYTES + size:
            raise FullError("the disk is full")

    @property
    def _here(self) -> int:
        return self._bytes + self._aside + self._pending

    def _count(self) -> None:
        """Bytes that wait or are in hand, and those that are set aside, as they are on disk."""
        self._looked = self._clock()
        self._bytes = sum(bytes_in(self._out / place) for place in (INCOMING, TAKEN))
        self._aside = bytes_in(self._out / ASIDE)

    def _write(self, path: Path, data: bytes) -> None:
        try:
            if not path.parent.exists():
                path.parent.mkdir(_OURS, parents=True, exist_ok=True)
                flush_folder(path.parent.parent)
            write_bytes(path, data)
            path.chmod(_OURS & ~0o111)  # until here, the folder alone has kept it from others
        except ConfigError as error:
            raise FullError(str(error)) from error
        except OSError as error:
            raise FullError(f"{path.parent.parent}: cannot be written ({error.strerror or error})") from error

    def ended(self, sender: Hashable, in_order: bool) -> None:
        """An association has ended, by a release or otherwise. One that was refused something has not delivered its series."""
        with self._lock:
            now = self._clock()
            caller = self._callers.pop(sender, None) or Caller(now, now)
            for name, coming in self._coming.items():
                if not coming.leave(sender, caller, in_order, now):
                    continue
                if coming.lacks:
                    self.register.coming(name)
                elif not coming.senders:
                    self.register.whole(name)

    def take(self) -> str | None:
        """The name of a series that is complete, now in `taken`; None when there is none."""
        with self._lock:
            if self._clock() - self._looked >= _COUNT_SECONDS:
                self._count()
            for name, coming in sorted(self._coming.items(), key=lambda one: one[1].last):
                if name not in self._taken and self._is_complete(name, coming):
                    del self._coming[name]
                    if self._is_to_be_taken(name):
                        self._taken.add(name)
                        return name
        return None

    def _is_to_be_taken(self, name: str) -> bool:
        """Whether a complete series is to be segmented; moved then. One whose files the disk does not give holds up no other."""
        try:
            if not instances_in(self._out / INCOMING / name) or not self._is_whole(name):
                return False
            self._move(INCOMING, TAKEN, name)
        except OSError as error:
            what = "series %s: its files cannot be read or moved (%s); it waits in %s until the node is started again, or it is sent again"
            log.warning(what, name, error.strerror or error, INCOMING)
            return False
        return True

    def _is_complete(self, name: str, coming: Coming) -> bool:
        verdict = coming.verdict(self._clock(), self.limits)
        if verdict == "silent":
            seconds = self._clock() - coming.last
            log.warning("series %s: its sender is still connected and has sent nothing for %.0f s; it is taken as complete", name, seconds)
            self.register.whole(name)
        if verdict == "lacking":
            if not coming.told:
                does = "is segmented as it is" if self.limits.broken else "waits: send the series again, or see --take-broken"
                log.warning("series %s: %s, so that slices may be missing; it %s", name, coming.why, does)
                coming.told = True
            return self.limits.broken
        return verdict != "coming"

    def _is_whole(self, name: str) -> bool:
        """Whether a complete series is to be segmented, with what was set aside of it: never a part of what is known of it."""
        before, aside = self.register.instances(name), self._in_aside(name)
        now = digests_in(self._out / INCOMING / name) if before else dict.fromkeys(instances_in(self._out / INCOMING / name), "")
        known = before.keys() | aside.keys() | self.register.aside(name)
        if known <= now.keys() | aside.keys():
            if before and before.keys() < now.keys():
                log.warning("series %s: has come again with %d more instance(s), and is segmented anew", name, len(now) - len(before))
            self._join(name, aside)
            return True
        other = [instance for instance in now.keys() & before.keys() if now[instance] != before[instance]]
        if now.keys() <= before.keys() and not other:
            log.info("series %s: %d instance(s) have come again, which have been segmented", name, len(now))
            self._remove(INCOMING, name)
            return False
        self._set_aside(INCOMING, name)
        why = (
            "after it was segmented"
            if before
            else f"without {len(known - now.keys() - aside.keys())} that came before and are gone from {ASIDE},"
        )
        changed = f" ({len(other)} of them with other content)" if other else ""
        log.warning("series %s: %d instance(s) have come %s and are set aside%s: send the whole series again", name, len(now), why, changed)
        return False

    def _aside_folders(self, name: str) -> list[Path]:
        """Those of a series, oldest first."""
        found = [path for path in (self._out / ASIDE).glob(f"{name}*") if path.name == name or path.name[len(name) + 1 :].isdecimal()]
        return sorted(found, key=lambda path: int(path.name[len(name) + 1 :] or 1))

    def _in_aside(self, name: str) -> dict[str, Path]:
        """What is set aside of a series: each instance as it came last."""
        return {path.stem: path for folder in self._aside_folders(name) for path in folder.glob("*.dcm")}

    def _join(self, name: str, aside: dict[str, Path]) -> None:
        """Put what was set aside to the rest that has come since; a kill in between leaves the register knowing of both."""
        if not aside:
            return
        folder = self._out / INCOMING / name
        log.info("series %s: is judged again, with what was set aside of it", name)
        for path in aside.values():
            if not (folder / path.name).exists():
                path.replace(folder / path.name)
            elif filecmp.cmp(path, folder / path.name, shallow=False):
                path.unlink()
        flush_folder(folder)
        for left in self._aside_folders(name):
            if any(left.iterdir()):
                left.replace(self._free(f"{name}-replaced"))
            else:
                left.rmdir()
        flush_folder(self._out / ASIDE)
        self._count()

    def folder(self, name: str) -> Path:
        """Where a taken series lies."""
        return self._out / TAKEN / name

    def done(self, name: str) -> None:
        """The results of a taken series are noted; its files are removed."""
        instances = digests_in(self._out / TAKEN / name)  # nobody else is at it
        with self._lock:
            self.register.done(name, instances)
            self._remove(TAKEN, name)
            self._taken.discard(name)

    def set_aside(self, name: str) -> None:
        """A taken series cannot be segmented; its files are kept."""
        with self._lock:
            self._set_aside(TAKEN, name)
            self._taken.discard(name)

    def is_coming(self, study: str) -> bool:
        """Whether more of a study is on its way, or waits to be sent again.

        Args:
            study: hash of its UID.
        """
        with self._lock:
            return any(one.study == study for one in self._coming.values())

    def counts(self) -> tuple[int, int]:
        """Series that are coming or wait, and taken ones."""
        with self._lock:
            return len(self._coming), len(self._taken)

    def _move(self, place: str, to: str, name: str, new: str = "") -> None:
        (self._out / to).mkdir(_OURS, exist_ok=True)
        (self._out / place / name).replace(self._out / to / (new or name))
        flush_folder(self._out / to)
        flush_folder(self._out / place)

    def _set_aside(self, place: str, name: str) -> None:
        """As a whole, by one rename, beside what was set aside of the same series before."""
        self.register.set_aside(name, instances_in(self._out / place / name))
        self._move(place, ASIDE, name, self._free(name).name)
        self._count()

    def _free(self, name: str) -> Path:
        names = itertools.chain([name], (f"{name}.{number}" for number in itertools.count(2)))
        return next(self._out / ASIDE / new for new in names if not (self._out / ASIDE / new).exists())

    def _remove(self, place: str, name: str) -> None:
        """Renamed first: half a series must never be found in a place where it counts."""
        with self._lock:
            self._bytes -= bytes_in(self._out / place / name)
        trash = self._out / _TRASH
        trash.mkdir(_OURS, exist_ok=True)
        shutil.rmtree(trash / name, ignore_errors=True)
        (self._out / place / name).replace(trash / name)
        flush_folder(self._out / place)
        shutil.rmtree(trash / name)
