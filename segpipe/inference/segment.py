"""One scan -> its label map on disk and its row."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from segpipe.errors import ConfigError, DataError, SegpipeError
from segpipe.geometry.grid import Volume
from segpipe.inference.clock import Clock
from segpipe.inference.content import scan_hash
from segpipe.inference.gather import Examination
from segpipe.inference.memory import OutOfMemoryError
from segpipe.inference.objects import check_series, write_objects
from segpipe.inference.outputs import hashes
from segpipe.inference.predictor import Part, Predictor
from segpipe.inference.preparation import Preparation, Ready
from segpipe.inference.restoration import Prediction, Restoration
from segpipe.inference.source import open_scan
from segpipe.inference.table import Row
from segpipe.inference.task import Facts, FolderOptions, Task, check_kind
from segpipe.io.find import is_picture
from segpipe.io.write import write_label_map, write_volume
from segpipe.progress import Told

log = logging.getLogger(__name__)

Mark = Callable[[Row], None]
"""Is told which files are about to be written; returns when the ledger knows it. Raises when they must not be written."""


class LeaseLostError(Exception):
    """Another worker segments the scan meanwhile: what this one has found is not wanted any more."""


def facts_of(predictor: Predictor) -> Facts:
    """What a call must know of the predictor."""
    plan = predictor.plan
    labels = tuple((label.value, label.name) for label in plan.labels)
    names = tuple(channel.name for channel in plan.channels)
    series = tuple((channel.name, channel.series) for channel in plan.channels if channel.series)
    told = series if len(series) == len(names) > 1 else ()  # a model of one channel takes every series, whatever it is called elsewhere
    return Facts(names, labels, plan.pictures, predictor.sha256, _options(predictor), plan.task, plan.segment_labels, told)


def _options(predictor: Predictor) -> str:
    precision = "bf16" if predictor.bf16 else "fp32"
    runtimes = ",".join(sorted({model.runtime for model in predictor.models}))
    runtime = "" if runtimes == "torch" else f" runtime={runtimes}"
    flips = " tta" if predictor.flips else ""
    moved = " offsets=" + ",".join(f"{offset:g}" for offset in predictor.offsets) if predictor.offsets else ""
    return f"overlap={predictor.overlap:g} precision={precision}{runtime}{flips}{moved}"


class Attempt:
    """One scan on its way through the stages.

    Args:
        row: of the scan, before anything is known of it.
        before: what is known of the files that earlier calls have written of it.

    Attributes:
        reason: why it has failed; empty while it has not.
        short_of_memory: whether that was all that was wrong with it.
        ready: what the first stage has made of it.
        restoration: its label map, growing.
    """

    def __init__(self, scan: Examination, row: Row, before: Row | None) -> None:
        self.scan, self.row, self.before, self.known = scan, row, before, before
        self.reason = ""
        self.short_of_memory = False
        self.ready: Ready | None = None
        self.restoration: Restoration | None = None
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self) -> Iterator[None]:
        """Keep a fault of this scan from stopping a night's work on the others.

        Raises:
            ConfigError: the output cannot be written; every further scan would fail likewise.
            LeaseLostError: another worker has it.
        """
        try:
            yield
            return
        except (ConfigError, LeaseLostError):
            raise
        except SegpipeError as error:
            reason, short = str(error), isinstance(error, OutOfMemoryError)
        except Exception as error:
            log.debug("%s", self.scan.case, exc_info=True)
            words = "" if self.scan.slices is not None else f": {' '.join(str(error).split())}"  # of DICOM they may quote a patient's name
            reason, short = f"unexpected {type(error).__name__}{words}", isinstance(error, MemoryError)
        self.short_of_memory = self.short_of_memory if self.reason else short
        self.reason = self.reason or _with_file(reason, self.scan)  # two stages may be at it: the first fault is the cause
        self.ready = self.restoration = None


class Segmenter:
    """Segments the scans of a call in three stages: `read`, `compute`, and `restore` with `write`; only the second needs the networks.

    Each may have a thread of its own; `restore` may be at the blocks of a scan while `compute` is at the next ones.

    Args:
        out, suffix, options: see `Task`.
    """

    def __init__(self, predictor: Predictor, out: Path, suffix: str, options: FolderOptions) -> None:
        self.predictor = predictor
        self.task = Task(facts_of(predictor), out, suffix, options)

    def segment(self, scan: Examination, before: Row | None, mark: Mark, told: Told) -> Row:
        """The scan's row, its files written, or why they are not.

        Args:
            before: what is known of the files that earlier calls have written of it.
            told: see `Predictor.predict`.

        Raises:
            ConfigError: the output cannot be written; every further scan would fail likewise.
            LeaseLostError: from `mark`.
        """
        attempt = self.read(scan, before)
        for part in self.compute(attempt, told):
            self.restore(attempt, part)
            del part
        return self.write(attempt, mark) or self.failed(attempt)

    def read(self, scan: Examination, before: Row | None, followed: bool = False) -> Attempt:
        """Read a scan and prepare it for the networks.

        Args:
            followed: whether another one is read while the networks are at it, see `Preparation.prepare`.
        """
        attempt = Attempt(scan, self.task.row(scan), before)
        with attempt.stage():
            ready = read_scan(self.task, self.predictor.preparation, attempt, followed)
            attempt.restoration = self.predictor.restoration(ready)
        return attempt

    def compute(self, attempt: Attempt, told: Told) -> Iterator[Part]:
        """What the networks say of it, block by block; nothing of a scan that has failed.

        Args:
            told: see `Predictor.predict`.
        """
        ready = attempt.ready
        if ready is None:
            return
        clock = Clock(self.predictor.device, ready.batch)
        with attempt.stage():
            for part in self.predictor.parts(ready, clock, told):
                yield part
                del part  # before the next windows are computed
                if attempt.reason:  # it cannot be restored
                    return
        attempt.seconds |= clock.seconds
        if not attempt.reason:
            attempt.ready = replace(ready, prepared=())  # large, and of no more use

    def restore(self, attempt: Attempt, part: Part) -> None:
        """Take in one block of `compute`."""
        with attempt.stage():
            restoration = attempt.restoration  # looked at once: on another thread the networks may fail meanwhile
            if restoration is not None:
                restoration.put(*part)

    def write(self, attempt: Attempt, mark: Mark) -> Row | None:
        """The scan's row, its files written once `compute` has ended; None: it has failed, in this stage or before.

        Raises:
            ConfigError: the output cannot be written; every further scan would fail likewise.
            LeaseLostError: from `mark`.
        """
        with attempt.stage():
            if attempt.ready is not None and attempt.restoration is not None:
                prediction = attempt.restoration.prediction(attempt.seconds)
                return write_scan(self.task, self.predictor.preparation, attempt, attempt.ready, prediction, mark)
        return None

    def failed(self, attempt: Attempt) -> Row:
        """The row of a scan that has failed."""
        log.warning("%s failed", attempt.scan.case)  # why is in the row, for whoever closes the call
        return self.task.failed(attempt.row, attempt.known, attempt.reason)


def read_scan(task: Task, preparation: Preparation, attempt: Attempt, followed: bool = False) -> Ready:
    """Read a scan and prepare it for the networks, of which none is needed.

    Args:
        followed: see `Preparation.prepare`.

    Raises:
        DataError, GeometryError: it cannot be read, or is no scan for these models.
    """
    scan = attempt.scan
    attempt.row = replace(attempt.row, input_hash=scan_hash(scan.images, scan.slices))
    if scan.problem:
        raise DataError(scan.problem)
    if task.options.wanted.kinds:
        check_series(scan)
    start = time.perf_counter()
    volume, way = open_scan(scan)
    attempt.seconds["read"] = time.perf_counter() - start
    check_kind(scan.images[0], task.facts.pictures)
    attempt.ready = preparation.prepare(volume, task.options.probabilities, followed, way)
    return attempt.ready


def write_scan(task: Task, preparation: Preparation, attempt: Attempt, ready: Ready, prediction: Prediction, mark: Mark) -> Row:
    """Write the files of a scan, and say what they are.

    Args:
        ready: the scan as it was prepared; of its images nothing is needed any more.

    Raises:
        ConfigError: the output cannot be written; every further scan would fail likewise.
        LeaseLostError: from `mark`.
    """
    scan, grid = attempt.scan, ready.way.grid(ready.grid)
    prediction = ready.way.onto(prediction, task.facts.labels)
    start = time.perf_counter()
    files = task.files(attempt.row)
    started = task.started(attempt.row, attempt.before)
    mark(started)
    attempt.known = started
    row = _measured(attempt.row, is_picture(scan.images[0]), prediction, grid.voxel_volume_ml)
    unlike = [*ready.unlike, *(preparation.odd_volumes(row.volumes_ml) if row.volumes_ml else [])]
    warnings = (*ready.way.notes, *unlike)
    if prediction.probabilities is not None:
        write_volume(files[-1], Volume(prediction.probabilities, grid))
    write_objects(task, scan, prediction.labels, warnings)
    write_label_map(files[0], prediction.labels, grid)
    seconds = {**prediction.seconds, "write": time.perf_counter() - start}
    if ready.way.notes:
        log.info("%s: %s", scan.case, "; ".join(ready.way.notes))
    if unlike and task.options.tell_scans:
        log.warning("%s is unlike the training scans, look at its label map: %s", scan.case, "; ".join(unlike))
    return replace(row, status="done", seconds=seconds, output_hash=hashes(files), warning="; ".join(warnings))


def _measured(row: Row, picture: bool, prediction: Prediction, voxel_ml: float) -> Row:
    """The row with the size of each label."""
    voxels = {name: float(count) for name, count in prediction.voxels.items()}
    return replace(row, pixels=voxels) if picture else replace(row, volumes_ml={name: count * voxel_ml for name, count in voxels.items()})


def _with_file(reason: str, scan: Examination) -> str:
    """What the network or the plan has to say of a volume does not know where it came from."""
    return reason if any(str(path) in reason for path in scan.images) else f"{scan.images[0]}: {reason}"
