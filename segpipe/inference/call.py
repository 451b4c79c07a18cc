"""One `segpipe predict`: the scans of a folder, or those that arrive in it, segmented by workers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from segpipe.dicom.channels import Wanted
from segpipe.dicom.policy import Policy
from segpipe.errors import ConfigError
from segpipe.inference.agenda import Agenda, enter, judge, open_agenda
from segpipe.inference.claims import Claims
from segpipe.inference.ending import table_at_end, tell_stopped
from segpipe.inference.engine import Engine, Work
from segpipe.inference.gather import Examination, gather
from segpipe.inference.lease import holding
from segpipe.inference.ledger import Ledger
from segpipe.inference.request import check_request, format_suffix
from segpipe.inference.shard import Shard
from segpipe.inference.table import Row
from segpipe.inference.task import FolderOptions, Task, check_dicom, inputs_of
from segpipe.inference.watch import Arrivals, Incoming
from segpipe.io.atomic import check_folder
from segpipe.progress import Board, board

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class How:
    """Attributes:
    shard: part of the folder.
    timeout: seconds that a scan may be worked on, 0: any.
    watch: also take scans that arrive, until a signal ends the call.
    still: seconds for which the files of a scan that arrives must stay as they are.
    policy: which DICOM series are taken or repaired.
    series: which of them is which channel.
    known: a scan with what is known of it besides its files, where it was only put into the folder to be segmented; None: nothing.
    """

    shard: Shard = field(default_factory=Shard)
    timeout: float = 0.0
    watch: bool = False
    still: float = 5.0
    policy: Policy = field(default_factory=Policy)
    series: tuple[Wanted, ...] = ()
    known: Callable[[Examination], Examination] | None = None


@dataclass
class Call:
    """Attributes:
    each: told the row of each scan at its end.
    incoming: with `watch`, where scans come from, given what the call is about; None: they arrive in the folder.
    """

    engine: Engine
    source: Path
    out: Path
    options: FolderOptions
    how: How
    each: Callable[[Row], None]
    incoming: Callable[[Task], Incoming] | None = None
    _ended: int = 0
    _total: int = 0

    def run(self) -> None:
        """Until every scan has ended; with `watch`, until a signal, or until no more are to come.

        Raises:
            DataError, ConfigError, ModelError: see `check_request`, `gather`, `open_agenda`, and what workers refuse.
        """
        check_request(self.source, self.out, self.options.format)
        task = Task(self.engine.facts(), self.out, format_suffix(self.options.format), self.options)
        folder = [] if self.how.watch else self._gather(task, tell=True)
        scans = [scan for scan in folder if self.how.shard.holds(scan.case)]
        check_dicom(task, scans)
        check_folder(self.out)
        self._total = len(scans)
        with Ledger(self.out) as ledger:
            agenda = open_agenda(task, ledger, scans, folder)
            try:
                with table_at_end(ledger, self._stopped), self._shown() as shown, holding(ledger) as worker:
                    self._segment(task, ledger, agenda, shown, worker)
            except (KeyboardInterrupt, SystemExit):
                if not self.how.watch:
                    raise

    def _gather(self, task: Task, tell: bool) -> list[Examination]:
        found = gather(self.source, self.out, task.facts.channels, tell, task.facts.kinds(self.how.policy, self.how.series))
        return found if self.how.known is None else [self.how.known(scan) for scan in found]

    @contextmanager
    def _shown(self) -> Iterator[Board]:
        if self.how.watch and self.incoming is None:
            log.info(
                "watching %s: scans go into %s when unchanged for %g s; Ctrl-C ends",
                *(self.source, self.out, self.how.still),
            )
        with board("segmenting scans" if self.how.watch else f"segmenting {self._total} scan(s)", self._total) as shown:
            yield shown

    def _segment(self, task: Task, ledger: Ledger, agenda: Agenda, shown: Board, worker: str) -> None:
        ended = partial(self._end, shown)
        for row in agenda.skipped.values():
            ended(row)
        claims = Claims(ledger, task.job, worker, ended)
        claims.add(agenda.todo)
        arrivals = self._arrivals(task)
        more = partial(self._more, task, ledger, arrivals, claims, shown) if self.how.watch else None
        self.engine.work(Work(task, claims, shown, self.how.timeout, more))

    def _end(self, shown: Board, row: Row) -> None:
        self._ended += 1
        shown.advance()
        if self.how.watch:
            log.info("%s: %s", row.case, row.status if row.status == "done" else f"{row.status}: {row.reason}")
        self.each(row)

    def _stopped(self) -> None:
        if self.incoming is not None:
            log.info("stopped in the middle of a scan; the same command goes on")
        elif self.how.watch:
            log.info("no longer watching %s; the same command goes on", self.source)
        else:
            tell_stopped(self._ended, self._total, self.out, self.options.overwrite)

    def _arrivals(self, task: Task) -> Incoming:
        if self.incoming is not None:
            return self.incoming(task)

        def find() -> list[Examination]:
            return [scan for scan in self._gather(task, tell=False) if self.how.shard.holds(scan.case)]

        return Arrivals(find, self.how.still)

    def _more(self, task: Task, ledger: Ledger, arrivals: Incoming, claims: Claims, shown: Board) -> Sequence[Examination] | None:
        """The scans that have arrived and need to be segmented; what would replace somebody's file fails alone. None: no more come."""
        todo: list[Examination] = []
        found = arrivals.look(claims.has)
        if found is None:
            return None
        for scan in found:
            self._total += 1
            shown.grow(self._total)
            entries = ledger.entries([scan.case])
            agenda = Agenda(todo=[scan])
            try:
                done = judge(task, ledger, scan, entries.get(scan.case), inputs_of([scan]))
            except ConfigError as error:
                self._end(shown, Row(scan.case, scan.input, "", "failed", str(error)))
                continue
            if done is None:
                enter(task, ledger, agenda, entries, inputs_of([scan]))
                todo += agenda.todo
            else:
                agenda.skipped[scan.case] = done
            ledger.put(list(agenda.skipped.values()))
            for row in agenda.skipped.values():
                self._end(shown, row)
        return todo
