"""Packages of the extra `cpu`: looked for when they are needed, imported without what they would tell others."""

from __future__ import annotations

import importlib.util
import sys
from typing import Any

from segpipe.errors import ModelError

_TELLS = "openvino_telemetry"


def installed(*packages: str) -> bool:
    """Whether all of them can be imported."""
    return all(importlib.util.find_spec(name) is not None for name in packages)


def needed(*packages: str) -> None:
    """Refuse to go on without them.

    Raises:
        ModelError: naming the first that is missing, and how to get it.
    """
    missing = next((name for name in packages if not installed(name)), None)
    if missing is not None:
        raise ModelError(f"the package {missing} is not installed, and this needs it: pip install 'segpipe[cpu]'")


def openvino() -> Any:
    """The module `openvino`, which reports its use over the network where `openvino_telemetry` is installed: it is hidden from it.

    Raises:
        ModelError: it is not installed.
    """
    needed("openvino")
    if _TELLS not in sys.modules:
        sys.modules[_TELLS] = None  # type: ignore[assignment]  # an import of it fails, for which openvino is prepared
    import openvino as module

    return module
