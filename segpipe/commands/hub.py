"""`segpipe hub`: packages by name and version, in a folder or on a web server."""

from __future__ import annotations

import getpass
import os
import shutil
import sys
from pathlib import Path

from rich.table import Table

from segpipe.bundle import hub
from segpipe.bundle.minisign import ENDING, read_public_key, read_secret_key
from segpipe.commands.outcome import Outcome
from segpipe.errors import ConfigError
from segpipe.io.atomic import replacing

_PASSWORD = "SEGPIPE_SIGN_PASSWORD"


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


def hub_add(where: Path, package: Path, key: Path | None = None) -> Outcome:
    """Put a package into a hub.

    Args:
        key: secret key of minisign that signs it; its password is asked for, or comes from `SEGPIPE_SIGN_PASSWORD`.

    Raises:
        ConfigError, ModelError: see `hub.add`, `read_secret_key`.
    """
    secret = read_secret_key(key, lambda: _password(key)) if key is not None else None
    entry = hub.add(where, package, secret)
    signed = (where / (entry.file + ENDING)).is_file()
    return Outcome(
        [
            f"added    {entry.label} as {where / entry.file}{', signed' if signed else ''}",
            f"next     segpipe hub pull {where} {entry.label}",
        ]
    )


def _password(key: Path) -> str:
    given = os.environ.get(_PASSWORD)
    if given is not None:
        return given
    if not sys.stdin.isatty():
        raise ConfigError(f"{key}: has a password, and nobody can be asked for it here; must be in {_PASSWORD}, or the call in a terminal")
    return getpass.getpass(f"Password of {key}: ")


def hub_pull(where: str, wanted: str, out: Path | None, key: str = "") -> Outcome:
    """Fetch a package, and put it where it can be seen; with a key its signature lies beside it, for `segpipe verify --key`.

    Args:
        out: file to write; None: `NAME-VERSION.zip` here.
        key: public key of minisign by which it must be signed, or its file; empty: signatures are not looked at.

    Raises:
        ConfigError: `out` is there already, or no `.zip`; or see `hub.pull`.
        ModelError: see `hub.pull`.
    """
    public = read_public_key(key) if key else None
    if out is not None:
        _check_place(out)
    package = hub.pull(where, wanted, public)
    place = out or Path(f"{package.document['name']}-{package.document['version']}.zip")
    _check_place(place)
    with replacing(place) as temporary:
        shutil.copyfile(package.path, temporary)
    if public is None:
        return Outcome([f"pulled   {package.label} to {place}", f"next     segpipe verify {place}"])
    with replacing(place.with_name(place.name + ENDING)) as temporary:
        shutil.copyfile(package.path.with_name(package.path.name + ENDING), temporary)
    return Outcome([f"pulled   {package.label} to {place}, signed by {public.name}", f"next     segpipe verify {place} --key {key}"])


def _check_place(place: Path) -> None:
    if place.suffix.lower() != ".zip":
        raise ConfigError(f"--out {place}: is no name of a package; must end with .zip, by which predict and serve know one")
    for path in (place, place.with_name(place.name + ENDING)):
        if path.exists():
            raise ConfigError(f"{path}: is there already; must be a new file: give --out, or remove it")
