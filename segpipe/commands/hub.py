"""`segpipe hub`: packages by name and version, in a folder or on a web server."""

from __future__ import annotations

import shutil
from pathlib import Path

from rich.table import Table

from segpipe.bundle import hub
from segpipe.commands.outcome import Outcome
from segpipe.errors import ConfigError
from segpipe.io.atomic import replacing


def hub_list(where: str) -> Outcome:
    """What a hub holds.

    Raises:
        ConfigError, ModelError: see `hub.entries`.
    """
    found = hub.entries(where)
    table = Table("package", "title", "modality", "body part", "weights", "MB")
    for entry in found:
        table.add_row(entry.label, entry.title, entry.modality, entry.body_part, entry.licence, f"{entry.bytes / 1e6:.1f}")
    return Outcome([table] if found else [f"{where} is empty: segpipe hub add {where} PACKAGE"])


def hub_add(where: Path, package: Path) -> Outcome:
    """Put a package into a hub.

    Raises:
        ConfigError, ModelError: see `hub.add`.
    """
    entry = hub.add(where, package)
    return Outcome([f"added    {entry.label} as {where / entry.file}", f"next     segpipe hub pull {where} {entry.label}"])


def hub_pull(where: str, wanted: str, out: Path | None) -> Outcome:
    """Fetch a package, and put it where it can be seen.

    Args:
        out: file to write; None: `NAME-VERSION.zip` here.

    Raises:
        ConfigError: `out` is there already; or see `hub.pull`.
        ModelError: see `hub.pull`.
    """
    package = hub.pull(where, wanted)
    place = out or Path(f"{package.document['name']}-{package.document['version']}.zip")
    if place.exists():
        raise ConfigError(f"{place}: is there already; must be a new file: give --out, or remove it")
    with replacing(place) as temporary:
        shutil.copyfile(package.path, temporary)
    return Outcome([f"pulled   {package.label} to {place}", f"next     segpipe verify {place}"])
