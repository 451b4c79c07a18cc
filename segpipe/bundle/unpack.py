"""Packages on disk: archives are unpacked, after all checks, into a folder of the user's cache that is named for their content."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from segpipe.bundle.cache import CACHE, own_folder
from segpipe.bundle.contents import Contents, refusal
from segpipe.bundle.layout import DOCUMENT, MODEL
from segpipe.bundle.open import Package, open_package
from segpipe.errors import ConfigError, ModelError
from segpipe.io.alive import new_token


def folder_of(package: Package) -> Path:
    """The folder of a package; of an archive, one in the cache, where it stays until the user removes it.

    Raises:
        ConfigError: the cache cannot be written, is another user's, or has no room.
    """
    contents = package.contents
    if not contents.archive:
        return contents.path
    place = own_folder("packages") / package.sha256
    if _holds(place, package):
        return place
    try:
        if place.exists():  # cut off, or changed by hand
            shutil.rmtree(place)
        _unpack(package, place)
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


def _holds(place: Path, package: Package) -> bool:
    """Whether a folder is this very package, and whole: any other would pass for it by its place alone."""
    try:
        return place.is_dir() and open_package(place).sha256 == package.sha256
    except ModelError:
        return False


def _unpack(package: Package, place: Path) -> None:
    contents = package.contents
    if shutil.disk_usage(place.parent).free < 2 * sum(contents.sizes.values()):
        raise ConfigError(f"{place.parent}: has too little room for {contents.path}; must have twice its size: set {CACHE}=DIR")
    root = place.parent / f".{new_token()}"
    digests = {name: told["sha256"] for name, told in package.document["files"].items()} | {DOCUMENT: package.sha256}
    try:
        for name in contents.sizes:
            if _write(contents, name, root / name) != digests[name]:
                raise refusal(contents.path, f"{name} has changed while it was unpacked", "try again")
        try:
            root.rename(place)
        except OSError:
            if not _holds(place, package):  # else another process was quicker
                raise
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _write(contents: Contents, name: str, target: Path) -> str:
    digest = hashlib.sha256()
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("xb") as file:
        for piece in contents.chunks(name):
            digest.update(piece)
            file.write(piece)
    return digest.hexdigest()
