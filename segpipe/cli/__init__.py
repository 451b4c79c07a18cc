"""The words that a user types. Starts without torch; each command imports what it needs when it is called."""

from __future__ import annotations

import sys

_ANYWHERE = ("--debug", "--quiet", "-q")


def main(arguments: list[str] | None = None) -> None:
    """Run one command line and end the process with its exit code.

    Args:
        arguments: words after `segpipe`; None: those of the process.
    """
    from segpipe.cli.app import app

    app(args=_global_first(sys.argv[1:] if arguments is None else arguments), prog_name="segpipe")


def _global_first(arguments: list[str]) -> list[str]:
    """Options of the whole program may stand anywhere, so that `--debug` can be added at the end of a failed line."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    head, tail = arguments[:end], arguments[end:]
    return [word for word in head if word in _ANYWHERE] + [word for word in head if word not in _ANYWHERE] + tail
