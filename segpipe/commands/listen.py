"""`segpipe listen`: a DICOM node that segments what it is sent."""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from segpipe.commands.outcome import Outcome
from segpipe.commands.predict import PredictOptions, engine_of, with_objects
from segpipe.dicom.channels import Wanted
from segpipe.dicom.policy import Policy, parse_policy
from segpipe.errors import ConfigError, DataError
from segpipe.inference.call import Call, How
from segpipe.inference.table import TABLE, Row
from segpipe.inference.task import FolderOptions, Task
from segpipe.io.atomic import check_folder
from segpipe.pacs.allowed import parse_allowed
from segpipe.pacs.coming import Limits
from segpipe.pacs.courier import Courier
from segpipe.pacs.exchange import courier_to
from segpipe.pacs.intake import Intake
from segpipe.pacs.library import check_installed
from segpipe.pacs.patience import Patience
from segpipe.pacs.reception import MOST_BYTES, Door, Reception
from segpipe.pacs.results import objects_of
from segpipe.pacs.spool import ASIDE, INCOMING, Spool
from segpipe.pacs.studies import StudyIntake

log = logging.getLogger(__name__)

_LAST_SECONDS = 30.0
"""For results to be sent when the node ends; the next one sends the others."""
_REASONS = 5
"""Told at the end, those of most objects."""
_AHEAD = 3
"""Scans given for each worker: the one in hand, the next one, which is read meanwhile, and one that has just ended."""


@dataclass(frozen=True)
class ListenOptions:
    """Attributes:
    port, host: to listen at; see `Door`.
    allow: `AET@ADDRESS` words.
    quiet, series, gb, broken: see `Limits`.
    tls: whether senders must encrypt.
    study: seconds for which the series of a study wait for each other, where the model takes several channels.
    """

    port: int = 11112
    host: str = ""
    allow: tuple[str, ...] = ()
    quiet: float = 10.0
    series: int = 200
    gb: float = 50.0
    broken: bool = False
    tls: bool = False
    study: float = 1800.0


def listen(models: list[Path], out: Path, options: PredictOptions, node: ListenOptions) -> Outcome:
    """Take series until a signal ends it; the scans in hand are finished then.

    Returns:
        What was done, what was not sent and why; exit code 0.

    Raises:
        ConfigError: the port or the folder is another's, what was given cannot be, or the disk cannot be written.
        ModelError: see `load_models`.
        DataError: the destination lets nobody in.
    """
    policy, exchange = parse_policy(options.policy), options.exchange
    options = with_objects(options)
    check_installed("listen", "pynetdicom")
    exchange.check()
    door = Door(exchange.title, node.host, node.port, parse_allowed(node.allow), node.tls, exchange.tls)
    check_folder(out)
    out.mkdir(parents=True, exist_ok=True)
    stop, done = threading.Event(), _Done(out)
    with contextlib.ExitStack() as open_:
        limits = Limits(node.series, int(node.gb * 2**30), node.quiet, node.broken)
        spool = open_.enter_context(contextlib.closing(Spool(out, limits)))
        reception = Reception(door, spool, stop, min(MOST_BYTES, limits.bytes))
        reception.open()
        open_.callback(reception.close)
        open_.enter_context(_signals(stop))
        engine = open_.enter_context(engine_of(models, out, options))
        courier = open_.enter_context(courier_to(exchange, out, Patience(tries=0)))
        _tell(door)

        def sound() -> None:
            reception.check()
            if courier is not None:
                courier.check()

        def incoming(task: Task) -> Intake:
            given = (spool, task.facts.channels, policy, _AHEAD * options.workers, stop, sound)
            wanted = _wanted(task, policy)
            intake = StudyIntake(*given, wanted=wanted, seconds=node.study) if wanted else Intake(*given)
            done.begin(intake, courier)
            return intake

        how = How(timeout=options.timeout, watch=True, policy=policy)
        Call(engine, out / INCOMING, out, FolderOptions(options.format, **options.words), how, done.each, incoming).run()
        reception.close()
        if courier is not None and not courier.finish(_LAST_SECONDS):
            log.info("results that are not sent wait for the next start")
        done.look(exchange.to)
        waiting, taken = spool.counts()
    return Outcome([*done.lines(), f"{waiting + taken} series wait for the next start; label maps and {TABLE} in {out}"])


def _wanted(task: Task, policy: Policy) -> tuple[Wanted, ...]:
    """Which series is which channel of a model of several; none for one of a single channel.

    Raises:
        ConfigError: the model does not tell.
    """
    channels, series = task.facts.channels, task.facts.kinds(policy).series
    if len(channels) > 1 and not series:
        cure = "train it on DICOM with dataset.dicom.series, or segment such scans with predict --series"
        raise ConfigError(f"the model takes {len(channels)} channels and does not tell which DICOM series each is; must, to listen: {cure}")
    return series if len(channels) > 1 else ()


def _tell(door: Door) -> None:
    who = ", ".join(f"{title}@{network}" for title, network in door.allowed.pairs) or "this machine alone (--allow AET@ADDRESS for others)"
    tls = " with TLS" if door.tls else ""
    log.info("listening as %s at %s:%d%s, for %s", door.title, door.where, door.port, tls, who)
    log.info("try it: echoscu -aec %s HOST %d; storescu -aec %s HOST %d FILES", *(door.title, door.port) * 2)


class _Done:
    """What becomes of scans: their results wait to be sent, then their files are let go."""

    def __init__(self, out: Path) -> None:
        self._out = out
        self._intake: Intake | None = None
        self._courier: Courier | None = None
        self._counts = {"done": 0, "skipped": 0, "failed": 0}
        self._undelivered: list[str] = []
        self._sent: list[str] = []

    def begin(self, intake: Intake, courier: Courier | None) -> None:
        """From now on."""
        self._intake, self._courier = intake, courier

    def each(self, row: Row) -> None:
        """Take a row."""
        self._counts[row.status] = self._counts.get(row.status, 0) + 1
        why = self._deliver(self._courier, row) if self._courier is not None and row.status != "failed" else ""
        if why:
            log.warning("%s", why)
            self._undelivered.append(why)
        if self._intake is not None:
            self._intake.ended(row, why)

    def _deliver(self, courier: Courier, row: Row) -> str:
        """Why a scan's results cannot be sent; empty when they wait to be."""
        try:
            paths = objects_of(self._out, row)
            if not paths:
                return f"{row.case}: none of its results is DICOM (.dcm), and none is sent"
            courier.deliver(row.case, paths)
        except DataError as error:
            return str(error)
        return ""

    def look(self, to: str) -> None:
        """See what has become of all that was to be sent, while that can be seen; refused objects stay in the outbox.

        Args:
            to: the destination, as a user writes it.
        """
        if self._courier is None:
            return
        counts, reasons = self._courier.told()
        refused = counts.get("refused", 0)
        waiting = len(reasons) - refused
        self._sent = [f"{counts.get('sent', 0)} object(s) of {self._out} are at {to}, {waiting} wait to be sent, {refused} were refused"]
        if refused:
            log.warning("%d object(s) were refused by %s and are not sent: send their series again once that is cured", refused, to)
        told = Counter(why for _, _, why in reasons if why)
        self._sent += [f"not sent  {number} object(s): {why}" for why, number in told.most_common(_REASONS)]

    def lines(self) -> list[str]:
        """How many ended how, and what was not sent."""
        counts, bad = self._counts, self._undelivered
        lines = [f"{counts['done']} scan(s) segmented, {counts['skipped']} done before, {counts['failed']} failed", *self._sent]
        if bad:
            lines.append(f"not sent  {len(bad)} scan(s), whose series are in {self._out / ASIDE}: {bad[0]}")
        return lines


@contextlib.contextmanager
def _signals(stop: threading.Event) -> Iterator[None]:
    """The first SIGTERM or Ctrl-C finishes what is in hand; the second one ends at once."""

    def end(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            raise SystemExit(128 + number)
        log.info("ending after what is in hand; once more ends at once")
        stop.set()

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
