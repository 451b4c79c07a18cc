"""Files that are whole or absent: written next to their place, flushed to disk, renamed."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import time
from collections.abc import Container, Iterable, Iterator
from pathlib import Path

from segpipe.errors import ConfigError
from segpipe.io.alive import TOKEN, is_gone, new_token
from segpipe.io.find import split_name

_CURES = {
    errno.ENOSPC: "free some space or choose another folder",
    errno.EDQUOT: "free some of your quota or choose another folder",
    errno.EFBIG: "raise the file size limit or choose another folder",
    errno.EROFS: "the disk is read-only: choose another folder",
    errno.EACCES: "choose a folder that you may write to",
    errno.EPERM: "choose a folder that you may write to",
    errno.ENOTDIR: "part of the path is a file: choose another folder",
    errno.EEXIST: "part of the path is a file: choose another folder",
    errno.EISDIR: "a folder has that name: choose another name",
    errno.ENODEV: "a device has that name: choose the name of a file",
    errno.ENAMETOOLONG: "choose a shorter name",
}
_PROBE_BYTES = 4096
"""One block, so that a full disk is noticed."""
_TEMPORARY = re.compile(rf"\.(?:.*\.)?(?P<token>{TOKEN})(?:\..+)?")
_OLD_SECONDS = 24 * 3600.0
"""Nobody writes one file for a day: what a process of another machine left so long ago will never be renamed."""


def check_file(path: Path) -> None:
    """Refuse, before work goes into it, a file that could not be written; nothing is made and nothing is left.

    Raises:
        ConfigError: a folder or a device has that name, or its folder cannot be made or written to: no space, no permission.
    """
    with _explained(path):
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        _check_kind(path)
        _try(path.parent)


def check_folder(folder: Path) -> None:
    """Refuse, before work goes into it, a folder that could not be made or filled; nothing is made and nothing is left.

    Raises:
        ConfigError: a file has that name, or it cannot be made or written to: no space, no permission.
    """
    with _explained(folder / "file", folder):
        _try(folder)


def _check_kind(path: Path) -> None:
    """A device or a pipe must not be replaced by a file (`/dev/null` would be, for the administrator)."""
    if path.exists() and not path.is_file() and not path.is_dir():
        raise OSError(errno.ENODEV, "it is no ordinary file", str(path))


def _try(folder: Path) -> None:
    """Write a small file where `folder` is, or in the nearest folder above that is there, and remove it."""
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))
    probe = folder / f".{new_token()}"
    try:
        probe.write_bytes(bytes(_PROBE_BYTES))
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(folder)) from error
    finally:
        with contextlib.suppress(OSError):  # a read-only disk refuses even to remove what is not there
            probe.unlink(missing_ok=True)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a hidden temporary path in the folder of `path`, with its ending, to be written; then put it in the place of `path`.

    Folders are made as needed. When the block raises, the temporary file is removed and `path` is left as it was.

    Raises:
        ConfigError: the folder cannot be written to: no space, no permission, read-only.
    """
    stem, suffix = split_name(path)
    temporary = path.with_name(f".{stem[:100]}.{new_token()}{suffix}")
    with _explained(path):
        _check_kind(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch()  # says at once what is wrong with the folder, in words that every library shares
        try:
            yield temporary
            _flush(temporary)
            temporary.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
        flush_folder(path.parent)


@contextlib.contextmanager
def replacing_all(*paths: Path) -> Iterator[Path]:
    """Give a hidden temporary folder next to `paths` (all in one folder), in which files of these names are to be written.

    They are then moved in the order given. The last one is the one that makes the others count (a header): an old one is removed
    first, so that a cut in between leaves no header rather than one that belongs to other data.

    Raises:
        ConfigError: as for `replacing`.
    """
    folder = paths[-1].parent
    temporary = folder / f".{new_token()}"
    with _explained(paths[-1]):
        folder.mkdir(parents=True, exist_ok=True)
        temporary.mkdir()
        try:
            yield temporary
            for path in paths:
                _flush(temporary / path.name)
            paths[-1].unlink(missing_ok=True)
            for path in paths:
                (temporary / path.name).replace(path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        flush_folder(folder)


def sweep(folders: Iterable[Path], over: Container[str] = ()) -> list[Path]:
    """Remove temporary files that processes left in `folders` when they were killed; those of living processes stay.

    Args:
        over: tokens (see `acting_as`) of which it is known that nobody writes under them any more.

    Returns:
        What was removed. A file that may not be removed stays.
    """
    removed = []
    for folder in folders:
        with contextlib.suppress(OSError):  # it is not there yet, or may not be listed
            removed += [path for path in sorted(folder.iterdir()) if _is_left_over(path, over) and _removed(path)]
    return removed


def _is_left_over(path: Path, over: Container[str]) -> bool:
    match = _TEMPORARY.fullmatch(path.name)
    if match is None:
        return False
    try:
        return match["token"] in over or is_gone(match["token"]) or time.time() - path.lstat().st_mtime > _OLD_SECONDS
    except FileNotFoundError:  # renamed meanwhile
        return False


def _removed(path: Path) -> bool:
    with contextlib.suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
        return True
    return False


def write_text(path: Path, text: str) -> None:
    """Write `text` in UTF-8; see `replacing`."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data`; see `replacing`."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


@contextlib.contextmanager
def _explained(path: Path, shown: Path | None = None) -> Iterator[None]:
    """Turn the system's refusal to write into a ConfigError; a refusal to read some other file passes.

    Args:
        shown: what the message names; None: `path`.
    """
    try:
        yield
    except OSError as error:
        if not _is_about(error, path.parent):
            raise
        cure = _CURES.get(error.errno or 0, "choose another folder")
        its = "its folder" if shown is None else "it"
        raise ConfigError(f"{shown or path}: cannot be written ({error.strerror or error}); {its} must be writable: {cure}") from error


def _is_about(error: OSError, folder: Path) -> bool:
    """Whether the error names no file, or one in `folder` or one of its parents."""
    if error.filename is None:
        return True
    named = Path(os.fsdecode(error.filename))
    return folder in named.parents or named == folder or named in folder.parents


def _flush(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def flush_folder(folder: Path) -> None:
    """Make the rename itself durable, where the system can do that."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
