"""A folder of scans -> a folder of label maps, one broken scan never stopping the others."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from segpipe.errors import ConfigError, DataError, SegpipeError
from segpipe.geometry.grid import Volume
from segpipe.inference.gather import Examination, gather
from segpipe.inference.ledger import PROBABILITIES, TABLE, Ledger, Row, stamp
from segpipe.inference.predictor import Predictor
from segpipe.io.atomic import check_folder, write_text
from segpipe.io.find import SUFFIXES, is_picture, split_name
from segpipe.io.read import read_channels, read_volume
from segpipe.io.write import label_suffix, write_label_map, write_volume
from segpipe.plan.plan import Label
from segpipe.progress import track

log = logging.getLogger(__name__)

LABELS = "labels.json"
"""Names of the label values, beside the label maps."""


@dataclass(frozen=True)
class FolderOptions:
    """Attributes:
    format: extension of the label maps (`nii.gz`, `nrrd`, `mha`, `png` ...); empty: each input's own.
    probabilities: also write `<case>_probabilities.nii.gz` (float32, one component a class, background first).
    overwrite: segment scans again that are done already.
    """

    format: str = ""
    probabilities: bool = False
    overwrite: bool = False


def predict_folder(predictor: Predictor, source: Path, out: Path, options: FolderOptions) -> list[Row]:
    """Segment a scan, or every scan below a folder, into `out`.

    `IN/sub/case.nii.gz` becomes `OUT/sub/case.nii.gz`; `OUT/predictions.csv` is written after every scan, `OUT/labels.json` at
    the start. Scans that the table has as done, with this model and these options, unchanged since and with their label map
    still there, are skipped.

    Returns:
        One row for each scan of `source`, in order.

    Raises:
        DataError: `source` is missing, or holds no scan.
        ConfigError: `out` is the input folder or cannot be written; unknown format.
    """
    check_request(source, out, options)
    return predict_scans(predictor, gather(source, out, [channel.name for channel in predictor.plan.channels]), out, options)


def predict_scans(predictor: Predictor, scans: Sequence[Examination], out: Path, options: FolderOptions) -> list[Row]:
    """As `predict_folder`, for scans that are known already.

    Raises:
        ConfigError: `out` cannot be written; unknown format.
    """
    suffix = _suffix(options.format)
    check_folder(out)
    task = _Task(predictor, out, suffix, options, frozenset(path.resolve() for scan in scans for path in scan.images))
    ledger = Ledger(out / TABLE)
    task.check_targets(scans, ledger)
    _tell_of_another_model(ledger, {scan.case for scan in scans}, predictor, out)
    write_text(out / LABELS, _labels_text(predictor.plan.labels))
    rows: list[Row] = []
    try:
        for scan in track(scans, f"segmenting {len(scans)} scan(s)"):
            row = task.segment(scan, ledger.get(scan.case))
            ledger.put(row)
            rows.append(row)
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

    def check_targets(self, scans: Sequence[Examination], ledger: Ledger) -> None:
        """Refuse to replace inputs, and files that no prediction has written: scans, labels drawn or corrected by hand.

        Raises:
            ConfigError: naming the first such file.
        """
        cure = "choose another output folder, or give --overwrite"
        names = self.out / LABELS
        if not (self.options.overwrite or ledger.rows) and names.exists() and _text(names) != _labels_text(self.predictor.plan.labels):
            raise ConfigError(f"{names}: is there already, and no prediction wrote it: {cure}")
        for scan in scans:
            row, before = self._row(scan), ledger.get(scan.case)
            self._target(row.output)
            if self.options.overwrite or self._is_ours(before, row.output) or self._is_finished(scan, before, row):
                continue
            for path in self._written(row):
                if path.exists():
                    what = (
                        "was changed since it was predicted" if before is not None and before.output == row.output else "is there already"
                    )
                    raise ConfigError(f"{path}: {what}, and would be replaced: {cure}")

    def _is_finished(self, scan: Examination, before: Row | None, row: Row) -> bool:
        try:
            return before is not None and self._is_done(before, replace(row, input_stamp=stamp(scan.images)))
        except DataError:
            return False  # told when its turn comes

    def _is_ours(self, before: Row | None, output: str) -> bool:
        """Whether the label map is as an earlier call has written it."""
        if before is None or before.output != output or not (self.out / output).is_file():
            return False
        return before.output_stamp in ("", stamp([self.out / output]))

    def _written(self, row: Row) -> list[Path]:
        """Every file that the scan's label map and probabilities consist of."""
        target = self.out / row.output
        beside = [target.with_suffix(".raw")] if target.suffix == ".mhd" else []
        return [target, *beside, *([self._probabilities(row.case)] if self.options.probabilities else [])]

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

    def segment(self, scan: Examination, before: Row | None) -> Row:
        """The scan's row, its files written.

        Raises:
            ConfigError: the output cannot be written; every further scan would fail likewise.
        """
        row = self._row(scan)
        try:
            row = replace(row, input_stamp=stamp(scan.images))
            if before is not None and not self.options.overwrite and self._is_done(before, row):
                return replace(before, status="skipped", reason="done before")
            return self._segment(scan, row)
        except ConfigError:
            raise
        except SegpipeError as error:
            reason = str(error)
        except Exception as error:  # a fault in one scan must not stop a night's work on the others
            log.debug("%s", scan.case, exc_info=True)
            reason = f"unexpected {type(error).__name__}: {' '.join(str(error).split())}"
        reason += self._set_aside(before)
        log.warning("%s failed: %s", scan.case, reason)
        return replace(row, output="", reason=reason)

    def _set_aside(self, before: Row | None) -> str:
        """Rename the label map that an earlier call made of another scan or with another model: nobody must take it for the answer."""
        if before is None or not self._is_ours(before, before.output):
            return ""
        old = self.out / before.output
        aside = old.with_name(f"{old.name}.outdated")
        try:
            os.replace(old, aside)  # noqa: PTH105 - replaces an older one
        except OSError as error:
            return f"; the label map of an earlier scan or model is still there ({error.strerror})"
        return f"; the label map of an earlier scan or model is now {aside.name}"

    def _segment(self, scan: Examination, row: Row) -> Row:
        if scan.problem:
            raise DataError(scan.problem)
        target = self._target(row.output)
        start = time.perf_counter()
        volume = read_volume(scan.images[0]) if len(scan.images) == 1 else read_channels(scan.images)
        read = time.perf_counter()
        self._check_kind(scan.images[0])
        unlike = self.predictor.unlike(volume)
        prediction = self.predictor.predict(volume, self.options.probabilities)
        predicted = time.perf_counter()
        if prediction.probabilities is not None:
            write_volume(self._probabilities(row.case), Volume(prediction.probabilities, volume.grid))
        write_label_map(target, prediction.labels, volume.grid)
        seconds = {"read": read - start, **prediction.seconds, "write": time.perf_counter() - predicted}
        voxels = {name: float(count) for name, count in prediction.voxels.items()}
        row = replace(row, status="done", seconds=seconds, output_stamp=stamp([target]))
        if is_picture(scan.images[0]):
            row = replace(row, pixels=voxels)
        else:
            row = replace(row, volumes_ml={name: count * volume.grid.voxel_volume_ml for name, count in voxels.items()})
            unlike += self.predictor.odd_volumes(row.volumes_ml)
        if unlike:
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

    def _probabilities(self, case: str) -> Path:
        return self.out / f"{case}{PROBABILITIES}"

    def _options(self) -> str:
        precision = "bf16" if self.predictor.bf16 else "fp32"
        return f"overlap={self.predictor.overlap:g} precision={precision}"

    def _is_done(self, before: Row, now: Row) -> bool:
        same = all(getattr(before, key) == getattr(now, key) for key in ("output", "input_stamp", "model_sha256", "options"))
        there = (self.out / now.output).is_file() and (not self.options.probabilities or self._probabilities(now.case).is_file())
        return before.status in ("done", "skipped") and same and there


def check_request(source: Path, out: Path, options: FolderOptions) -> str:
    """Refuse what cannot be done before a model is loaded; the extension of the label maps, empty for each input's own.

    Raises:
        DataError: `source` is missing.
        ConfigError: `out` is the input folder or a file, or cannot be written, or holds another program's table; unknown format.
    """
    suffix = _suffix(options.format)
    _check_places(source, out)
    check_folder(out)
    Ledger(out / TABLE)
    return suffix


def _suffix(name: str) -> str:
    """`nii.gz` or `.nii.gz` -> `.nii.gz`; the empty string stays."""
    suffix = f".{name.lower().lstrip('.')}" if name else ""
    if suffix and (suffix not in SUFFIXES or label_suffix(suffix) != suffix):
        allowed = ", ".join(known.lstrip(".") for known in SUFFIXES if label_suffix(known) == known)
        raise ConfigError(f"--format is {name!r}; must be one of {allowed}")
    return suffix


def _check_places(source: Path, out: Path) -> None:
    if not source.exists():
        raise DataError(f"{source}: no such file or folder; give a scan, or a folder with scans")
    if source.is_dir() and source.resolve() == out.resolve():
        raise ConfigError(f"{out} is the input folder, whose scans would be overwritten: choose another output folder")
    if out.exists() and not out.is_dir():
        raise ConfigError(f"{out} is a file; must be a folder for the label maps")
    if not out.exists() and split_name(out)[1].lower() in SUFFIXES:
        raise ConfigError(f"{out} names a file; must be a folder for the label maps (use --format for their format)")


def _labels_text(labels: Sequence[Label]) -> str:
    names: dict[str, Any] = {str(label.value): label.name for label in labels[1:]}
    return json.dumps({"background": labels[0].value, "labels": names}, indent=2)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
