"""pydicom, loaded when the first series needs it, and kept quiet: what it warns of is judged here."""

from __future__ import annotations

import contextlib
import importlib.util
import warnings
from collections.abc import Iterator
from typing import Any

from segpipe.errors import DataError

INSTALL = "pip install 'segpipe[dicom]'"


def is_installed() -> bool:
    """Whether DICOM can be read at all."""
    try:
        return importlib.util.find_spec("pydicom") is not None
    except (ImportError, ValueError):
        return False


def check_installed(found: object) -> None:
    """Refuse to go on without pydicom.

    Args:
        found: the file or folder that needs it.

    Raises:
        DataError: saying what to install.
    """
    if not is_installed():
        raise DataError(f"{found}: holds DICOM, and pydicom is not installed; it must be to read a series: {INSTALL}")


def pydicom() -> Any:
    """The library, its checks of values off: headers of real scanners fail them, and every value that matters is checked here."""
    import pydicom as library
    from pydicom import config

    config.settings.reading_validation_mode = config.IGNORE
    return library


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Python's warnings off, for this thread and those that it starts meanwhile."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
