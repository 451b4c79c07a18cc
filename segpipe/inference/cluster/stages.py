"""What runs on the nodes of a cluster: reading, the networks, writing. Each speaks while it works, a message at a time.

`begun` comes first, `log` and `windows` in between, `end` last; `refused` says that nobody could do it. A message `parcel` announces that
the next thing is no message but what the following stage needs, which stays in the memory of the cluster and which the command never sees.
Plain functions: Ray is what calls them, and is not needed to read or to test them.
"""

from __future__ import annotations

import functools
import pickle
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from segpipe.errors import ConfigError
from segpipe.inference.cluster.hearing import check_version, hearing, here, refusal
from segpipe.inference.cluster.parcels import Kit, ReadyParcel, RestoredParcel, pack_ready
from segpipe.inference.messages import Message, Order
from segpipe.inference.packing import row_from_json, row_to_json, scan_from_json
from segpipe.inference.restoration import Restored, finish
from segpipe.inference.segment import Attempt, Segmenter, read_scan, write_scan
from segpipe.inference.serve import make_segmenter
from segpipe.inference.table import Row
from segpipe.io.alive import acting_as

PARCEL: Message = {"parcel": True}
_TELL_SECONDS = 1.0
"""Between messages of the windows that are done."""
_SEE_SECONDS = 5.0
"""A network disk may show a new file to other machines a little later."""


class Networks:
    """Keeps the networks of the models warm; one scan at a time."""

    def __init__(self) -> None:
        self._segmenter: Segmenter | None = None
        self._level = 0

    def load(self, order: Message, version: str) -> Iterator[Any]:
        """Load the models; `end` tells their facts, the parcel is a pickled `Kit`.

        Args:
            order: fields of an `Order`.
            version: of the segpipe that gives it.
        """
        try:
            check_version(version)
            wanted = Order(**order)
            self._level = wanted.level
            with hearing(self._level) as heard:
                self._segmenter, ready = make_segmenter(wanted)
        except Exception as error:
            yield refusal(error)
            return
        yield from heard.taken()
        predictor = self._segmenter.predictor
        yield PARCEL
        yield pickle.dumps(Kit(self._segmenter.task, predictor.preparation, predictor.reading))
        yield {"end": {**ready, "node": here()}}

    def compute(self, parcel: ReadyParcel, wanted: Message) -> Iterator[Any]:
        """Put a scan through the networks and onto its own grid; the parcel is a `RestoredParcel`.

        Args:
            wanted: the scan, and the seconds that it has taken so far.
        """
        yield {"begun": here()}
        segmenter = self._loaded
        scan = scan_from_json(wanted["scan"])
        attempt = Attempt(scan, segmenter.task.row(scan), None)
        with hearing(self._level) as heard:
            restored: Restored | None = None
            with attempt.stage():
                attempt.ready = parcel.unpacked()
                attempt.restoration = segmenter.predictor.restoration(attempt.ready)
            yield from _through(segmenter, attempt)
            with attempt.stage():
                if attempt.restoration is not None:
                    restored = attempt.restoration.restored(wanted["seconds"] | attempt.seconds)
        yield from heard.taken()
        if restored is not None:
            yield PARCEL
            yield RestoredParcel(parcel.bare, restored)
        yield {"end": {"reason": attempt.reason}}

    @property
    def _loaded(self) -> Segmenter:
        if self._segmenter is None:
            raise RuntimeError("a scan was given to networks that are not loaded")
        return self._segmenter


def _through(segmenter: Segmenter, attempt: Attempt) -> Iterator[Message]:
    """The second stage of a scan, block by block."""
    windows, last = [0, 0], time.monotonic()

    def told(done: int, total: int) -> None:
        windows[:] = done, total

    for part in segmenter.compute(attempt, told):
        segmenter.restore(attempt, part)
        del part  # before the next one is made
        if time.monotonic() - last >= _TELL_SECONDS:
            last = time.monotonic()
            yield {"windows": list(windows)}


def read(kit: bytes, version: str, wanted: Message) -> Iterator[Any]:
    """Read a scan and prepare it for the networks; the parcel is a `ReadyParcel`.

    Args:
        kit: pickled `Kit`.
        version: of the segpipe that has made it.
        wanted: the scan, a file that lies in the output folder if it is the command's, and the level of the log.
    """
    yield {"begun": here()}
    try:
        check_version(version)
        _check_shared(wanted["probe"])
        own, scan = _kit(kit), scan_from_json(wanted["scan"])
        attempt = Attempt(scan, own.task.row(scan), None)
        with hearing(wanted["level"]) as heard, attempt.stage():
            read_scan(own.task, own.preparation, attempt)
    except Exception as error:
        yield refusal(error)
        return
    yield from heard.taken()
    if attempt.ready is not None:
        yield PARCEL
        yield pack_ready(attempt.ready)
    unseen = bool(attempt.reason) and not all(path.exists() for path in scan.images)
    end = {"row": row_to_json(attempt.row), "reason": attempt.reason, "seconds": attempt.seconds, "unseen": unseen}
    yield {"end": end}


def write(kit: bytes, version: str, parcel: RestoredParcel, wanted: Message) -> Iterator[Any]:
    """Post-process a scan and write its files, of which the ledger knows already.

    Args:
        kit, version: see `read`.
        wanted: as for `read`, and the scan's row, what is known of its files, and the name under which they are written (see `acting_as`).
    """
    yield {"begun": here()}
    row: Row | None = None
    try:
        check_version(version)
        own = _kit(kit)
        _check_shared(wanted["probe"])
        scan, read_row = scan_from_json(wanted["scan"]), row_from_json(wanted["row"])
        attempt = Attempt(scan, read_row or own.task.row(scan), row_from_json(wanted["before"]))
        with hearing(wanted["level"]) as heard, acting_as(wanted["token"]), attempt.stage():
            prediction = finish(parcel.restored, own.reading, parcel.bare.grid)
            row = write_scan(own.task, own.preparation, attempt, parcel.bare, prediction, _marked)
    except Exception as error:
        yield refusal(error)
        return
    yield from heard.taken()
    yield {"end": {"row": row_to_json(row), "reason": attempt.reason}}


def _marked(row: Row) -> None:
    """The command has done it."""


@functools.lru_cache(maxsize=1)
def _kit(data: bytes) -> Kit:
    kit: Kit = pickle.loads(data)
    return kit


@functools.lru_cache(maxsize=1)
def _check_shared(probe: str) -> None:
    """Refuse to write into a folder that only has the same name.

    Raises:
        ConfigError: the output folder is not on a disk that this node shares with the command.
    """
    end = time.monotonic() + _SEE_SECONDS
    while not Path(probe).exists():
        if time.monotonic() > end:
            folder = Path(probe).parent
            raise ConfigError(f"{folder}: is not the command's folder of that name; OUT must lie on a disk that all nodes share")
        time.sleep(0.2)
