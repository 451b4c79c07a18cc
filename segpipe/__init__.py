"""segpipe: from a folder of scans to a segmentation model that runs in a hospital."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from segpipe.bundle.load import load_model
    from segpipe.inference.api import Volume, predict_file, predict_folder, predict_volume

__version__ = "0.1.0"
__all__ = ["Volume", "load_model", "predict_file", "predict_folder", "predict_volume"]


def __getattr__(name: str) -> Any:
    """The five names of the programming interface, loaded (with torch) when one is used."""
    if name == "load_model":  # that takes packages, too
        return getattr(import_module("segpipe.bundle.load"), name)
    if name in __all__:
        return getattr(import_module("segpipe.inference.api"), name)
    raise AttributeError(f"module 'segpipe' has no attribute {name!r}")
