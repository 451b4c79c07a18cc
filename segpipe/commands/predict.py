"""`segpipe predict`: label maps for a scan or a folder of scans, from model files alone.

The network runs in worker processes; torch is not imported here, and a worker is started before anything else is.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from segpipe.bundle.contents import is_package
from segpipe.bundle.load import find_model, is_label
from segpipe.commands.outcome import Outcome
from segpipe.cores import available_cores
from segpipe.dicom.channels import parse_wanted
from segpipe.dicom.policy import parse_policy
from segpipe.dicom.writing.wanted import KINDS, SegType, Wanted
from segpipe.errors import ConfigError, DataError
from segpipe.inference.crew import crew_of
from segpipe.inference.messages import Order
from segpipe.inference.request import dicom_kinds
from segpipe.inference.shard import parse_shard
from segpipe.pacs.exchange import Exchange

if TYPE_CHECKING:
    from segpipe.inference.engine import Engine

log = logging.getLogger(__name__)

_MODEL = "model.ts"
_ENDINGS = (".ts", ".pt2", ".onnx")


@dataclass(frozen=True)
class PredictOptions:
    """Attributes:
    device: auto (a GPU where there is one), cpu, cuda or cuda:N.
    overlap: of neighbouring windows, as a share of the window, 0 to below 1.
    batch: windows a forward pass, 0: by the size of the window; lower it when memory is short.
    format: extension of the label maps, `nii.gz`, `nrrd`, `mha`, `png` ...; empty: each input's own; also kinds of DICOM objects, see
        `FolderOptions`.
    probabilities: also write the probability of each class, `<case>_probabilities.nii.gz`.
    overwrite: segment scans again that are done already.
    precision: fp32 (with runtime torch the same label map on every machine), bf16 (faster where the hardware has it), auto (bf16 where
        it is fast and the training has measured that it gives the same labels).
    threads: processor threads of each worker, 0: all cores, shared among the workers.
    runtime: what computes the network: torch, openvino (on the processor), or auto (openvino where it is installed and pays).
    tta: average over the mirrorings that the plan allows.
    memory_gb: most memory of a worker, 0: no limit.
    workers: processes that segment a scan each; 0: one, with Ray as many as the cluster has room for.
    timeout: seconds that a scan may be worked on, 0: any.
    shard: `3/16`, the third of sixteen parts of the folder; empty: all of it.
    watch: also segment scans that arrive later, until Ctrl-C or SIGTERM.
    still: with `watch`, seconds for which a scan's files must stay as they are before it is taken.
    engine: who segments: worker processes of this machine, or a Ray cluster.
    ray_address: of that cluster, `auto` or `HOST:PORT`.
    policy: `CLASS=ACTION` words, which DICOM series are taken or repaired.
    compile: compile the networks of torch, where that gives the same.
    seg_type, series_description, series_number: of DICOM objects, see `Wanted`.
    series: `CHANNEL=WHICH` words, which DICOM series of a study is which channel.
    exchange: where scans are fetched from, and where results are sent.
    """

    device: str = "auto"
    overlap: float = 0.5
    batch: int = 0
    format: str = ""
    probabilities: bool = False
    overwrite: bool = False
    precision: Literal["fp32", "bf16", "auto"] = "auto"
    threads: int = 0
    runtime: Literal["auto", "torch", "openvino"] = "auto"
    tta: bool = False
    memory_gb: float = 0.0
    workers: int = 0
    timeout: float = 0.0
    shard: str = ""
    watch: bool = False
    still: float = 5.0
    engine: Literal["processes", "ray"] = "processes"
    ray_address: str = "auto"
    policy: tuple[str, ...] = ()
    compile: bool = False
    series: tuple[str, ...] = ()
    seg_type: SegType = "binary"
    series_description: str = ""
    series_number: int = 0
    exchange: Exchange = field(default_factory=Exchange)

    @property
    def words(self) -> dict[str, Any]:
        """What DICOM objects are called, as `Order` and `FolderOptions` take it."""
        return {"seg_type": self.seg_type, "series_description": self.series_description, "series_number": self.series_number}


def predict(models: list[Path], source: Path | None, out: Path, options: PredictOptions) -> Outcome:
    """Segment `source` into the folder `out`; several models are an ensemble.

    Args:
        models: model files, packages, `NAME@VERSION` of packages, or run folders that hold a `model.ts`.
        source: None: what `options.exchange` fetches.

    Returns:
        A closing table; exit code 0 when every scan has its label map, and its results are where they were to be sent, 3 when some failed.

    Raises:
        ModelError, ConfigError, DataError: see `load_models`, `Predictor`, `Call`, `fetch`.
    """
    if source is not None:
        _check_order(models, source, out)
    elif len(models) > 1 and not _is_model(models[-1]):
        raise ConfigError(f"{models[-1]} is no model; with --from there is no IN: segpipe predict {models[0]} {out} --from URL")
    shard, policy, series = parse_shard(options.shard), parse_policy(options.policy), parse_wanted(options.series)
    options.exchange.check()
    if options.watch and source is None:
        raise ConfigError("--watch: --from fetches what is there now; must be a folder in which scans arrive: see segpipe listen --help")
    if options.watch and source is not None and source.is_file():
        raise ConfigError(f"--watch: {source} is a file; must be a folder in which scans arrive")
    options = with_objects(options)
    with engine_of(models, out, options) as engine:
        from segpipe.commands.closing import Closing
        from segpipe.commands.post import Post
        from segpipe.inference.call import Call, How
        from segpipe.inference.ending import sigterm_ends
        from segpipe.inference.table import TABLE
        from segpipe.inference.task import FolderOptions

        closing = Closing()
        wanted = FolderOptions(options.format, options.probabilities, options.overwrite, **options.words)
        how = How(shard, options.timeout, options.watch, options.still, policy, series)
        with sigterm_ends(), Post(options.exchange, out, closing).open() as post, post.scans(source) as scans:
            how = how if source is not None else replace(how, known=post.known)
            Call(engine, scans, out, wanted, how, post.each).run()
            post.finish()
    what = f"label maps and {TABLE}" if closing.files else TABLE
    failed = closing.failed or post.failed
    lines = [*closing.failures(), *closing.warnings(), *post.lines(), f"{what} in {out}"]
    return Outcome([closing.table(), *lines], DataError.exit_code if failed else 0)


def with_objects(options: PredictOptions) -> PredictOptions:
    """The options with a kind of DICOM object among the formats where results are sent: nothing else can be.

    Raises:
        ConfigError: words that no DICOM object can have.
    """
    if options.exchange.to and not dicom_kinds(options.format):
        options = replace(options, format=",".join(word for word in (options.format, KINDS[0]) if word))
    Wanted(dicom_kinds(options.format), options.seg_type, options.series_description, options.series_number)
    return options


@contextmanager
def engine_of(models: list[Path], out: Path, options: PredictOptions) -> Iterator[Engine]:
    """Who segments; what takes long to start is started before anything else is imported."""
    order = _order(models, out, options)
    if options.engine == "ray":
        from segpipe.inference.cluster.ray_engine import ray_engine

        with ray_engine(order, options.ray_address, options.workers) as cluster:
            yield cluster
        return
    with crew_of(order, options.workers or 1) as crew:
        from segpipe.inference.engine import Processes

        yield Processes(crew)


def _order(models: list[Path], out: Path, options: PredictOptions) -> Order:
    found = [find_model(path) for path in models]
    return Order(
        models=tuple(str(one.path) for one in found),
        hashes=tuple(one.sha256 for one in found),
        out=str(out),
        device=options.device,
        overlap=options.overlap,
        batch=options.batch,
        precision=options.precision,
        runtime=options.runtime,
        compile=options.compile,
        tta=options.tta,
        memory_gb=options.memory_gb,
        threads=options.threads,
        threads_most=max(1, available_cores() // options.workers) if options.workers > 1 else 0,
        format=options.format,
        probabilities=options.probabilities,
        **options.words,
        level=logging.getLogger("segpipe").getEffectiveLevel(),
    )


def _check_order(models: list[Path], source: Path, out: Path) -> None:
    """Refuse IN MODEL OUT."""
    if len(models) == 1 and _is_model(source) and models[0].exists() and not _is_model(models[0]):
        raise ConfigError(
            f"{source} is a model and {models[0]} is none; the order is MODEL IN OUT: segpipe predict {source} {models[0]} {out}"
        )


def _is_model(path: Path) -> bool:
    return is_label(path) or is_package(path) or (path / _MODEL).is_file() or (path.is_file() and path.suffix in _ENDINGS)
