"""requests and pynetdicom, loaded when the first address needs them."""

from __future__ import annotations

import importlib.util
import logging
from typing import Any

from segpipe.errors import ConfigError

INSTALL = "pip install 'segpipe[pacs]'"


def check_installed(option: str, *names: str) -> None:
    """Refuse what needs a library that is not there.

    Raises:
        ConfigError: saying what to install.
    """
    missing = [name for name in (*names, "pydicom") if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(f"{option}: needs {' and '.join(missing)}: {INSTALL}")


def requests() -> Any:
    """The library."""
    import requests as library

    return library


def pynetdicom() -> Any:
    """The library, its own log kept quiet: it would tell of every message, names of patients among them."""
    import pynetdicom as library

    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)
    library._config.LOG_REQUEST_IDENTIFIERS = library._config.LOG_RESPONSE_IDENTIFIERS = False
    return library
