"""The words that a user types. Starts without torch; each command imports what it needs when it is called."""

from __future__ import annotations

import sys

_STOPPED = 130
"""Exit code after Ctrl-C, as shells have it."""
_ANYWHERE = ("--debug", "--quiet", "-q")


def main(arguments: list[str] | None = None) -> None:
    """Run one command line and end the process with its exit code.

    Args:
        arguments: words after `segpipe`; None: those of the process.
    """
    try:
        code = _run(sys.argv[1:] if arguments is None else arguments)
    except KeyboardInterrupt:  # before a command has begun, or once more while one ends
        sys.stderr.write("stopped\n")
        code = _STOPPED
    raise SystemExit(code)


def _run(words: list[str]) -> int:
    from segpipe.cli.app import app
    from segpipe.cli.output import report

    try:
        return int(app(args=_global_first(words) or ["--help"], prog_name="segpipe", standalone_mode=False) or 0)
    except SystemExit as end:
        if not isinstance(end.__context__, BrokenPipeError):
            raise
        return report(end.__context__)  # rich and typer end the process themselves when nobody reads, as if it were a fault
    except Exception as error:  # a wrong word or option; what a command raises, it has reported itself
        return report(error)


def _global_first(arguments: list[str]) -> list[str]:
    """Options of the whole program may stand anywhere, so that `--debug` can be added at the end of a failed line."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    head, tail = arguments[:end], arguments[end:]
    return [word for word in head if word in _ANYWHERE] + [word for word in head if word not in _ANYWHERE] + tail
