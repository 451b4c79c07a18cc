"""Options of how networks are computed, said once for all commands that use a model."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from segpipe.cli.option_values import in_range, one_of

Device = Annotated[str, typer.Option(metavar="NAME", help="auto, cpu, cuda or cuda:1.")]
Devices = Annotated[
    list[str] | None,
    typer.Option(
        "--device", metavar="NAME", help="auto, cpu, cuda (every GPU) or cuda:1; repeatable: each does a job at a time. [default: auto]"
    ),
]
Precision = Annotated[str, typer.Option(metavar="NAME", help="fp32, bf16, or auto (bf16 where it is fast and as good).")]
Runtime = Annotated[str, typer.Option(metavar="NAME", help="torch, openvino, or auto (the quicker one that is here).")]
Threads = Annotated[int, typer.Option(metavar="N", help="Processor threads a worker; 0: all cores, shared.")]
Memory = Annotated[float, typer.Option("--memory-gb", metavar="GB", help="Most memory of a worker; 0: no limit.")]
Timeout = Annotated[float, typer.Option(metavar="SECONDS", help="Give up a scan that is worked on for longer; 0: never.")]


def checked_computing(precision: str, runtime: str, threads: int, memory_gb: float, timeout: float) -> tuple[Any, Any]:
    """Precision and runtime, which are words of their lists.

    Raises:
        ConfigError: naming the option that is none, or out of its range.
    """
    in_range("--threads", threads, 0, 1024)
    in_range("--memory-gb", memory_gb, 0.0, 1e5)
    in_range("--timeout", timeout, 0.0, 1e7)
    return one_of("--precision", precision, ("auto", "fp32", "bf16")), one_of("--runtime", runtime, ("auto", "torch", "openvino"))
