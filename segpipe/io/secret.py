"""Files that hold a secret: read only where nobody else may read them."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from segpipe.errors import ConfigError


def read_secret(option: str, path: Path, holds: str) -> str:
    """The text of a file that is its owner's alone.

    Args:
        option: that names it on the command line, for the message.
        holds: what it must hold, in words.

    Raises:
        ConfigError: it cannot be read, or others may read it.
    """
    try:
        mode, text = path.stat().st_mode, path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{option} {path}: cannot be read ({error}); must hold {holds}") from error
    if os.name == "posix" and stat.S_IMODE(mode) & 0o077:
        raise ConfigError(f"{option} {path}: others may read it (mode {stat.S_IMODE(mode):o}); must be yours alone: chmod 600 {path}")
    return text
