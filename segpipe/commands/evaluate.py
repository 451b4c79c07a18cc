"""`segpipe evaluate`: measure predictions against truths."""

from __future__ import annotations

import json
import logging
import math
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from segpipe.bundle.layout import DOCUMENT, MODEL
from segpipe.commands.outcome import Outcome
from segpipe.errors import ConfigError, DataError
from segpipe.evaluation.folder import Evaluation, evaluate_pairs
from segpipe.evaluation.metric import shown_metrics
from segpipe.evaluation.names import find_label_names
from segpipe.evaluation.pairs import find_pairs
from segpipe.evaluation.plots import box_plot
from segpipe.evaluation.report import to_csv, to_json
from segpipe.evaluation.summary import Summaries, summarise
from segpipe.evaluation.table import case_table, remarks, summary_table
from segpipe.inference.table import TABLE
from segpipe.io.atomic import check_file, check_folder, write_bytes, write_text

log = logging.getLogger(__name__)

_FEWEST_RESAMPLES = 100
_ONNX = ".onnx"
_PICTURES = (".png", ".pdf", ".svg", ".jpg")


@dataclass(frozen=True)
class EvaluateOptions:
    """Attributes:
    json: file for all results; None: not written.
    csv: file with one row a case and label; None: not written.
    plots: folder for one box plot (PNG) a metric; None: not written.
    tolerance_mm: distance up to which surfaces count as equal in the surface Dice (pixels on pictures), 0 or more.
    seed: seed of the bootstrap.
    resamples: resampled means of the bootstrap, at least 100.
    label_names: names by label value, over what the folders tell.
    background: the value that is no label; None: from the predictions' `labels.json`, else 0.
    ignore: truth values whose voxels nobody has judged; empty: the value that `dataset.json` calls `ignore`.
    allow_missing: truths without a prediction are listed, but are no failure: for a held-out share of a data set.
    threads: cases measured at a time; 0: one a processor core, at most 4.
    """

    json: Path | None = None
    csv: Path | None = None
    plots: Path | None = None
    tolerance_mm: float = 1.0
    seed: int = 0
    resamples: int = 1000
    label_names: dict[str, str] = field(default_factory=dict)
    background: int | None = None
    allow_missing: bool = False
    threads: int = 0
    ignore: tuple[int, ...] = ()


def evaluate(prediction: Path, truth: Path, options: EvaluateOptions | None = None) -> Outcome:
    """Measure a file against a file, or a folder against a folder.

    Returns:
        Tables and where the results lie; exit code 3 when a case could not be compared or a truth has no prediction (the
        results of the others are written all the same), else 0.

    Raises:
        ConfigError: an option is out of range, or a place cannot be written.
        DataError: a path is missing, nothing matches, or no case could be compared.
    """
    options = options or EvaluateOptions()
    _check(options)
    for path in (prediction, truth):
        if not path.exists():
            raise DataError(f"{path}: not there; must be a label map or a folder of label maps: check the path")
        if _is_model(path):
            how = f"segpipe predict {path} SCANS OUT, then segpipe evaluate OUT TRUTH"
            raise DataError(f"{path}: is a model or a package, and label maps are compared: {how}")
    if prediction.resolve() == truth.resolve():
        raise ConfigError(f"{prediction} is given as prediction and as truth; give two: segpipe evaluate PRED TRUTH")
    if (truth / TABLE).is_file() and not (prediction / TABLE).is_file():
        log.warning("the truths lie in a folder of predictions (%s holds %s): were PRED and TRUTH swapped?", truth, TABLE)
    names = find_label_names(prediction, truth, options.label_names, options.background, options.ignore)
    evaluation = evaluate_pairs(find_pairs(prediction, truth), names, options.tolerance_mm, options.threads)
    _warn_of_names(evaluation, options.label_names)
    summaries = summarise(evaluation, options.resamples, options.seed)
    written = _write(evaluation, summaries, options)
    shown = [
        summary_table(evaluation, summaries, options.tolerance_mm),
        case_table(evaluation),
        *remarks(evaluation, summaries),
        *(f"written: {path}" for path in written),
    ]
    missing = bool(evaluation.without_prediction) and not options.allow_missing
    return Outcome(shown, DataError.exit_code if evaluation.errors or missing else 0)


def _is_model(path: Path) -> bool:
    """Whether `segpipe predict` would take it: a package, as a folder or an archive, or a model file, each with its document inside."""
    if path.is_dir():
        return (path / DOCUMENT).is_file() and (path / MODEL).is_file()
    if path.suffix == _ONNX:
        return True
    try:
        with zipfile.ZipFile(path) as archive:
            return any(PurePosixPath(name).name == DOCUMENT for name in archive.namelist())
    except (zipfile.BadZipFile, OSError, ValueError):
        return False


def _warn_of_names(evaluation: Evaluation, names: Mapping[str, str]) -> None:
    """Names that were given for values that are not judged: a slip, which would show in the tables as a label without its name."""
    for value, name in names.items():
        if int(value) not in evaluation.labels:
            log.warning("--label %s=%s: no truth holds a label %s, the name is not used: check the value", value, name, value)


def _check(options: EvaluateOptions) -> None:
    """Refuse bad options before anything is read."""
    if not (math.isfinite(options.tolerance_mm) and options.tolerance_mm >= 0):
        raise ConfigError(f"--tolerance is {options.tolerance_mm:g} mm; must be 0 or more, such as 1")
    if options.resamples < _FEWEST_RESAMPLES:
        raise ConfigError(f"--resamples is {options.resamples}; must be at least {_FEWEST_RESAMPLES}, such as 1000")
    if options.seed < 0:
        raise ConfigError(f"--seed is {options.seed}; must be 0 or more")
    if options.threads < 0:
        raise ConfigError(f"--threads is {options.threads}; must be 0 (one a core) or more")
    for path in (options.json, options.csv):
        if path is not None:
            check_file(path)
    if options.plots is not None:
        if options.plots.suffix.lower() in _PICTURES:
            raise ConfigError(
                f"--plots {options.plots}: names a picture; must be a folder, which gets one picture a metric: drop the ending"
            )
        check_folder(options.plots)


def _write(evaluation: Evaluation, summaries: Summaries, options: EvaluateOptions) -> list[Path]:
    """Write what was asked for, and tell where it lies."""
    written = []
    if options.json is not None:
        document = to_json(evaluation, summaries, options.tolerance_mm, options.resamples, options.seed)
        write_text(options.json, json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
        written.append(options.json)
    if options.csv is not None:
        write_text(options.csv, to_csv(evaluation))
        written.append(options.csv)
    if options.plots is not None:
        for metric in shown_metrics(evaluation.picture):
            write_bytes(options.plots / f"{metric.name}.png", box_plot(evaluation, metric, options.tolerance_mm))
        written.append(options.plots)
    return written
