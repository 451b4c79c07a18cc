"""The commands and their options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from segpipe import __version__
from segpipe.cli.computing import Device, Memory, Precision, Runtime, Threads, Timeout, checked_computing
from segpipe.cli.learn import plan, preview, train
from segpipe.cli.network import Authority, Certificate, Key, Secret, Title, To, Tries, exchange
from segpipe.cli.node import listen
from segpipe.cli.option_values import in_range, named_label, one_of
from segpipe.cli.output import guarded, set_up
from segpipe.cli.packages import describe, hub, package, verify
from segpipe.cli.series import Description, Number, Policy, SegType, checked_type
from segpipe.cli.server import serve
from segpipe.cli.usage import CommandList, NodeCommand, PathsCommand, SettingsCommand
from segpipe.commands.outcome import Outcome
from segpipe.errors import ConfigError

app = typer.Typer(
    cls=CommandList,
    help="From a folder of scans to a segmentation model: inspect, train, export, predict, evaluate.",
    epilog="`segpipe COMMAND --help` shows an example of each.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"segpipe {__version__}")
        raise typer.Exit


@app.callback()
def start(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks, debug messages and the libraries' warnings.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show results, warnings and errors only.")] = False,
    version: Annotated[bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """Options of the whole program."""
    set_up(debug, quiet)


for learning in (train, plan, preview):
    app.command(cls=SettingsCommand)(guarded(learning))


@app.command()
@guarded
def inspect(
    data: Annotated[str, typer.Argument(metavar="DATA", help="Folder of the data set, or a manifest (CSV or JSON).")],
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Write everything that was found.")] = None,
    layout: Annotated[str, typer.Option(metavar="NAME", help="auto, msd, nnunet, folders, manifest or dicom.")] = "auto",
    images: Annotated[str, typer.Option(metavar="NAME", help="Image folder under DATA.")] = "",
    labels: Annotated[str, typer.Option(metavar="NAME", help="Label folder under DATA.")] = "",
    pattern: Annotated[str, typer.Option(metavar="REGEX", help="On image names: (?P<case>.+)_(?P<channel>t1|t2).")] = "",
    group: Annotated[str, typer.Option(metavar="REGEX", help="On case names, first group: the patient.")] = "",
    channel: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Name of a channel, in their order; repeatable.")] = None,
    ignore: Annotated[list[int] | None, typer.Option(metavar="VALUE", help="Label value that nobody has judged; repeatable.")] = None,
    label_name: Annotated[list[str] | None, typer.Option(metavar="VALUE=NAME", help="Name of a label value; repeatable.")] = None,
    dicom: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="Of --layout dicom: labels.PZ='peri*' ...; repeatable.")
    ] = None,
    policy: Policy = None,
    ids: Annotated[bool, typer.Option("--ids", help="DICOM: show UIDs, descriptions and names of patients.")] = False,
) -> Outcome:
    """Check a data set before training: counts, grids, intensities, labels, and every fault with its cure.

    \b
    segpipe inspect Task04_Hippocampus
    segpipe inspect scans --images t2 --labels zones --json audit.json
    segpipe inspect dicom/
    segpipe inspect dicom/ --layout dicom --dicom labels.tumour='lesion*'

    Of a folder or zip archive of DICOM that is no data set: its studies, series and stacks, and what predict would do with each.

    Exit code 3 when training cannot start.
    """
    from segpipe.commands.inspect import inspect as run
    from segpipe.commands.inspect_dicom import DicomOptions
    from segpipe.commands.option_words import dicom_values, option_words
    from segpipe.config.check import to_settings

    names = dict(named_label("--label-name", text) for text in label_name or [])
    values: dict[str, Any] = {"root": data, "layout": layout, "images": images, "labels": labels, "pattern": pattern, "group": group}
    values["dicom"] = dicom_values(dicom or [])
    with option_words():
        settings = to_settings({"dataset": {**values, "channels": channel or [], "label_names": names, "ignore": ignore or []}}).dataset
    return run(settings, json, DicomOptions(tuple(policy or ()), ids))


@app.command()
@guarded
def convert(
    source: Annotated[Path, typer.Argument(metavar="IN", help="Folder, zip archive or file of DICOM.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder for the NIfTI files.")],
    policy: Policy = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that are there.")] = False,
) -> Outcome:
    """Write a NIfTI file for each DICOM series, its geometry proved against the headers.

    \b
    segpipe convert dicom/ nifti/
    segpipe convert cd.zip nifti/ --policy tilted=accept --policy gap=resample

    Files are named by a hash of the series' UID and its number. Exit code 3 when a series is refused.
    """
    from segpipe.commands.convert import convert as run

    return run(source, out, tuple(policy or ()), overwrite)


@app.command(cls=PathsCommand)
@guarded
def predict(
    paths: Annotated[list[Path], typer.Argument(metavar="MODEL... IN OUT", help="Several models make an ensemble.", show_default=False)],
    device: Device = "auto",
    overlap: Annotated[float, typer.Option(metavar="SHARE", help="Overlap of windows, 0 to 0.95.")] = 0.5,
    batch: Annotated[int, typer.Option(metavar="N", help="Windows a forward pass; 0: by their size.")] = 0,
    format: Annotated[
        list[str] | None,
        typer.Option(
            metavar="EXT", help="nii.gz, nrrd, mha, png ...; of DICOM also dicom-seg, rtstruct, sr, sc; repeatable, or with commas."
        ),
    ] = None,
    probabilities: Annotated[bool, typer.Option("--probabilities", help="Also write the probability of each class.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Segment scans again that are done already.")] = False,
    precision: Precision = "auto",
    threads: Threads = 0,
    runtime: Runtime = "auto",
    compile: Annotated[bool, typer.Option("--compile", help="Compile torch's networks first, about a minute.")] = False,
    tta: Annotated[bool, typer.Option("--tta", help="Average over mirrored windows; its cost is told.")] = False,
    memory_gb: Memory = 0.0,
    workers: Annotated[int | None, typer.Option(metavar="N", help="Scans at a time; default: 1, on Ray what it holds.")] = None,
    timeout: Timeout = 0.0,
    shard: Annotated[str, typer.Option(metavar="I/N", help="Only part I of N of the folder, for job arrays.")] = "",
    watch: Annotated[bool, typer.Option("--watch", help="Go on with scans that arrive in IN, until Ctrl-C.")] = False,
    still: Annotated[float, typer.Option(metavar="SECONDS", help="With --watch: take a scan when unchanged so long.")] = 5.0,
    engine: Annotated[str, typer.Option(metavar="NAME", help="processes of this machine, or ray: a cluster.")] = "processes",
    ray_address: Annotated[str, typer.Option(metavar="HOST:PORT", help="Of the Ray cluster; auto: this machine's.")] = "auto",
    policy: Policy = None,
    seg_type: SegType = "binary",
    series_description: Description = "",
    series_number: Number = 0,
    series: Annotated[
        list[str] | None, typer.Option(metavar="CHANNEL=WHICH", help="DICOM: 'T2=t2*', 'ADC=type=ADC' ...; repeatable.")
    ] = None,
    fetch: Annotated[list[str] | None, typer.Option("--from", metavar="URL", help="Instead of IN: a study or series; repeatable.")] = None,
    to: To = "",
    credentials: Secret = None,
    aet: Title = "SEGPIPE",
    tls_ca: Authority = None,
    tls_cert: Certificate = None,
    tls_key: Key = None,
    tries: Tries = 6,
) -> Outcome:
    """Segment a scan, or a folder of scans with its subfolders: files, and series of DICOM slices, also in zip archives.

    \b
    segpipe predict model.ts scans/ out/
    segpipe predict fold0/model.ts fold1/model.ts scans/ out/ --probabilities
    segpipe predict model.ts scans/ out/ --tta --precision fp32
    segpipe predict model.ts scans/ out/ --workers 4 --timeout 1800
    segpipe predict model.ts scans/ out/ --shard $SLURM_ARRAY_TASK_ID/16
    segpipe predict model.ts incoming/ out/ --watch
    segpipe predict model.ts scans/ out/ --engine ray
    segpipe predict model.ts dicom/ out/ --policy gap=resample
    segpipe predict model.ts dicom/ out/ --format dicom-seg,rtstruct,sr
    segpipe predict model.ts dicom/ out/ --series 'T2=t2*tra*' --series 'ADC=type=ADC'
    segpipe predict model.ts out/ --from dicomweb://pacs:8042/dicom-web/studies/1.2.3 --to dicom://ORTHANC@pacs:4242

    OUT gets a label map for each scan, on its own grid, and predictions.csv. The same command goes on after any end, and several may
    share one OUT. Exit code 3 when some scans failed.
    """
    if len(paths) < (2 if fetch else 3):
        words = "MODEL... OUT with --from" if fetch else "MODEL... IN OUT: segpipe predict model.ts scans/ out/"
        raise ConfigError(f"predict: got {len(paths)} path(s); must be {words}")
    in_range("--overlap", overlap, 0.0, 0.95)
    in_range("--batch", batch, 0, 1024)
    in_range("--workers", 1 if workers is None else workers, 1, 256)
    in_range("--still", still, 0.0, 1e5)
    in_range("--tries", tries, 1, 100)
    chosen, computing = checked_computing(precision, runtime, threads, memory_gb, timeout)
    seg = checked_type(seg_type)
    who: Any = one_of("--engine", engine, ("processes", "ray"))
    from segpipe.commands.predict import PredictOptions
    from segpipe.commands.predict import predict as run

    options = PredictOptions(
        *(device, overlap, batch, ",".join(format or ()), probabilities, overwrite, chosen, threads),
        *(computing, tta, memory_gb, workers or 0, timeout, shard, watch, still),
        *(who, ray_address),
        policy=tuple(policy or ()),
        compile=compile,
        seg_type=seg,
        series_description=series_description,
        series_number=series_number,
        series=tuple(series or ()),
        exchange=exchange(fetch, to, credentials, aet, (tls_ca, tls_cert, tls_key), tries),
    )
    models, source = (paths[:-1], None) if fetch else (paths[:-2], paths[-2])
    return run(models, source, paths[-1], options)


app.command(cls=NodeCommand)(guarded(listen))
app.command()(guarded(serve))


@app.command()
@guarded
def evaluate(
    prediction: Annotated[Path, typer.Argument(metavar="PRED", help="Label map, or folder of label maps.")],
    truth: Annotated[Path, typer.Argument(metavar="TRUTH", help="The true one, or their folder.")],
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Write all results.")] = None,
    csv: Annotated[Path | None, typer.Option(metavar="FILE", help="Write one row a case and label.")] = None,
    plots: Annotated[Path | None, typer.Option(metavar="DIR", help="Write one box plot (PNG) a measure.")] = None,
    label: Annotated[list[str] | None, typer.Option(metavar="VALUE=NAME", help="Name of a label value; repeatable.")] = None,
    tolerance: Annotated[float, typer.Option("--tolerance-mm", "--tolerance", metavar="MM", help="Of the surface Dice.")] = 1.0,
    background: Annotated[int | None, typer.Option(metavar="VALUE", help="The value that is no label.", show_default="0")] = None,
    ignore: Annotated[list[int] | None, typer.Option(metavar="VALUE", help="Truth value that nobody has judged; repeatable.")] = None,
    allow_missing: Annotated[bool, typer.Option("--allow-missing", help="Truths without a prediction are no failure.")] = False,
    resamples: Annotated[int, typer.Option(metavar="N", help="Of the bootstrap behind the 95 % intervals.")] = 1000,
    seed: Annotated[int, typer.Option(metavar="N", help="Of the bootstrap.")] = 0,
    threads: Annotated[int, typer.Option(metavar="N", help="Cases at a time; 0: by the number of cores.")] = 0,
) -> Outcome:
    """Compare predictions with the truth: Dice, surface distances in mm, volumes in ml, with 95 % intervals.

    \b
    segpipe evaluate out/ labelsTs/ --json scores.json --plots plots/
    segpipe evaluate out/ labelsTr/ --allow-missing --label 1=PZ --label 2=TZ
    """
    from segpipe.commands.evaluate import EvaluateOptions
    from segpipe.commands.evaluate import evaluate as run

    names = dict(named_label("--label", text) for text in label or [])
    options = EvaluateOptions(json, csv, plots, tolerance, seed, resamples, names, background, allow_missing, threads, tuple(ignore or ()))
    return run(prediction, truth, options)


@app.command()
@guarded
def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a training, or a model file (.ts).")],
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Model file to write.", show_default="RUN/model.ts")] = None,
    to: Annotated[str, typer.Option(metavar="KIND,...", help="ts (TorchScript), pt2 (torch.export), onnx.")] = "ts",
) -> Outcome:
    """Write the model file of a run again, in one or several formats, each proved equal to the trained network.

    \b
    segpipe export runs/prostate --out prostate.ts
    segpipe export runs/prostate --to ts,pt2,onnx --out prostate
    segpipe export model.ts --to onnx

    With several formats --out names the files without their endings. onnx needs `pip install 'segpipe[cpu]'`.
    """
    from segpipe.commands.export import export as write

    kinds: Any = [one_of("--to", kind.strip(), ("ts", "pt2", "onnx")) for kind in to.split(",")]
    return write(run, out, list(dict.fromkeys(kinds)))


for packaging in (package, verify, describe):
    app.command()(guarded(packaging))
app.add_typer(hub, name="hub")


@app.command()
@guarded
def doctor(json: Annotated[Path | None, typer.Option(metavar="FILE", help="Write everything as JSON.")] = None) -> Outcome:
    """Show versions, devices, processor features, memory and disk, and what is missing for which feature.

    \b
    segpipe doctor --json machine.json
    """
    from segpipe.commands.doctor import doctor as look

    return look(json)
