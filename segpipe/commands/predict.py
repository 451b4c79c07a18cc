"""`segpipe predict`: label maps for a scan or a folder of scans, from model files alone."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.table import Table

from segpipe.commands.outcome import Outcome
from segpipe.errors import ConfigError, DataError
from segpipe.inference.computing import Wanted, choose_computing
from segpipe.inference.folder import Each, FolderOptions, predict_scans
from segpipe.inference.gather import gather
from segpipe.inference.ledger import TABLE, Row
from segpipe.inference.predictor import Precision, Predictor
from segpipe.inference.request import check_request
from segpipe.package.device import choose_device
from segpipe.package.model_file import load_models
from segpipe.package.precision import fast_bf16
from segpipe.package.runtime import Runtime

log = logging.getLogger(__name__)

_MODEL = "model.ts"
_ENDINGS = (".ts", ".pt2", ".onnx")
_LONG_SECONDS = 10.0
"""Of the network on one scan, from which on another precision is worth a thought."""


@dataclass(frozen=True)
class PredictOptions:
    """Attributes:
    device: auto (a GPU where there is one), cpu, cuda or cuda:N.
    overlap: of neighbouring windows, as a share of the window, 0 to below 1.
    batch: windows a forward pass, 0: by the size of the window; lower it when memory is short.
    format: extension of the label maps, `nii.gz`, `nrrd`, `mha`, `png` ...; empty: each input's own.
    probabilities: also write the probability of each class, `<case>_probabilities.nii.gz`.
    overwrite: segment scans again that are done already.
    precision: fp32 (the same label map on every machine), bf16 (faster where the hardware has it), auto (bf16 where fast); bf16 is
        kept only where it gives the labels of fp32 on a window of the first scan.
    threads: processor threads, 0: all cores.
    runtime: what computes the network: torch, openvino (on the processor), or auto (openvino where it is installed and pays).
    """

    device: str = "auto"
    overlap: float = 0.5
    batch: int = 0
    format: str = ""
    probabilities: bool = False
    overwrite: bool = False
    precision: Precision = "fp32"
    threads: int = 0
    runtime: Runtime = "auto"


def predict(models: list[Path], source: Path, out: Path, options: PredictOptions) -> Outcome:
    """Segment `source` into the folder `out`; several models are an ensemble.

    Args:
        models: model files, or run folders that hold a `model.ts`.

    Returns:
        A closing table; exit code 0 when every scan has its label map, 3 when some failed.

    Raises:
        ModelError, ConfigError, DataError: see `load_models`, `Predictor`, `choose_computing`, `predict_scans`.
    """
    _check_order(models, source, out)
    wanted = FolderOptions(options.format, options.probabilities, options.overwrite)
    check_request(source, out, options.format)  # before seconds go into loading models
    if options.threads:
        torch.set_num_threads(options.threads)
    device = choose_device(options.device)
    loaded = [model for path in models for model in load_models(path / _MODEL if path.is_dir() else path, device)]
    Predictor(loaded, device, options.overlap, options.batch, options.precision)  # refuses models that do not fit before they are converted
    scans = gather(source, out, [channel.name for channel in loaded[0].plan.channels])
    computing = choose_computing(loaded, device, Wanted(options.runtime, options.precision, options.threads), scans)
    precision: Precision = "bf16" if computing.bf16 else "fp32"
    predictor = Predictor(computing.models, device, options.overlap, options.batch, precision)
    rows = predict_scans(predictor, scans, out, wanted, _precision_advice(predictor))
    failed = any(row.status == "failed" for row in rows)
    what = f"label maps and {TABLE}" if any(row.output for row in rows) else TABLE
    return Outcome([_table(rows), *_failures(rows), f"{what} in {out}"], DataError.exit_code if failed else 0)


def _precision_advice(predictor: Predictor) -> Each:
    """Tells once, after the first scan that was segmented, that bf16 is faster, where it is and the scan took long."""
    waiting = not predictor.bf16 and fast_bf16(predictor.device)

    def look(row: Row) -> None:
        nonlocal waiting
        if not waiting or row.status != "done":
            return
        waiting = False
        if row.seconds["network"] > _LONG_SECONDS:
            told = "the network took %.0f s in fp32; this machine is faster with --precision bf16 (label maps differ in a few voxels)"
            log.info(told, row.seconds["network"])

    return look


def _check_order(models: list[Path], source: Path, out: Path) -> None:
    """Refuse IN MODEL OUT."""
    if len(models) == 1 and _is_model(source) and models[0].exists() and not _is_model(models[0]):
        raise ConfigError(
            f"{source} is a model and {models[0]} is none; the order is MODEL IN OUT: segpipe predict {source} {models[0]} {out}"
        )


def _is_model(path: Path) -> bool:
    return (path / _MODEL).is_file() or (path.is_file() and path.suffix in _ENDINGS)


def _table(rows: Sequence[Row]) -> Table:
    counts = Counter(row.status for row in rows)
    seconds = sum(sum(row.seconds.values()) for row in rows if row.status == "done")
    table = Table(title=f"{len(rows)} scan(s)")
    for column in ("done", "skipped (done before)", "failed", "seconds a scan"):
        table.add_column(column, justify="right")
    each = f"{seconds / counts['done']:.2f}" if counts["done"] else "-"
    table.add_row(str(counts["done"]), str(counts["skipped"]), str(counts["failed"]), each)
    return table


def _failures(rows: Sequence[Row]) -> list[str]:
    """One line a reason, with the cases that it stopped."""
    cases: dict[str, list[str]] = {}
    for row in rows:
        if row.status == "failed":
            cases.setdefault(row.reason, []).append(row.case)
    return [f"failed  {_some(names)}: {reason}" for reason, names in cases.items()]


def _some(names: list[str], most: int = 3) -> str:
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest
