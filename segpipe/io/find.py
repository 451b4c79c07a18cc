"""Which files are scans, what they are called, and where they lie below a folder."""

from __future__ import annotations

import logging
import os
from collections import Counter
from pathlib import Path

from segpipe.errors import DataError

log = logging.getLogger(__name__)

NIFTI = (".nii.gz", ".nii")
ITK = (".nrrd", ".mha", ".mhd")
PICTURES = (".png", ".tif", ".tiff", ".bmp", ".jpg", ".jpeg")
SUFFIXES = NIFTI + ITK + PICTURES
"""File name endings that can be read, in lower case; names are compared without regard to case."""

_SHOWN_SUFFIXES = 3


def split_name(path: Path) -> tuple[str, str]:
    """A file's name without its ending, and the ending in lower case, `.nii.gz` as a whole.

    `Scan.1.NII.GZ` gives `("Scan.1", ".nii.gz")`; an ending that is not in `SUFFIXES` is what `Path.suffix` says.
    """
    name = path.name
    for suffix in SUFFIXES:
        if name.lower().endswith(suffix) and len(name) > len(suffix):
            return name[: -len(suffix)], suffix
    return path.stem, path.suffix.lower()


def is_scan(path: Path) -> bool:
    """Whether the name is that of a readable scan: a known ending, not hidden."""
    return split_name(path)[1] in SUFFIXES and not path.name.startswith(".")


def is_picture(path: Path) -> bool:
    """Whether the name is that of a 2D picture (PNG, TIFF, BMP, JPEG), which knows no millimetres."""
    return split_name(path)[1] in PICTURES


def supported() -> str:
    """The endings that can be read, as one phrase for messages."""
    return ", ".join(SUFFIXES)


def find_scans(root: Path) -> list[Path]:
    """The scans at `root`: the file itself, or all below the folder, sorted by path.

    Hidden files and folders and other kinds of file are passed over; links to folders are followed, each folder once. A folder
    below `root` that may not be entered is logged and passed over.

    Raises:
        DataError: nothing at `root`, no scan in it, or it may not be read.
    """
    files = find_files(root)
    scans = [path for path in files if split_name(path)[1] in SUFFIXES]
    if not scans:
        raise no_scan(root, files)
    return scans


def find_files(root: Path) -> list[Path]:
    """The file itself, or all below the folder outside hidden ones, sorted by path.

    Raises:
        DataError: nothing at `root`, or it may not be read.
    """
    try:
        folder = root.is_dir()
        if not folder and not root.exists():
            raise DataError(f"{root}: does not exist; must be a scan or a folder of scans: check the path")
    except OSError as error:
        raise DataError(f"{root}: cannot be looked at ({error.strerror}); must be readable: check its permissions") from error
    return sorted(_walk(root)) if folder else [root]


def no_scan(root: Path, files: list[Path]) -> DataError:
    """What is to be said of a place in whose `files` there is no scan."""
    if files == [root]:
        return DataError(f"{root}: is no scan that can be read; must end in {supported()}, or be DICOM: convert it")
    return DataError(f"{root}: holds {_contents(files)}; must hold files ending in {supported()}, or DICOM: check the path or convert them")


def _walk(root: Path) -> list[Path]:
    """All files below `root` outside hidden folders."""

    def unreadable(error: OSError) -> None:
        if error.filename is not None and Path(error.filename) == root:
            raise DataError(f"{root}: cannot be listed ({error.strerror}); must be readable: check its permissions") from error
        log.warning("%s: passed over, it cannot be listed (%s): check its permissions", error.filename, error.strerror)

    found: list[Path] = []
    seen: set[str] = set()
    for here, folders, names in os.walk(root, followlinks=True, onerror=unreadable):
        real = os.path.realpath(here)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found.extend(Path(here) / name for name in names if not name.startswith("."))
    return found


def _contents(files: list[Path]) -> str:
    """What a folder without scans holds: `no file`, or `40 files (38 .dcm, 2 .txt) but no scan`."""
    if not files:
        return "no file"
    counts = Counter(split_name(path)[1] or "without ending" for path in files).most_common(_SHOWN_SUFFIXES)
    return f"{len(files)} file{'s' * (len(files) > 1)} ({', '.join(f'{n} {suffix}' for suffix, n in counts)}) but no scan"
