"""`segpipe serve` and its options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from segpipe.cli.computing import Devices, Memory, Precision, Runtime, Threads, checked_computing
from segpipe.cli.option_values import in_range
from segpipe.commands.outcome import Outcome


def serve(
    models: Annotated[list[Path], typer.Argument(metavar="PACKAGE_OR_MODEL", help="Packages, or model files.", show_default=False)],
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="To listen at; others than this machine need --token-file.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(metavar="N", help="To listen at; 0: any that is free.")] = 8000,
    data: Annotated[Path, typer.Option(metavar="DIR", help="Jobs, their scans and results.")] = Path("segpipe-server"),
    corrections: Annotated[Path | None, typer.Option(metavar="DIR", help="Data set that corrected label maps go into.")] = None,
    token_file: Annotated[Path | None, typer.Option(metavar="FILE", help="One line that requests must show; yours alone.")] = None,
    allow_origin: Annotated[list[str] | None, typer.Option(metavar="URL", help="A web page's server that may ask; repeatable.")] = None,
    max_upload_mb: Annotated[float, typer.Option(metavar="MB", help="Of one request.")] = 2048.0,
    max_queue: Annotated[int, typer.Option(metavar="N", help="Jobs that may wait; more are told to come later.")] = 100,
    max_jobs: Annotated[int, typer.Option(metavar="N", help="Jobs that are kept; the oldest that have ended go first.")] = 1000,
    keep_hours: Annotated[float, typer.Option(metavar="HOURS", help="For which a job that has ended is kept.")] = 168.0,
    timeout: Annotated[float, typer.Option(metavar="SECONDS", help="Give up a job that is worked on for longer; 0: never.")] = 3600.0,
    device: Devices = None,
    runtime: Runtime = "auto",
    precision: Precision = "auto",
    threads: Threads = 0,
    memory_gb: Memory = 0.0,
) -> Outcome:
    """Serve models over HTTP: take scans, give label maps on their own grid.

    \b
    segpipe serve prostate-zones-1.0.zip
    segpipe serve zones.zip --device cuda
    segpipe serve zones.zip liver.zip --host 0.0.0.0 --token-file token.txt --data /var/lib/segpipe
    curl -F files=@scan.nii.gz http://127.0.0.1:8000/v1/jobs

    A job that was taken is on disk, and is done whatever happens to the server; the same command goes on after any end.
    """
    in_range("--port", port, 0, 65535)
    in_range("--max-upload-mb", max_upload_mb, 0.001, 1e6)
    in_range("--max-queue", max_queue, 1, 1e6)
    in_range("--max-jobs", max_jobs, 1, 1e6)
    in_range("--keep-hours", keep_hours, 0.0, 1e6)
    checked_computing(precision, runtime, threads, memory_gb, timeout)
    from segpipe.commands.serve import check_installed
    from segpipe.commands.serve import serve as run

    check_installed()
    from segpipe.server.access import read_token
    from segpipe.server.devices import devices_of
    from segpipe.server.settings import Computing, Limits, ServerSettings

    limits = Limits(upload_mb=max_upload_mb, queue=max_queue, jobs=max_jobs, keep_hours=keep_hours, timeout=timeout)
    settings = ServerSettings(
        tuple(models),
        data,
        host,
        port,
        corrections,
        read_token(token_file) if token_file is not None else "",
        tuple(allow_origin or ()),
        limits,
        Computing(devices_of(device or ("auto",)), runtime, precision, threads, memory_gb),
    )
    return run(settings)
