"""Which scans of a call are to be segmented, which are done, and what must not be replaced: decided before the first one is read."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from segpipe.dicom.request import grid_of
from segpipe.errors import ConfigError, SegpipeError
from segpipe.geometry.grid import CORNER_TOLERANCE_MM
from segpipe.inference.content import scan_hash
from segpipe.inference.gather import Examination
from segpipe.inference.ledger import Entry, Ledger
from segpipe.inference.outputs import known_files, state
from segpipe.inference.table import LEDGER, TABLE, Row
from segpipe.inference.task import Task, inputs_of
from segpipe.io.atomic import sweep, write_text
from segpipe.io.read import apart_mm, read_grid, read_volume
from segpipe.progress import track

log = logging.getLogger(__name__)

LABELS = "labels.json"
"""Names of the label values, beside the label maps."""
_CURE = "choose another output folder, or give --overwrite"
_ROUNDS = 3
"""How often a case is looked at again that other calls change meanwhile; then whoever changed it keeps it."""


@dataclass
class Agenda:
    """Attributes:
    skipped: rows of the scans that need not be segmented, by case.
    todo: the others.
    """

    skipped: dict[str, Row] = field(default_factory=dict)
    todo: list[Examination] = field(default_factory=list)


def open_agenda(task: Task, ledger: Ledger, scans: Sequence[Examination], folder: Sequence[Examination] = ()) -> Agenda:
    """Judge every scan, refuse what must not be, and only then make the folder, name the labels and put the scans into the ledger.

    Args:
        folder: where `scans` are a part (a shard): all, which other calls segment by the same model.

    Raises:
        ConfigError: a scan would replace an input, or a file that no prediction has written or that was changed since; the model would
            rename the labels of other cases; another call with other options is at work on these scans; the folder cannot be written.
    """
    cases, inputs = {scan.case for scan in scans}, inputs_of(scans)
    _check_names(task, ledger, cases | {scan.case for scan in folder})
    entries = ledger.entries([scan.case for scan in scans])
    _check_alone(task, entries)
    agenda = Agenda()
    for scan in track(scans, f"comparing {len(scans)} scan(s) with {LEDGER}"):
        done = judge(task, ledger, scan, entries.get(scan.case), inputs)
        if done is None:
            agenda.todo.append(scan)
        else:
            agenda.skipped[scan.case] = done
    _tell_of_another_model(task, entries)
    _tell_of_other_options(task, agenda, entries)
    ledger.begin()
    for path in sweep({(task.out / scan.case).parent for scan in scans} | {task.out}):
        log.info("%s: removed, a call that was killed has left it", path)
    write_text(task.out / LABELS, labels_text(task))
    ledger.put(list(agenda.skipped.values()))
    enter(task, ledger, agenda, entries, inputs)
    return agenda


def enter(task: Task, ledger: Ledger, agenda: Agenda, entries: dict[str, Entry], inputs: frozenset[Path]) -> None:
    """Let the scans of `agenda.todo` wait in the ledger; those that another call has done meanwhile become skipped ones.

    Args:
        entries: what was known when they were judged.
    """
    fresh = agenda.todo
    for _ in range(_ROUNDS):
        seen = [(scan.case, entries[scan.case].revision if scan.case in entries else 0) for scan in fresh]
        refused = set(ledger.enqueue(seen, task.job))
        if not refused:
            return
        fresh = [scan for scan in fresh if scan.case in refused]
        entries = ledger.entries([scan.case for scan in fresh])
        for scan in fresh:
            entry = entries.get(scan.case)
            done = None if entry is None or entry.held else judge(task, ledger, scan, entry, inputs)
            if done is not None:
                agenda.skipped[scan.case] = done
        agenda.todo = [scan for scan in agenda.todo if scan.case not in agenda.skipped]
        fresh = [scan for scan in fresh if scan.case not in agenda.skipped and not entries[scan.case].held]


def judge(task: Task, ledger: Ledger, scan: Examination, entry: Entry | None, inputs: frozenset[Path]) -> Row | None:
    """The row of a scan that need not be segmented, or None when it must be and may be.

    Raises:
        ConfigError: it would replace an input, or a file that no prediction has written or that was changed since: a scan, labels drawn or
            corrected by hand; names the first such file.
    """
    row = task.row(scan)
    target = task.out / row.output
    if target.resolve() in inputs:
        raise ConfigError(f"{target} is an input and would be overwritten: choose another output folder")
    if task.options.overwrite or (entry is not None and entry.held):
        return None
    done = _finished(task, scan, row, entry.row if entry else None)
    if done is None:
        _check_replaced(task, ledger, row, entry.row if entry else None)
    return done


def _finished(task: Task, scan: Examination, row: Row, before: Row | None) -> Row | None:
    if before is None or before.status not in ("done", "skipped"):
        return None
    try:
        same = all(getattr(before, key) == getattr(row, key) for key in ("output", "model_sha256", "options"))
        if not same or before.input_hash != scan_hash(scan.images, scan.slices):
            return None
        states = [state(path, known_files(task.out, before)) for path in task.files(row)]
    except SegpipeError:
        return None  # told when its turn comes
    reason = "done before"
    if states[0] == "changed" and _is_label_map_of(scan, task.out / row.output):
        reason = "its label map was changed since it was predicted, and is kept; the figures are those of the prediction"
        log.warning("%s: was changed since it was predicted, and is kept", task.out / row.output)
        states[0] = "ours"
    return replace(before, input=row.input, status="skipped", reason=reason) if set(states) == {"ours"} else None


def _check_replaced(task: Task, ledger: Ledger, row: Row, before: Row | None) -> None:
    for path in task.files(row):
        found = state(path, known_files(task.out, before))
        if found in ("foreign", "changed"):  # another call may have written it since
            ledger.read_again()
            found = state(path, known_files(task.out, ledger.get(row.case)))
        if found in ("foreign", "changed"):
            what = "is there already" if found == "foreign" else "was changed since it was predicted"
            raise ConfigError(f"{path}: {what}, and would be replaced: {_CURE}")


def _check_names(task: Task, ledger: Ledger, cases: set[str]) -> None:
    """Refuse to give other names to the values of label maps that are no part of this call, and to replace names of somebody else.

    Raises:
        ConfigError: naming the file.
    """
    path = task.out / LABELS
    if not path.exists() or _text(path) == labels_text(task):
        return
    rows = ledger.rows
    others = [row.case for row in rows if row.case not in cases and row.output and (task.out / row.output).exists()]
    if others:
        raise ConfigError(
            f"{path}: has other labels than the model, and the label maps of {len(others)} other case(s) here ({others[0]} ...) have "
            "their names from it: choose another output folder"
        )
    if not task.options.overwrite and not rows:
        raise ConfigError(f"{path}: is there already, and no prediction wrote it: {_CURE}")


def _check_alone(task: Task, entries: dict[str, Entry]) -> None:
    """Refuse to segment what another call is just segmenting otherwise: both would write the same files."""
    held = next((entry for entry in entries.values() if entry.held and entry.job != task.job), None)
    if held is not None:
        raise ConfigError(
            f"{task.out}: another call is at work there with another model or other options ({held.case}, worker {held.worker}): "
            "wait for its end, or choose another output folder"
        )


def _tell_of_another_model(task: Task, entries: dict[str, Entry]) -> None:
    known = (entry.row for entry in entries.values() if entry.row is not None)
    rows = [row for row in known if row.status != "failed" and row.model_sha256 != task.facts.sha256]
    if rows:
        what = "%s holds %d label map(s) of another model, which are replaced (column model_sha256 of %s)"
        log.warning(what, task.out, len(rows), TABLE)


def _tell_of_other_options(task: Task, agenda: Agenda, entries: dict[str, Entry]) -> None:
    """Say why scans that are done are segmented once more."""
    if task.options.overwrite or not task.options.tell_scans:
        return
    known = [entry.row for scan in agenda.todo if (entry := entries.get(scan.case)) is not None and entry.row is not None]
    before = [row.options for row in known if row.status in ("done", "skipped") and row.model_sha256 == task.facts.sha256]
    others = [options for options in before if options != task.facts.options]
    if others:
        what = "%d scan(s) that are done are segmented again, because they were segmented with other options: %s, now %s"
        log.warning(what, len(others), "; ".join(sorted(set(others))), task.facts.options)


def _is_label_map_of(scan: Examination, path: Path) -> bool:
    """Whether what somebody has put there is whole and lies on the scan: a corrected label map, not a copy that was cut short."""
    try:
        read_volume(path)
        if scan.slices is not None:
            return read_grid(path).same_as(grid_of(scan.slices))
        return apart_mm(path, scan.images[0]) <= CORNER_TOLERANCE_MM
    except SegpipeError:
        return False


def labels_text(task: Task) -> str:
    """What `labels.json` holds."""
    (background, _), *labels = task.facts.labels
    names: dict[str, Any] = {str(value): name for value, name in labels}
    return json.dumps({"background": background, "labels": names}, indent=2)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
