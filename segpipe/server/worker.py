"""A process that segments the jobs of a server by one model, which it loads once. Speaks as `messages` tells, with words of its own.

To it: an order; `segment` (a job), `cancel` (its id). From it: `ready` or `refused`; of a job, by its id, `stage`, `windows`, and at last
`done` (what became of it) or `failed` (why) or `cancelled`. Scans are looked at here alone, DICOM included: what a damaged file makes of a
decoder ends this process and not the server.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import queue
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from segpipe.errors import DataError, SegpipeError
from segpipe.inference.messages import Message, Order, error_to_json, send

if TYPE_CHECKING:
    import torch

    from segpipe.inference.gather import Examination
    from segpipe.inference.predictor import Predictor
    from segpipe.inference.segment import Segmenter
    from segpipe.inference.table import Row

log = logging.getLogger(__name__)

RESULT = "labels"
"""Label map of a job, in the folder `result` of its own."""
LABEL_MAP = f"{RESULT}.nii.gz"
_SUFFIX = ".nii.gz"
_BYTES = 4
"""Of a voxel in float32."""
_COLOURS = 3
"""At most, of a picture, which would have to be read to count them."""
_OBJECTS: tuple[tuple[str, ...], ...] = (("dicom-seg", "sr"), ("rtstruct",))
"""Written together, because a report refers to its segmentation; one group that cannot be made stops no other."""


def main() -> None:
    """Segment what the server orders, until it closes the pipe."""
    from segpipe.inference.worker import converse

    with contextlib.suppress(OSError):  # Linux: where memory is short, rather this process ends than the server
        Path("/proc/self/oom_score_adj").write_text("800", encoding="ascii")
    converse(_serve)


def _serve(order: Message, inbox: queue.Queue[Message], outbox: BinaryIO) -> None:
    talk = _Talk(outbox)
    try:
        with _told_to(talk, order["level"]):
            bench = _Bench(Order(**order), talk)
        talk.send(bench.ready)
    except SegpipeError as error:
        talk.send({"refused": error_to_json(error, False)})
        threading.Event().wait()  # until the server closes the pipe, so that it reads this and not an end
        return
    threading.Thread(target=talk.hear, args=(inbox,), name="hear", daemon=True).start()
    while bench.segment(talk.jobs.get()):
        pass
    os._exit(1)  # without what libraries do at an end, who would ask the device that fails


@contextlib.contextmanager
def _told_to(talk: _Talk, level: int) -> Iterator[None]:
    """Have the server log what is said while a model is loaded; what is said of scans names series, and only debugging hears it."""
    own, root = logging.getLogger("segpipe"), logging.getLogger()
    own.propagate = False
    own.setLevel(level)
    root.addHandler(logging.NullHandler())
    logging.captureWarnings(True)
    logging.getLogger("nibabel.global").setLevel(logging.CRITICAL)  # brings a handler of its own
    handler = _Handler(talk)
    own.addHandler(handler)
    yield
    if level > logging.DEBUG:
        own.removeHandler(handler)
        own.addHandler(logging.NullHandler())


class _Handler(logging.Handler):
    """Says every record to the server, which shows it as its own."""

    def __init__(self, talk: _Talk) -> None:
        super().__init__()
        self._talk = talk

    def emit(self, record: logging.LogRecord) -> None:
        self._talk.send({"log": [record.name, record.levelno, self.format(record)]})


class _Talk:
    """The worker's side of the pipe."""

    def __init__(self, outbox: BinaryIO) -> None:
        self._outbox = outbox
        self._lock = threading.Lock()
        self._cancelled: set[str] = set()
        self.jobs: queue.SimpleQueue[Message] = queue.SimpleQueue()

    def send(self, message: Message) -> None:
        with self._lock:
            send(self._outbox, message)

    def hear(self, inbox: queue.Queue[Message]) -> None:
        """Take in what the server says, for ever."""
        while True:
            message = inbox.get()
            if "segment" in message:
                self.jobs.put(message["segment"])
            else:
                self._cancelled.add(message["cancel"])

    def check(self, id: str) -> None:
        """Raises:
        LeaseLostError: the job is cancelled, and what was found is not wanted any more.
        """
        from segpipe.inference.segment import LeaseLostError

        if id in self._cancelled:
            raise LeaseLostError

    def over(self, id: str) -> None:
        """Nothing more is asked of a job."""
        self._cancelled.discard(id)


class _Bench:
    """The loaded model, and what it makes of a job.

    Raises:
        ModelError, ConfigError: see `make_segmenter`.
    """

    def __init__(self, order: Order, talk: _Talk) -> None:
        from segpipe.inference.serve import make_segmenter

        self._order, self._talk = order, talk
        segmenter, self.ready = make_segmenter(order)
        self._segmenters: dict[bool, Segmenter] = {False: segmenter}

    def segment(self, job: Message) -> bool:
        """Do one job, and say what became of it; False: its device is of no use to this process any more, which is to end."""
        from segpipe.inference.segment import LeaseLostError

        id = job["id"]
        try:
            message: Message = {"done": [id, self._done(job)]}
        except LeaseLostError:
            message = {"cancelled": [id]}
        except SegpipeError as error:
            message = {"failed": [id, str(error)]}
        except Exception as error:  # a fault of the program ends one job, and not all that wait
            log.debug("%s", id, exc_info=True)
            message = {"failed": [id, f"unexpected {type(error).__name__}: {' '.join(str(error).split())}"]}
        if "failed" in message and (fault := _fault_of(self._segmenters[False].predictor.device)):
            self._talk.send({"log": [log.name, logging.ERROR, f"{fault}: the job is given to a new worker"]})
            return False
        self._talk.over(id)
        self._talk.send(message)
        return True

    def _done(self, job: Message) -> Message:
        id, out = job["id"], Path(self._order.out)
        segmenter = self._of(job["tta"])
        self._talk.send({"stage": [id, "reading"]})
        files = [out / id / name for name in job["files"]]
        _check_size(files, job["most_bytes"])
        _check_channels(files, segmenter.task.facts.channels)
        scan = _scan_of(job, files, segmenter)
        row = self._row(segmenter, scan, id)
        self._talk.send({"stage": [id, "writing"]})
        results, faults = {"nifti": f"result/{LABEL_MAP}"}, list[str]()
        warnings = [part for part in row.warning.split("; ") if part]
        if scan.slices is not None:
            objects, faults = _objects(segmenter, scan, out / row.output, warnings)
            results |= {kind: f"result/{path.name}" for kind, path in objects.items()}
        return {"results": results, "warnings": warnings + faults, "volumes": _volumes(segmenter, row, out / row.output)}

    def _of(self, tta: bool) -> Segmenter:
        if tta not in self._segmenters:
            plain = self._segmenters[False]
            self._segmenters[tta] = type(plain)(_mirrored(plain.predictor), plain.task.out, plain.task.suffix, plain.task.options)
        return self._segmenters[tta]

    def _row(self, segmenter: Segmenter, scan: Examination, id: str) -> Row:
        """Raises:
        DataError: the scan cannot be segmented.
        """
        say = self._talk.send

        def told(done: int, total: int) -> None:
            self._talk.check(id)
            say({"windows": [id, done, total]})

        def mark(row: Row) -> None:
            self._talk.check(id)
            say({"stage": [id, "writing"]})

        attempt = segmenter.read(scan, None)
        self._talk.check(id)
        say({"stage": [id, "network"]})
        for part in segmenter.compute(attempt, told):
            segmenter.restore(attempt, part)
            del part  # before the next windows are computed
        self._talk.check(id)
        row = segmenter.write(attempt, mark)
        self._talk.check(id)
        if row is None:
            raise DataError(attempt.reason)
        return row


def _fault_of(device: torch.device) -> str:
    """What a GPU reports. After some faults CUDA fails at everything in this process, and would fail one waiting job after the other."""
    import torch

    if device.type != "cuda":
        return ""
    try:
        torch.cuda.synchronize(device)
    except RuntimeError as error:
        return f"{device} reports a fault ({str(error).splitlines()[0]})"
    return ""


def _check_size(files: list[Path], most: int) -> None:
    """Refuse, by its header, a scan that fills the memory: few bytes of gzip can hold many of air.

    Raises:
        DataError: it is larger than `most` bytes in float32; or its header cannot be read.
    """
    from segpipe.io.find import is_picture
    from segpipe.io.read import count_channels, read_grid

    total = 0
    for path in files:
        if path.suffix != ".zip":
            shape = read_grid(path).shape  # says what is wrong with the header
            total += _BYTES * math.prod(shape) * (_COLOURS if is_picture(path) else count_channels(path))
    if total > most:
        raise DataError(
            f"{files[0]}: unpacks to {total / 2**20:.0f} MB; at most {most / 2**20:.0f}: send a part of it, or ask who runs the server"
        )


def _check_channels(files: list[Path], channels: Sequence[str]) -> None:
    """Refuse one file that has not all channels of a model, in words for whoever sends to a server, where names of files say nothing.

    Raises:
        DataError: it has not.
    """
    from segpipe.io.find import is_picture
    from segpipe.io.read import count_channels

    if len(files) > 1 or files[0].suffix == ".zip" or is_picture(files[0]):
        return
    found = count_channels(files[0])
    if found != len(channels):
        how = "send one file a channel in this order, or one file that holds all of them" if len(channels) > 1 else "send one of them"
        raise DataError(f"{files[0]}: has {found} channel(s); the model needs {len(channels)} ({', '.join(channels)}): {how}")


def _scan_of(job: Message, files: list[Path], segmenter: Segmenter) -> Examination:
    """The one scan of a job.

    Raises:
        DataError: an archive that holds none, or several, or more than the server takes.
    """
    from segpipe.inference.gather import Examination

    case = f"{job['id']}/result/{RESULT}"
    if files[0].suffix != ".zip":
        return Examination(case, tuple(files))
    from segpipe.dicom.policy import Policy
    from segpipe.server.archive import check_deflated, check_pixels, series_in

    facts = segmenter.task.facts
    check_deflated(files[0], job["most_bytes"])
    scan = series_in(files[0], facts.channels, facts.kinds(Policy()).series)
    check_pixels(scan, files[0], job["most_bytes"])
    return replace(scan, case=case)


def _mirrored(predictor: Predictor) -> Predictor:
    """The same networks, averaged over the mirrorings that the plan allows."""
    return type(predictor)(
        predictor.models,
        predictor.device,
        overlap=predictor.overlap,
        batch=predictor.batch,
        precision="bf16" if predictor.bf16 else "fp32",
        flips=True,
        memory_gb=predictor.memory_gb,
    )


def _volumes(segmenter: Segmenter, row: Row, path: Path) -> list[dict[str, Any]]:
    """Of each label but the background: value, name, ml (None for pictures), voxels."""
    from segpipe.io.read import read_grid

    voxel_ml = read_grid(path).voxel_volume_ml
    found = []
    for value, name in segmenter.task.facts.labels[1:]:
        ml = row.volumes_ml.get(name)
        voxels = row.pixels.get(name, 0.0) if ml is None else ml / voxel_ml
        found.append({"value": value, "name": name, "ml": None if ml is None else round(ml, 6), "voxels": round(voxels)})
    return found


def _objects(segmenter: Segmenter, scan: Examination, path: Path, warnings: list[str]) -> tuple[dict[str, Path], list[str]]:
    """The DICOM objects of a series beside its label map, by kind; and why some are not there.

    Args:
        path: of the label map, which is written already.
        warnings: of the scan, which each object repeats.
    """
    from segpipe.dicom.writing.wanted import KINDS, result_files
    from segpipe.inference.objects import check_series, write_objects
    from segpipe.io.read import read_volume

    made: dict[str, Path] = {}
    faults: list[str] = []
    labels = read_volume(path).array[0]
    for group in _OBJECTS:
        kinds = tuple(kind for kind in KINDS if kind in group)
        options = replace(segmenter.task.options, format=",".join((_SUFFIX[1:], *group)))
        try:
            check_series(scan)
            write_objects(replace(segmenter.task, options=options), scan, labels, warnings)
        except SegpipeError as error:
            faults.append(f"no {' and '.join(group)}: {error}")
        else:
            made |= dict(zip(kinds, result_files(segmenter.task.out / scan.case, kinds), strict=True))
    return made, faults
