"""What lies in a folder of instances, `<hash of the UID>.dcm`."""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path

from segpipe.dicom.identity import short
from segpipe.errors import DataError
from segpipe.pacs.parcel import Parcel

_FILES = "*.dcm"


def instances_in(folder: Path) -> frozenset[str]:
    """Their hashes; none where there is no folder."""
    return frozenset(path.stem for path in folder.glob(_FILES))


def digests_in(folder: Path) -> dict[str, str]:
    """The SHA-256 of each instance's file.

    Raises:
        OSError: one cannot be read.
    """
    digests = {}
    for path in folder.glob(_FILES):
        with path.open("rb") as file:
            digests[path.stem] = hashlib.file_digest(file, "sha256").hexdigest()
    return digests


def bytes_in(folder: Path) -> int:
    """Of those in it and below it, from which somebody may remove some meanwhile."""
    total = 0
    for path in folder.rglob(_FILES):
        with contextlib.suppress(FileNotFoundError):
            total += path.stat().st_size
    return total


def study_of(folder: Path) -> str:
    """The hash of the UID of their study; empty where no file tells it."""
    for path in folder.glob(_FILES):
        with contextlib.suppress(DataError, OSError):
            return short(Parcel.of_file(path).study)
    return ""
