"""The user's cache of packages: folders that are this user's own, because what lies in them is used without being asked for again."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from segpipe.errors import ConfigError
from segpipe.io.atomic import sweep

CACHE = "SEGPIPE_CACHE"
"""The variable that names another place for the cache."""
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def cache_folder() -> Path:
    """Where packages are kept for this user."""
    named = os.environ.get(CACHE) or os.environ.get("XDG_CACHE_HOME")
    base = Path(named) if named else Path.home() / ".cache"
    return base if os.environ.get(CACHE) else base / "segpipe"


def own_folder(name: str) -> Path:
    """A folder of the cache, made where it is not there, in which nobody but this user can write; what killed processes left is removed.

    Raises:
        ConfigError: it is another user's, a link, or cannot be made.
    """
    place = cache_folder() / name
    try:
        place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        place.mkdir(exist_ok=True, mode=0o700)
        _check_own(place)
    except OSError as error:
        raise ConfigError(f"{place}: cannot be written ({error.strerror}); set {CACHE}=DIR to a folder that you may write to") from error
    sweep([place])
    return place


def _check_own(place: Path) -> None:
    """Refuse a folder that another user made: its content could change after it was checked."""
    state = place.lstat()
    if not stat.S_ISDIR(state.st_mode):
        raise ConfigError(f"{place}: is no folder of its own; must be one, and no link: set {CACHE}=DIR to a folder of yours")
    if not hasattr(os, "geteuid"):  # Windows, where the user's profile is closed to others
        return
    if state.st_uid != os.geteuid():
        raise ConfigError(f"{place}: belongs to another user, who could exchange what lies in it: set {CACHE}=DIR to a folder of yours")
    if state.st_mode & _OTHERS_WRITE:
        place.chmod(stat.S_IMODE(state.st_mode) & ~_OTHERS_WRITE)
