"""Series of a DICOMweb server -> folders of files, each of which appears once it is whole."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from segpipe.dicom.identity import short
from segpipe.dicom.kind import no_scan
from segpipe.errors import DataError
from segpipe.io.atomic import sweep
from segpipe.pacs.address import WebPlace
from segpipe.pacs.faults import DeniedError, LaterError, RefusedError
from segpipe.pacs.patience import Patience, tried
from segpipe.pacs.web import Web
from segpipe.progress import track

log = logging.getLogger(__name__)

SPOOL = ".fetched"
"""In the output folder; hidden, so that no folder of scans is seen in it."""
_AT_A_TIME = 4
"""Requests: a PACS has other users."""


@dataclass(frozen=True)
class Missing:
    """A series that could not be fetched, by the hashes of its UID and its study's, and why."""

    series: str
    why: str
    study: str = ""


@dataclass(frozen=True)
class Fetched:
    """Attributes:
    origins: where each series is from, by the name of its folder.
    missing: series that could not be fetched.
    """

    origins: dict[str, str]
    missing: list[Missing]


def fetch(web: Web, place: WebPlace, spool: Path, patience: Patience) -> Fetched:
    """Write `SPOOL/<series>/<instance>.dcm` for the series at `place` that may be scans. What is there already is not fetched again.

    A series is fetched into a hidden folder, which is renamed at its end, so that half of one is never taken for a scan.

    Raises:
        DataError: the server cannot be reached, does not let us in, or has no such study.
        ConfigError: the spool cannot be written to.
    """
    fetched = Fetched({}, [])
    for series in [place.series] if place.series else _scans(web, place, patience):
        try:
            _fetch_series(web, place.study, series, spool, patience)
            fetched.origins[short(series)] = WebPlace(place.root, place.study, series).shown
        except DeniedError:
            raise
        except (LaterError, RefusedError) as error:
            log.warning("series %s is not fetched: %s", short(series), error)
            fetched.missing.append(Missing(short(series), str(error), short(place.study)))
    return fetched


def hold_back(spool: Path, fetched: Fetched) -> None:
    """Of what earlier calls have left in the spool, take away what the server did not tell to be whole now.

    A series that could not be fetched waits, hidden, for the next call; what the server no longer has, or no longer as a scan, is removed.
    """
    waiting = {one.series for one in fetched.missing}
    for folder in [path for path in spool.iterdir() if not path.name.startswith(".") and path.name not in fetched.origins]:
        hidden = folder.with_name(f".{folder.name}")
        shutil.rmtree(hidden, ignore_errors=True)
        folder.replace(hidden)
        if folder.name not in waiting:
            shutil.rmtree(hidden)


def _scans(web: Web, place: WebPlace, patience: Patience) -> list[str]:
    found = tried(patience, partial(web.series, place.study))
    for series, modality in found:
        if no_scan(modality):
            log.info("series %s is not fetched: it is %s", short(series), no_scan(modality))
    return [series for series, modality in found if not no_scan(modality)]


def _fetch_series(web: Web, study: str, series: str, spool: Path, patience: Patience) -> None:
    whole, part = spool / short(series), spool / f".{short(series)}"
    instances = tried(patience, partial(web.instances, study, series))
    names = {f"{short(uid)}.dcm": uid for uid in instances}
    if len(names) < len(instances):
        raise DataError(f"series {short(series)}: two instances have the same short hash; fetch it by other means")
    if whole.exists():  # of an earlier call; the series may have grown since
        shutil.rmtree(part, ignore_errors=True)
        whole.replace(part)
    part.mkdir(parents=True, exist_ok=True)
    sweep([part])
    for stray in [path for path in part.iterdir() if path.name not in names]:  # the server no longer has it
        stray.unlink()
    todo = [(uid, part / name) for name, uid in names.items() if not (part / name).exists()]
    _fetch_all(web, (study, series), todo, patience)
    part.replace(whole)


def _fetch_all(web: Web, of: tuple[str, str], todo: Sequence[tuple[str, Path]], patience: Patience) -> None:
    def one(wanted: tuple[str, Path]) -> None:
        tried(patience, partial(web.fetch, *of, *wanted))

    with ThreadPoolExecutor(_AT_A_TIME, thread_name_prefix="fetch") as pool:
        jobs = [pool.submit(one, wanted) for wanted in todo]
        try:
            for job in track(jobs, f"fetching {len(todo)} file(s) of series {short(of[1])}", len(todo)):
                job.result()
        finally:
            for job in jobs:
                job.cancel()
