"""Who we are to a DICOMweb server: from the environment or a file that nobody else can read, never from the command line."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from segpipe.errors import ConfigError
from segpipe.io.secret import read_secret

_START = "SEGPIPE_DICOMWEB_"
_KEYS = ("USER", "PASSWORD", "TOKEN")
_HOW = "USER=... and PASSWORD=..., or TOKEN=..., one a line"


@dataclass(frozen=True)
class Credentials:
    """Attributes:
    user, password: for basic authentication.
    token: for a bearer token instead.
    """

    user: str = ""
    password: str = field(default="", repr=False)
    token: str = field(default="", repr=False)

    def __bool__(self) -> bool:
        return bool(self.user or self.token)


def read_credentials(path: Path | None, environment: Mapping[str, str] = os.environ) -> Credentials:
    """Those of the file; without one, `SEGPIPE_DICOMWEB_USER`, `_PASSWORD` and `_TOKEN`.

    Raises:
        ConfigError: the file is not there, may be read by others, or is no such file; a user without a password; a token beside them.
    """
    values = _of_file(path) if path is not None else {key: environment.get(_START + key, "") for key in _KEYS}
    where = str(path) if path is not None else f"{_START}*"
    if bool(values["USER"]) != bool(values["PASSWORD"]):
        raise ConfigError(f"{where}: has a user or a password alone; must be {_HOW}")
    if values["USER"] and values["TOKEN"]:
        raise ConfigError(f"{where}: has a token beside a user; must be {_HOW}")
    if any(not value.isprintable() for value in values.values()):
        raise ConfigError(f"{where}: holds characters that cannot be sent; must be {_HOW}")
    return Credentials(values["USER"], values["PASSWORD"], values["TOKEN"])


def _of_file(path: Path) -> dict[str, str]:
    text = read_secret("--credentials", path, _HOW)
    values = dict.fromkeys(_KEYS, "")
    for number, line in enumerate(text.splitlines(), 1):
        key, equals, value = line.partition("=")
        key = key.strip().upper().removeprefix(_START)
        if not line.strip() or line.startswith("#"):
            continue
        if not equals or key not in _KEYS:
            raise ConfigError(f"--credentials {path}: line {number} is none of {_HOW}")  # what it says may be a password
        values[key] = value.strip()
    return values
