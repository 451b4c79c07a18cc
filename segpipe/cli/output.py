"""Where output goes: results on stdout, log and errors on stderr, and nothing from libraries unless `--debug`."""

from __future__ import annotations

import functools
import logging
import os
import sys
import traceback
from collections.abc import Callable
from typing import ParamSpec

import typer

from segpipe.cli.faults import BROKEN_PIPE, explain
from segpipe.commands.outcome import Outcome

P = ParamSpec("P")

_PIPE_COLUMNS = 140
"""Width of tables where the output is no terminal, so that a log keeps whole columns."""


class _Debug:
    """Whether a traceback is wanted; set once, by `set_up`."""

    on = False


class _Format(logging.Formatter):
    """Plain text; what is more than information says so first."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return text if record.levelno <= logging.INFO else f"{record.levelname.lower()}: {text}"


def set_up(debug: bool, quiet: bool) -> None:
    """Direct the logs and silence the libraries.

    Args:
        debug: show debug messages, the libraries' warnings and tracebacks.
        quiet: show warnings and errors only.
    """
    _Debug.on = debug
    own = logging.getLogger("segpipe")
    for handler in list(own.handlers):
        own.removeHandler(handler)
    handler = _handler()
    own.addHandler(handler)
    own.propagate = False
    other_rank = int(os.environ.get("LOCAL_RANK", "0") or 0) > 0
    own.setLevel(logging.DEBUG if debug else logging.WARNING if quiet or other_rank else logging.INFO)
    _silence_libraries(handler if debug else logging.NullHandler())


def _handler() -> logging.Handler:
    """On a terminal through rich, which keeps lines and progress bars apart."""
    handler: logging.Handler
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.logging import RichHandler

        handler = RichHandler(console=Console(stderr=True), show_time=False, show_level=False, show_path=False, markup=False)
    else:
        handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Format("%(message)s"))
    return handler


def _silence_libraries(handler: logging.Handler) -> None:
    """Give the root logger a handler, so that none of them adds its own, and send Python's warnings there."""
    root = logging.getLogger()
    root.handlers[:] = [kept for kept in root.handlers if not isinstance(kept, logging.NullHandler)] or []
    root.addHandler(handler)
    logging.captureWarnings(True)
    logging.getLogger("nibabel.global").setLevel(logging.CRITICAL)  # brings a handler of its own


def show(outcome: Outcome) -> None:
    """Print what a command has to say."""
    from rich.console import Console

    # Brackets in names and cures are no style.
    console = Console(width=None if sys.stdout.isatty() else _PIPE_COLUMNS, markup=False)
    for item in outcome.shown:
        if isinstance(item, str):
            typer.echo(item)
        else:
            console.print(item)


def guarded(function: Callable[P, Outcome]) -> Callable[P, None]:
    """Run a command, print its outcome, and turn whatever it raises into one line and an exit code."""

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            outcome = function(*args, **kwargs)
            show(outcome)
            sys.stdout.flush()
            code = outcome.exit_code
        except (SystemExit, typer.Exit):
            raise
        except BaseException as error:
            code = report(error)
        raise typer.Exit(code)

    return run


def report(error: BaseException) -> int:
    """Print one line about an error, its traceback before it with `--debug`; returns the exit code."""
    line, code = explain(error)
    if code == BROKEN_PIPE:  # nobody reads: Python's own flush at exit must find another place
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if _Debug.on:
        traceback.print_exception(error)
    if line:
        typer.echo(line, err=True)
    return code
