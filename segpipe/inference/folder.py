"""A folder of scans -> a folder of label maps in this process, one broken scan never stopping the others.

`segpipe predict` does the same with workers of its own (`supervise`), so that it outlives a scan that hangs or ends its process.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from segpipe.inference.agenda import open_agenda
from segpipe.inference.claims import Claim, Claims
from segpipe.inference.ending import table_at_end, tell_stopped
from segpipe.inference.gather import Examination, Kinds, gather
from segpipe.inference.lease import holding
from segpipe.inference.ledger import Ledger
from segpipe.inference.predictor import Predictor
from segpipe.inference.request import check_format, check_request, format_suffix
from segpipe.inference.segment import LeaseLostError, Segmenter
from segpipe.inference.table import Row
from segpipe.inference.task import FolderOptions
from segpipe.io.atomic import check_folder
from segpipe.progress import Board, board

Each = Callable[[Row], None]
_POLL_SECONDS = 0.5
"""Between looks at scans that other calls are at."""


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
    scans = gather(source, out, [channel.name for channel in predictor.plan.channels], kinds=Kinds(pictures=predictor.plan.pictures))
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
            while (claim := _next(claims)) is not None:
                _segment(segmenter, claims, claim, shown)
    return [rows[scan.case] for scan in scans]


def _tell(rows: dict[str, Row], scans: Sequence[Examination], out: Path, options: FolderOptions) -> None:
    tell_stopped(len(rows), len(scans), out, options.overwrite)


def _next(claims: Claims) -> Claim | None:
    """The next scan, after waiting for those that other calls are at; None when all have ended."""
    while claims.open:
        claim = claims.next() or claims.next_crashed()
        if claim is not None:
            return claim
        if not claims.look_again() and claims.open:
            time.sleep(_POLL_SECONDS)
    return None


def _segment(segmenter: Segmenter, claims: Claims, claim: Claim, shown: Board) -> None:
    def mark(row: Row) -> None:
        if not claims.mark(row):
            raise LeaseLostError

    told = shown.parts(f"windows of {claim.scan.case}")
    try:
        row = segmenter.segment(claim.scan, claim.before, mark, told)
    except LeaseLostError:
        claims.lost(claim.scan.case)
    else:
        claims.finish(row)
    finally:
        shown.leave(told)
