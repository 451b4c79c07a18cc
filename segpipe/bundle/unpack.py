"""Packages on disk: archives are unpacked, after all checks, into a folder of the user's cache that is named for their content."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from segpipe.bundle.contents import Contents, refusal
from segpipe.bundle.layout import DOCUMENT, MODEL
from segpipe.bundle.open import Package, open_package
from segpipe.errors import ConfigError, ModelError

CACHE = "SEGPIPE_CACHE"
"""The variable that names another place for the cache."""
_CHUNK = 1 << 20


def cache_folder() -> Path:
    """Where packages are kept for this user."""
    named = os.environ.get(CACHE) or os.environ.get("XDG_CACHE_HOME")
    base = Path(named) if named else Path.home() / ".cache"
    return base if os.environ.get(CACHE) else base / "segpipe"


@contextmanager
def unpacked(package: Package) -> Iterator[Path]:
    """The folder of a package; of an archive, one in the cache."""
    yield folder_of(package)


def folder_of(package: Package) -> Path:
    """As `unpacked`, for longer: nothing removes what the cache holds but the user.

    Raises:
        ConfigError: the cache cannot be written, or has no room.
    """
    contents = package.contents
    if not contents.archive:
        return contents.path
    place = cache_folder() / "packages" / _identity(contents)
    if place.is_dir():
        try:
            open_package(place)
            return place
        except ModelError:  # cut off, or changed by hand
            shutil.rmtree(place, ignore_errors=True)
    try:
        _unpack(contents, place, package.document["files"])
    except OSError as error:
        raise ConfigError(f"{place}: cannot be written ({error.strerror}); set {CACHE}=DIR to a folder that you may write to") from error
    return place


def model_in(path: Path) -> Path:
    """The model file of a package, ready to be read; looked through before.

    Raises:
        ModelError: it is refused.
        ConfigError: see `folder_of`.
    """
    return folder_of(open_package(path)) / MODEL


def _identity(contents: Contents) -> str:
    """SHA-256 of the document, which holds that of every other file."""
    return contents.sha256(DOCUMENT)


def _unpack(contents: Contents, place: Path, listed: dict[str, dict[str, object]]) -> None:
    place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if shutil.disk_usage(place.parent).free < 2 * sum(contents.sizes.values()):
        raise ConfigError(f"{place.parent}: has too little room for {contents.path}; must have twice its size: set {CACHE}=DIR")
    with tempfile.TemporaryDirectory(prefix=".unpacking-", dir=place.parent) as folder:
        root = Path(folder) / "package"
        for name in contents.sizes:
            digest = _write(contents, name, root / name)
            if name != DOCUMENT and digest != listed[name]["sha256"]:
                raise refusal(contents.path, f"{name} has changed while it was unpacked", "try again")
        if not place.exists():
            root.rename(place)


def _write(contents: Contents, name: str, target: Path) -> str:
    digest = hashlib.sha256()
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("xb") as file:
        for piece in contents.chunks(name):
            digest.update(piece)
            file.write(piece)
    return digest.hexdigest()
