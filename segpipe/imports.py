"""Libraries without the packages that they import besides, where those are installed, and that segpipe does not need of them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without(package: str) -> Iterator[None]:
    """While it lasts, an import of `package` fails as if it were not installed. One that was imported before stays; any can be afterwards.

    Args:
        package: which the library that is imported meanwhile can do without.
    """
    if package in sys.modules:
        yield
        return
    sys.modules[package] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[package]
