"""A folder of scans -> a folder of label maps, one broken scan never stopping the others."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from segpipe.errors import ConfigError, DataError, SegpipeError
from segpipe.geometry.grid import CORNER_TOLERANCE_MM, Volume
from segpipe.inference.content import scan_hash
from segpipe.inference.gather import Examination, gather
from segpipe.inference.ledger import PROBABILITIES, TABLE, Ledger, Row
from segpipe.inference.outputs import WRITING, hashes, known_files, output_files, set_aside, state
from segpipe.inference.predictor import Predictor
from segpipe.inference.request import check_format, check_request, format_suffix
from segpipe.io.atomic import check_folder, write_text
from segpipe.io.find import is_picture
from segpipe.io.read import apart_mm, read_channels, read_volume
from segpipe.io.write import label_suffix, write_label_map, write_volume
from segpipe.plan.plan import Label
from segpipe.progress import Told, track, track_parts

log = logging.getLogger(__name__)

LABELS = "labels.json"
"""Names of the label values, beside the label maps."""
_CURE = "choose another output folder, or give --overwrite"


@dataclass(frozen=True)
class FolderOptions:
    """Attributes:
    format: extension of the label maps (`nii.gz`, `nrrd`, `mha`, `png` ...); empty: each input's own.
    probabilities: also write `<case>_probabilities.nii.gz` (float32, one component a class, background first).
    overwrite: segment scans again that are done already.
    tell_unlike: say of each scan that is unlike the training scans; the table holds it all the same.
    """

    format: str = ""
    probabilities: bool = False
    overwrite: bool = False
    tell_unlike: bool = True


Each = Callable[[Row], None]


def predict_folder(predictor: Predictor, source: Path, out: Path, options: FolderOptions, each: Each | None = None) -> list[Row]:
    """Segment a scan, or every scan below a folder, into `out`.

    `IN/sub/case.nii.gz` becomes `OUT/sub/case.nii.gz`; `OUT/predictions.csv` is written after every scan, `OUT/labels.json` at
    the start. Scans that the table has as done, with this model and these options, of the same content and with their label map
    still there, are skipped.

    Args:
        each: called with the row of each scan once it is in the table.

    Returns:
        One row for each scan of `source`, in order.

    Raises:
        DataError: `source` is missing, or holds no scan.
        ConfigError: `out` is the input folder or cannot be written; unknown format, or one in which the model has no label map.
    """
    check_request(source, out, options.format)
    scans = gather(source, out, [channel.name for channel in predictor.plan.channels])
    return predict_scans(predictor, scans, out, options, each)


def predict_scans(
    predictor: Predictor, scans: Sequence[Examination], out: Path, options: FolderOptions, each: Each | None = None
) -> list[Row]:
    """As `predict_folder`, for scans that are known already.

    Raises:
        ConfigError: as `predict_folder`.
    """
    suffix = format_suffix(options.format)
    check_format(suffix, predictor.plan)
    check_folder(out)
    ledger = Ledger(out / TABLE)
    task = _Task(predictor, out, suffix, options, frozenset(path.resolve() for scan in scans for path in scan.images), ledger)
    cases = {scan.case for scan in scans}
    task.check_names(cases)
    finished = task.finished(scans)
    _tell_of_another_model(ledger, cases, predictor, out)
    write_text(out / LABELS, _labels_text(predictor.plan.labels))
    rows: list[Row] = []
    try:
        for scan, told in track_parts(scans, f"segmenting {len(scans)} scan(s)", lambda scan: f"windows of {scan.case}"):
            row = finished.get(scan.case) or task.segment(scan, told)
            ledger.put(row)
            rows.append(row)
            if each is not None:
                each(row)
    except KeyboardInterrupt:
        log.warning(
            "stopped after %d of %d scan(s), whose label maps are in %s; the same command%s does the others",
            *(len(rows), len(scans), out, " without --overwrite" if options.overwrite else ""),
        )
        raise
    return rows


def _tell_of_another_model(ledger: Ledger, cases: set[str], predictor: Predictor, out: Path) -> None:
    others = [row for row in ledger.rows if row.case in cases and row.status != "failed" and row.model_sha256 != predictor.sha256]
    if others:
        log.warning("%s holds %d label map(s) of another model, which are replaced (column model_sha256 of %s)", out, len(others), TABLE)


@dataclass(frozen=True)
class _Task:
    """What is the same for every scan of a call."""

    predictor: Predictor
    out: Path
    suffix: str
    options: FolderOptions
    inputs: frozenset[Path]
    ledger: Ledger

    def check_names(self, cases: set[str]) -> None:
        """Refuse to give other names to the values of label maps that are no part of this call, and to replace names of somebody else.

        Raises:
            ConfigError: naming the file.
        """
        path = self.out / LABELS
        if not path.exists() or _text(path) == _labels_text(self.predictor.plan.labels):
            return
        others = [row.case for row in self.ledger.rows if row.case not in cases and row.output and (self.out / row.output).exists()]
        if others:
            raise ConfigError(
                f"{path}: has other labels than the model, and the label maps of {len(others)} other case(s) here ({others[0]} ...) have "
                "their names from it: choose another output folder"
            )
        if not self.options.overwrite and not self.ledger.rows:
            raise ConfigError(f"{path}: is there already, and no prediction wrote it: {_CURE}")

    def finished(self, scans: Sequence[Examination]) -> dict[str, Row]:
        """The rows of the scans that need not be segmented, by case.

        Raises:
            ConfigError: of the others, one would replace an input, or a file that no prediction has written or that was changed since:
                a scan, labels drawn or corrected by hand; names the first such file.
        """
        found = {}
        for scan in track(scans, f"comparing {len(scans)} scan(s) with {TABLE}"):
            row = self._row(scan)
            self._target(row.output)
            if self.options.overwrite:
                continue
            done = self._finished(scan, row)
            if done is None:
                self._check_replaced(row)
            else:
                found[scan.case] = done
        return found

    def _finished(self, scan: Examination, row: Row) -> Row | None:
        before = self.ledger.get(scan.case)
        if before is None or before.status not in ("done", "skipped"):
            return None
        try:
            same = all(getattr(before, key) == getattr(row, key) for key in ("output", "model_sha256", "options"))
            if not same or before.input_hash != scan_hash(scan.images):
                return None
            states = [state(path, known_files(self.out, before)) for path in self._files(row)]
        except SegpipeError:
            return None  # told when its turn comes
        reason = "done before"
        if states[0] == "changed" and _is_label_map_of(scan, self.out / row.output):
            reason = "its label map was changed since it was predicted, and is kept; the figures are those of the prediction"
            log.warning("%s: was changed since it was predicted, and is kept", self.out / row.output)
            states[0] = "ours"
        return replace(before, input=row.input, status="skipped", reason=reason) if set(states) == {"ours"} else None

    def _check_replaced(self, row: Row) -> None:
        for path in self._files(row):
            found = state(path, known_files(self.out, self.ledger.get(row.case)))
            if found in ("foreign", "changed"):
                self.ledger.read_again()  # another process may have written it since
                found = state(path, known_files(self.out, self.ledger.get(row.case)))
            if found in ("foreign", "changed"):
                what = "is there already" if found == "foreign" else "was changed since it was predicted"
                raise ConfigError(f"{path}: {what}, and would be replaced: {_CURE}")

    def _files(self, row: Row) -> list[Path]:
        return output_files(self.out, row.case, row.output, self.options.probabilities)

    def _row(self, scan: Examination) -> Row:
        return Row(
            case=scan.case,
            input=";".join(str(path.resolve()) for path in scan.images),
            output=self._output(scan),
            status="failed",
            model_sha256=self.predictor.sha256,
            options=self._options(),
        )

    def _output(self, scan: Examination) -> str:
        return scan.case + (self.suffix or label_suffix(scan.suffix))

    def segment(self, scan: Examination, told: Told) -> Row:
        """The scan's row, its files written.

        Raises:
            ConfigError: the output cannot be written; every further scan would fail likewise.
        """
        row = self._row(scan)
        try:
            row = replace(row, input_hash=scan_hash(scan.images))
            return self._segment(scan, row, told)
        except ConfigError:
            raise
        except SegpipeError as error:
            reason = str(error)
        except Exception as error:  # a fault in one scan must not stop a night's work on the others
            log.debug("%s", scan.case, exc_info=True)
            reason = f"unexpected {type(error).__name__}: {' '.join(str(error).split())}"
        reason = "; ".join(part for part in (reason, self._set_aside_ours(scan.case)) if part)
        log.warning("%s failed", scan.case)  # why is in the row, for whoever closes the call
        return replace(row, output="", reason=reason)

    def _set_aside_ours(self, case: str) -> str:
        """What calls before, or this one before it failed, have written of the case; what was changed by hand stays."""
        known = known_files(self.out, self.ledger.get(case))
        return set_aside([path for path in known if state(path, known) == "ours"])

    def _start(self, row: Row) -> None:
        """Tell the table which files are about to be written, so that a call that goes on after a cut takes them for ours.

        Probabilities that this call does not write again would be those of another label map.
        """
        files, known = self._files(row), known_files(self.out, self.ledger.get(row.case))
        told = set_aside([path for path in known if path.name.endswith(PROBABILITIES) and path not in files])
        if told:
            log.warning("%s: %s", row.case, told)
        self.ledger.put(replace(row, status="started", output_hash=";".join(WRITING for _ in files)))

    def _segment(self, scan: Examination, row: Row, told: Told) -> Row:
        if scan.problem:
            raise DataError(scan.problem)
        target = self._target(row.output)
        start = time.perf_counter()
        volume = read_volume(scan.images[0]) if len(scan.images) == 1 else read_channels(scan.images)
        read = time.perf_counter()
        self._check_kind(scan.images[0])
        unlike = self.predictor.unlike(volume)
        prediction = self.predictor.predict(volume, self.options.probabilities, told)
        predicted = time.perf_counter()
        self._start(row)
        if prediction.probabilities is not None:
            write_volume(self._files(row)[-1], Volume(prediction.probabilities, volume.grid))
        write_label_map(target, prediction.labels, volume.grid)
        seconds = {"read": read - start, **prediction.seconds, "write": time.perf_counter() - predicted}
        voxels = {name: float(count) for name, count in prediction.voxels.items()}
        row = replace(row, status="done", seconds=seconds, output_hash=hashes(self._files(row)))
        if is_picture(scan.images[0]):
            row = replace(row, pixels=voxels)
        else:
            row = replace(row, volumes_ml={name: count * volume.grid.voxel_volume_ml for name, count in voxels.items()})
            unlike += self.predictor.odd_volumes(row.volumes_ml)
        if unlike and self.options.tell_unlike:
            log.warning("%s is unlike the training scans, look at its label map: %s", scan.case, "; ".join(unlike))
        return replace(row, warning="; ".join(unlike))

    def _check_kind(self, image: Path) -> None:
        """A picture has neither millimetres nor the axes of a patient: what a model of volumes sees of it is turned and scaled anyhow."""
        if is_picture(image) and not self.predictor.plan.pictures:
            raise DataError(
                f"{image}: is a picture, without millimetres; the model was trained on volumes: give the volume that it was made from"
            )
        if self.predictor.plan.pictures and not is_picture(image):
            raise DataError(f"{image}: is a volume; the model was trained on pictures: give pictures like those of its training")

    def _target(self, output: str) -> Path:
        target = self.out / output
        if target.resolve() in self.inputs:
            raise ConfigError(f"{target} is an input and would be overwritten: choose another output folder")
        return target

    def _options(self) -> str:
        precision = "bf16" if self.predictor.bf16 else "fp32"
        moved = " offsets=" + ",".join(f"{offset:g}" for offset in self.predictor.offsets) if self.predictor.offsets else ""
        runtimes = ",".join(sorted({model.runtime for model in self.predictor.models}))
        runtime = "" if runtimes == "torch" else f" runtime={runtimes}"
        return f"overlap={self.predictor.overlap:g} precision={precision}{runtime}{moved}"


def _is_label_map_of(scan: Examination, path: Path) -> bool:
    """Whether what somebody has put there is whole and lies on the scan: a corrected label map, not a copy that was cut short."""
    try:
        read_volume(path)
        return apart_mm(path, scan.images[0]) <= CORNER_TOLERANCE_MM
    except SegpipeError:
        return False


def _labels_text(labels: Sequence[Label]) -> str:
    names: dict[str, Any] = {str(label.value): label.name for label in labels[1:]}
    return json.dumps({"background": labels[0].value, "labels": names}, indent=2)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
