"""highdicom, loaded when the first object is made, and kept quiet: what it logs names instances and patients."""

from __future__ import annotations

import importlib.util
import logging
from typing import Any

from segpipe.dicom.library import INSTALL
from segpipe.dicom.terms import Code
from segpipe.errors import ConfigError


def check_highdicom() -> None:
    """Refuse to begin what could not be written.

    Raises:
        ConfigError: highdicom is not installed.
    """
    if importlib.util.find_spec("highdicom") is None:
        raise ConfigError(f"--format: DICOM objects are written by highdicom, which is not installed; it must be: {INSTALL}")


def highdicom() -> Any:
    """The library.

    Raises:
        ConfigError: it is not installed.
    """
    check_highdicom()
    import highdicom as library

    logging.getLogger("highdicom").setLevel(logging.CRITICAL)
    return library


def coded(code: Code) -> Any:
    """A code as highdicom takes it."""
    from pydicom.sr.coding import Code as Triple

    return Triple(code.value, code.scheme, code.meaning)
