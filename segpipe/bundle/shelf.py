"""What this user has pulled: a note for each version from each hub, so that a version stays what it was and is found without its hub.

The first pull of a version is believed; from then on its hub cannot give other content under its name, nor an older version as the latest.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path

from segpipe.bundle.cache import cache_folder, own_folder
from segpipe.bundle.layout import LONGEST_NAME, MOST_OF_TEXT, NAME, VERSION
from segpipe.bundle.plain import Fields, Maybe, Text, check, read_json
from segpipe.errors import ConfigError, ModelError
from segpipe.io.atomic import write_text

_FOLDER = "pulled"
_NOTE = Fields(
    {"hub": Text(longest=2000), "name": Text(NAME, LONGEST_NAME), "version": Text(VERSION), "sha256": Text(re.compile(r"[0-9a-f]{64}"))},
    {"key": Maybe(Text(re.compile(r"[0-9A-F]{16}")))},
)


@dataclass(frozen=True)
class Pulled:
    """One version that was pulled from one hub.

    Attributes:
        hub: as `hub_name` spells it.
        sha256: of the archive.
        key: by which it was signed, as minisign shows it; None: nobody asked.
    """

    hub: str
    name: str
    version: str
    sha256: str
    key: str | None = None

    @property
    def archive(self) -> Path:
        """Where the cache keeps it."""
        return cache_folder() / "archives" / f"{self.sha256}.zip"

    @property
    def note(self) -> Path:
        """Where it is noted."""
        where = hashlib.sha256(self.hub.encode()).hexdigest()[:16]
        return cache_folder() / _FOLDER / f"{self.name}-{self.version}-{where}.json"


def order_of(version: str) -> tuple[int, ...]:
    """Of versions: 1.10 is later than 1.9, and 1 the same as 1.0."""
    numbers = [int(part) for part in version.split(".")]
    return tuple(numbers + [0] * (3 - len(numbers)))


def note(pulled: Pulled) -> None:
    """Keep in mind that it was pulled.

    Raises:
        ConfigError: the cache cannot be written.
    """
    own_folder(_FOLDER)
    write_text(pulled.note, json.dumps(asdict(pulled), indent=2) + "\n")


def notes(name: str) -> list[Pulled]:
    """Every version of a package that was pulled, from any hub; a note that cannot be read is an error, for it may not be passed over.

    Raises:
        ConfigError: a note cannot be read.
    """
    found = []
    folder = own_folder(_FOLDER)
    for path in sorted(folder.glob(f"{name}-*.json")):
        try:
            if path.stat().st_size > MOST_OF_TEXT:
                raise ModelError("is too long")
            value = read_json(path.read_bytes(), path.name)
            check(value, _NOTE, path.name)
        except (OSError, ModelError) as error:
            raise ConfigError(f"{path}: is no note of a pulled package ({error}); must be one: remove it and pull again") from error
        if value["name"] == name:  # and not NAME-MORE, which the pattern finds as well
            found.append(Pulled(**value))
    return found
