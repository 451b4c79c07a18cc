"""Packages by `NAME@VERSION`: from the cache, where they were pulled before, or from the hub that a variable names."""

from __future__ import annotations

import os

from segpipe.bundle.fetch import hub_name
from segpipe.bundle.hub import pull, sha256_of
from segpipe.bundle.minisign import ENDING, PublicKey, check_beside, read_public_key
from segpipe.bundle.open import Package, open_package
from segpipe.bundle.shelf import Pulled, notes, order_of
from segpipe.errors import ConfigError

HUB, KEY = "SEGPIPE_HUB", "SEGPIPE_HUB_KEY"
"""Variables: the hub in which `NAME@VERSION` is looked for, and the public key by which it must be signed."""


def find_package(label: str) -> Package:
    """The package of a `NAME@VERSION`: from the cache, where one was pulled; else from the hub of `SEGPIPE_HUB`.

    With `SEGPIPE_HUB_KEY` it must be signed by that key, also in the cache.

    Raises:
        ConfigError: it is not known, or two hubs gave other contents under this name.
        ModelError: it is refused.
    """
    where, told = os.environ.get(HUB, ""), os.environ.get(KEY, "")
    key = read_public_key(told) if told else None
    name, _, version = label.partition("@")
    there = [one for one in notes(name) if order_of(one.version) == order_of(version) and one.archive.is_file()]
    if where:
        there = [one for one in there if one.hub == hub_name(where)]
    if len({one.sha256 for one in there}) > 1:
        hubs = ", ".join(one.hub for one in there)[:300]
        raise ConfigError(f"{label}: {hubs} gave different packages of this name; must be one: set {HUB} to the hub that you mean")
    if there:
        return _kept(there[0], label) if key is None else _signed(there[0], label, where, key)
    if not where:
        raise ConfigError(f"{label}: was not pulled before; must be, or set {HUB}: segpipe hub pull HUB {label}")
    return pull(where, label, key)


def _kept(pulled: Pulled, label: str) -> Package:
    """A package of the cache, whose content is what it was when it was pulled."""
    if sha256_of(pulled.archive) != pulled.sha256:
        raise ConfigError(f"{pulled.archive}: has changed since it was pulled; must not: remove it and pull {label} again")
    return open_package(pulled.archive)


def _signed(pulled: Pulled, label: str, where: str, key: PublicKey) -> Package:
    if not pulled.archive.with_name(pulled.archive.name + ENDING).is_file() and where:
        return pull(where, label, key)  # pulled before a key was asked for
    check_beside(pulled.archive, key)
    return _kept(pulled, label)
