"""nibabel, without what it imports besides and segpipe does not need."""

from __future__ import annotations

import sys

_UNUSED = "pydicom"
"""nibabel imports it where it is installed, to show the DICOM extension of a NIfTI header as more than bytes: an eighth of a second, twice
in a prediction that reads no DICOM, and nothing here looks at extensions."""


def _without_unused() -> None:
    """Import nibabel; an import of the unused package fails meanwhile, for which nibabel is prepared. It can be imported afterwards."""
    if _UNUSED in sys.modules:
        return
    sys.modules[_UNUSED] = None  # type: ignore[assignment]
    try:
        import nibabel  # noqa: F401
    finally:
        del sys.modules[_UNUSED]


_without_unused()

import nibabel as nib  # noqa: E402

__all__ = ["nib"]
