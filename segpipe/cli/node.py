"""`segpipe listen` and its options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from segpipe.cli.computing import Device, Memory, Precision, Runtime, Threads, Timeout, checked_computing
from segpipe.cli.network import Authority, Certificate, Key, Secret, Title, To, exchange
from segpipe.cli.option_values import in_range
from segpipe.cli.series import Description, Number, Policy, SegType, checked_type
from segpipe.commands.outcome import Outcome
from segpipe.errors import ConfigError


def listen(
    paths: Annotated[list[Path], typer.Argument(metavar="MODEL... OUT", help="Several models make an ensemble.", show_default=False)],
    port: Annotated[int, typer.Option(metavar="N", help="To listen at.")] = 11112,
    aet: Title = "SEGPIPE",
    allow: Annotated[list[str] | None, typer.Option(metavar="AET@ADDRESS", help="Who may send; default: this machine; repeatable.")] = None,
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="To listen at; default: all, without --allow 127.0.0.1.")] = "",
    to: To = "",
    quiet_seconds: Annotated[
        float,
        typer.Option(
            metavar="N",
            help="Nothing more of a series for so long: complete; ten times that, at least 60 s, for a sender that stays connected.",
        ),
    ] = 10.0,
    study_seconds: Annotated[
        float, typer.Option(metavar="N", help="For models of several channels: series of a study wait for the last one so long.")
    ] = 1800.0,
    max_queue: Annotated[int, typer.Option(metavar="N", help="Series that may wait; more are told to come later.")] = 200,
    max_gb: Annotated[float, typer.Option(metavar="GB", help="Disk for what was sent and is still here.")] = 50.0,
    take_broken: Annotated[bool, typer.Option("--take-broken", help="Also segment series whose sender broke off.")] = False,
    tls: Annotated[bool, typer.Option("--tls", help="Senders must encrypt; with --tls-ca, show a certificate of it.")] = False,
    tls_ca: Authority = None,
    tls_cert: Certificate = None,
    tls_key: Key = None,
    credentials: Secret = None,
    device: Device = "auto",
    precision: Precision = "auto",
    runtime: Runtime = "auto",
    threads: Threads = 0,
    workers: Annotated[int, typer.Option(metavar="N", help="Scans at a time.")] = 1,
    memory_gb: Memory = 0.0,
    timeout: Timeout = 0.0,
    format: Annotated[str, typer.Option(metavar="LIST", help="As of predict; with --to dicom-seg, if it names no kind.")] = "",
    seg_type: SegType = "binary",
    series_description: Description = "",
    series_number: Number = 0,
    policy: Policy = None,
) -> Outcome:
    """Be a DICOM node: take series that are sent (C-STORE), segment each once it is complete, send the results on.

    \b
    segpipe listen model.ts out/ --allow CT1@10.0.0.7 --to dicom://ORTHANC@pacs:4242
    segpipe listen model.ts out/ --allow CT1@10.0.0.0/24 --to dicomwebs://pacs/dicom-web --credentials pacs.txt
    segpipe listen model.ts out/ --port 2762 --tls --tls-cert node.pem --tls-key node.key --tls-ca hospital.pem

    What is taken is on disk before its sender is told so; the same command goes on after any end. SIGTERM and Ctrl-C finish the scan in
    hand. What cannot be segmented lies in OUT/aside.
    """
    if len(paths) < 2:
        raise ConfigError(f"listen: got {len(paths)} path(s); must be MODEL... OUT: segpipe listen model.ts out/")
    in_range("--port", port, 1, 65535)
    in_range("--quiet-seconds", quiet_seconds, 0.5, 3600)
    in_range("--study-seconds", study_seconds, 1, 1e6)
    in_range("--max-queue", max_queue, 1, 1e6)
    in_range("--max-gb", max_gb, 0.001, 1e6)
    in_range("--workers", workers, 1, 256)
    chosen, computing = checked_computing(precision, runtime, threads, memory_gb, timeout)
    seg = checked_type(seg_type)
    from segpipe.commands.listen import ListenOptions
    from segpipe.commands.listen import listen as run
    from segpipe.commands.predict import PredictOptions

    options = PredictOptions(
        device=device,
        precision=chosen,
        runtime=computing,
        threads=threads,
        workers=workers,
        memory_gb=memory_gb,
        timeout=timeout,
        policy=tuple(policy or ()),
        format=format,
        seg_type=seg,
        series_description=series_description,
        series_number=series_number,
        exchange=exchange(None, to, credentials, aet, (tls_ca, tls_cert, tls_key)),
    )
    node = ListenOptions(port, host, tuple(allow or ()), quiet_seconds, max_queue, max_gb, take_broken, tls, study_seconds)
    return run(paths[:-1], paths[-1], options, node)
