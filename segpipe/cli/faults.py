"""What a user reads when something fails: one line, and the exit code."""

from __future__ import annotations

import errno
from typing import Any

from segpipe.errors import ConfigError, SegpipeError

STOPPED = 130
BROKEN_PIPE = 141

_CURES = {
    errno.ENOSPC: "the disk is full; free space there, or choose another place",
    errno.EDQUOT: "your disk quota is used up; free space there, or choose another place",
    errno.EACCES: "permission denied; choose another place, or change its permissions",
    errno.EPERM: "permission denied; choose another place, or change its permissions",
    errno.EROFS: "the place is read-only; choose another one",
    errno.ENOENT: "not there; check the path",
    errno.ENOTDIR: "a file stands where a folder must be; choose another place",
    errno.EISDIR: "is a folder; must be a file",
    errno.EEXIST: "is there already; choose another place",
    errno.EMFILE: "too many open files; lower training.workers, or raise the limit with ulimit -n",
    errno.ENAMETOOLONG: "the name is too long; choose a shorter one",
    errno.EIO: "the disk reports a fault; copy the file again",
}


def explain(error: BaseException) -> tuple[str, int]:
    """The line to print (empty: nothing) and the exit code for whatever a command raised."""
    if isinstance(error, SegpipeError):
        return f"error: {_one_line(error)}", error.exit_code
    if isinstance(error, KeyboardInterrupt) or type(error).__name__ == "Abort":  # click's, for a Ctrl-C that no command has caught
        return "stopped", STOPPED
    if isinstance(error, BrokenPipeError):
        return "", BROKEN_PIPE
    if isinstance(error, OSError) and error.errno is not None:
        return f"error: {_disk(error)}", ConfigError.exit_code
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        cure = "lower plan.batch_size or plan.patch_size in training, --batch in prediction, or close other programs"
        return f"error: the memory does not suffice: {_one_line(error) or 'out of memory'}; {cure}", ConfigError.exit_code
    if isinstance(error, RuntimeError) and "Connection closed by peer" in str(error):
        return "error: another process of this training has ended; its own line says why", 1
    if hasattr(error, "format_message"):  # Click's, which typer carries under a name of its own that differs between versions
        return f"error: {_usage(error)}", ConfigError.exit_code
    return f"bug: {type(error).__name__}: {_one_line(error)}; run again with --debug and report what it prints", 1


def _usage(error: Any) -> str:
    """What is wrong with the words of a command line, how they must be, and where an example is."""
    said = " ".join(error.format_message().split()).rstrip(".?").replace("{", "").replace("}", "")
    what = said[:1].lower() + said[1:]
    context = getattr(error, "ctx", None)
    if context is None:
        return f"{what}; see segpipe --help"
    pieces = " ".join(context.command.collect_usage_pieces(context)).replace("{", "").replace("}", "")
    path = context.command_path
    return f"{what}; must be {path} {pieces}: see {path} --help"


def _disk(error: OSError) -> str:
    """What, where, cure."""
    where = error.filename2 if error.filename2 is not None else error.filename  # of a copy or a rename, the place written to
    what = _CURES.get(error.errno or 0, f"{error.strerror or error}; check the place")
    return f"{where}: {what}" if where is not None else what


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 600 else f"{text[:600]} ..."
