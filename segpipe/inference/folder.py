"""A folder of scans -> a folder of label maps in this process, one broken scan never stopping the others.

`segpipe predict` does the same with workers of its own (`supervise`), so that it outlives a scan that hangs or ends its process.
Both read the next scan and write the one before while the networks are at one (`pipeline`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from segpipe.dicom.policy import Policy
from segpipe.inference.agenda import open_agenda
from segpipe.inference.claims import Claim, Claims
from segpipe.inference.ending import table_at_end, tell_stopped
from segpipe.inference.gather import Examination, gather
from segpipe.inference.lease import holding
from segpipe.inference.ledger import Ledger
from segpipe.inference.pipeline import Pipeline, side_by_side_pays
from segpipe.inference.predictor import Predictor
from segpipe.inference.request import check_format, check_request, format_suffix
from segpipe.inference.segment import LeaseLostError, Segmenter, facts_of
from segpipe.inference.table import Row
from segpipe.inference.task import FolderOptions, check_dicom
from segpipe.io.atomic import check_folder
from segpipe.progress import Board, Told, board

Each = Callable[[Row], None]


def predict_folder(predictor: Predictor, source: Path, out: Path, options: FolderOptions, each: Each | None = None) -> list[Row]:
    """Segment a scan, or every scan below a folder, into `out`.

    `IN/sub/case.nii.gz` becomes `OUT/sub/case.nii.gz`; `OUT/predictions.sqlite` knows of every scan at any time, `OUT/predictions.csv`
    every few seconds and at the end, `OUT/labels.json` is written at the start. Scans that the ledger has as done, with this model and
    these options, of the same content and with their label map still there, are skipped.

    Args:
        each: called with the row of each scan once it is in the ledger.

    Returns:
        One row for each scan of `source`, in order.

    Raises:
        DataError: `source` is missing, or holds no scan.
        ConfigError: `out` is the input folder or cannot be written; unknown format, or one in which the model has no label map.
    """
    check_request(source, out, options.format)
    facts = facts_of(predictor)
    scans = gather(source, out, facts.channels, kinds=facts.kinds(Policy()))
    return predict_scans(predictor, scans, out, options, each)


def predict_scans(
    predictor: Predictor, scans: Sequence[Examination], out: Path, options: FolderOptions, each: Each | None = None
) -> list[Row]:
    """As `predict_folder`, for scans that are known already.

    Raises:
        ConfigError: as `predict_folder`.
    """
    suffix = format_suffix(options.format)
    check_format(suffix, predictor.plan.pictures)
    check_folder(out)
    segmenter = Segmenter(predictor, out, suffix, options)
    check_dicom(segmenter.task, scans)
    rows: dict[str, Row] = {}

    def ended(row: Row) -> None:
        rows[row.case] = row
        shown.advance()
        if each is not None:
            each(row)

    with Ledger(out) as ledger:
        agenda = open_agenda(segmenter.task, ledger, scans)
        stopped = partial(_tell, rows, scans, out, options)
        with table_at_end(ledger, stopped), board(f"segmenting {len(scans)} scan(s)", len(scans)) as shown, holding(ledger) as worker:
            for row in agenda.skipped.values():
                ended(row)
            claims = Claims(ledger, segmenter.task.job, worker, ended)
            claims.add(agenda.todo)
            pipeline = Pipeline(segmenter, side_by_side=side_by_side_pays(predictor))
            pipeline.run(_Turns(pipeline, claims, shown).feed)
    return [rows[scan.case] for scan in scans]


def _tell(rows: dict[str, Row], scans: Sequence[Examination], out: Path, options: FolderOptions) -> None:
    tell_stopped(len(rows), len(scans), out, options.overwrite)


class _Job:
    """A scan that this call holds; see `pipeline.Job`."""

    def __init__(self, claim: Claim, turns: _Turns) -> None:
        self.scan, self.before = claim.scan, claim.before
        self.followed = turns.claims.waiting > 0
        self._turns = turns
        self._told: Told | None = None

    def mark(self, row: Row) -> None:
        if not self._turns.claims.mark(row):
            raise LeaseLostError

    def told(self, done: int, total: int) -> None:
        if self._told is None:
            self._told = self._turns.shown.parts(f"windows of {self.scan.case}")
        self._told(done, total)

    def stage(self, name: str) -> None:
        """Nobody asks."""

    def end(self, row: Row | None) -> None:
        self._turns.pipeline.soon(partial(self._ended, row))  # whoever is told of rows is told on the thread that called

    def _ended(self, row: Row | None) -> None:
        self._turns.in_hand -= 1
        if self._told is not None:
            self._turns.shown.leave(self._told)
        if row is None:
            self._turns.claims.lost(self.scan.case)
        else:
            self._turns.claims.finish(row)


@dataclass
class _Turns:
    """Gives a pipeline the scans of a call, one after the other, on one thread.

    Attributes:
        in_hand: scans that were given and have not ended.
    """

    pipeline: Pipeline
    claims: Claims
    shown: Board
    in_hand: int = 0

    def feed(self) -> bool:
        """Give the next scan if it is time to; whether any has not ended."""
        if self.pipeline.hungry:
            claim = self._next()
            if claim is not None:
                self.in_hand += 1
                self.pipeline.give(_Job(claim, self))
        return self.claims.open > 0

    def _next(self) -> Claim | None:
        """The next scan; when nothing is in hand, also one that a worker has died of, or that another call has let go of."""
        claim = self.claims.next()
        while claim is None and not self.in_hand:
            claim = self.claims.next_crashed()
            if claim is not None or not self.claims.look_again():
                return claim
            claim = self.claims.next()
        return claim
