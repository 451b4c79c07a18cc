"""Which pictures are no scans (localizers, screenshots, reformats, reports ...), and what a scan's header must say."""

from __future__ import annotations

import math

from segpipe.dicom.library import pydicom
from segpipe.dicom.plane import Plane

_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
_NO_SCANS = {
    "SEG": "a segmentation",
    "RTSTRUCT": "contours (RT Structure Set)",
    "RTDOSE": "a dose",
    "RTPLAN": "a treatment plan",
    "SR": "a report",
    "KO": "a selection of pictures (Key Object)",
    "PR": "a presentation state",
    "DOC": "a document",
    "REG": "a registration",
    "M3D": "a surface",
}
_LOCALIZERS = frozenset({"LOCALIZER", "SCOUT", "TOPOGRAM", "SURVEY", "SURVIEW"})
_SCREENSHOTS = frozenset({"SCREENSHOT", "SCREENSAVE", "SCREEN SAVE", "SSAVE", "DISPLAY", "POSDISP"})
_REFORMATS = frozenset(
    {"MPR", "MIP", "MINIP", "VRT", "REFORMATTED", "REFORMAT", "PROJECTION IMAGE", "CURVED", "CPR", "RESAMPLED", "SSD", "RENDERED"}
)
_MOSAIC = "MOSAIC"
_PROJECTIONS = frozenset(
    {"CR", "DX", "MG", "XA", "RF", "IO", "PX", "DR", "US", "IVUS", "ES", "GM", "OP", "SM", "XC", "OPT", "IVOCT", "ECG"}
)
_LENGTH_OFF = 1e-3
_SQUARE_OFF = 1e-3
"""How far from 1 the length, and from 0 the cosine, of the direction vectors may be: headers with few digits pass, damaged ones do not."""


def no_scan(modality: str) -> str:
    """What objects of a modality are that are never scans, as a phrase; empty for all others."""
    return _NO_SCANS.get(modality, "")


def why_left_out(plane: Plane) -> str:
    """Why a plane is no part of a scan that could be segmented, as a phrase; empty where it may be."""
    if plane.modality in _NO_SCANS:
        return _NO_SCANS[plane.modality]
    if not plane.rows or not plane.columns:
        return f"no picture ({_name(plane.sop_class)})"
    if plane.sop_class == _SECONDARY_CAPTURE or plane.sop_class.startswith(_SECONDARY_CAPTURE + "."):
        return "a screenshot or converted picture (secondary capture)"
    words = {*plane.image_type, *(part for word in plane.image_type for part in word.split())}
    if words & _LOCALIZERS:
        return "a localizer"
    if words & _SCREENSHOTS:
        return "a screenshot"
    if "DERIVED" in words and (found := sorted(words & _REFORMATS)):
        return f"computed from another series ({found[0]})"
    if plane.position is None and plane.modality in _PROJECTIONS:
        return f"a picture without a place in the patient ({plane.modality})"
    return ""


def why_unusable(plane: Plane) -> str:
    """What in a header forbids to use a picture that may be part of a scan, as a sentence's end; empty where nothing does."""
    if _MOSAIC in plane.image_type:
        return "is a mosaic, all slices side by side in one picture; must be one picture a slice: export it as such, or as enhanced MR"
    if plane.frames > 1 and not plane.enhanced:
        return f"has {plane.frames} frames and does not say where each lies; must be an enhanced object: export it as such"
    missing = [
        name
        for name, value in (
            ("ImagePositionPatient", plane.position),
            ("ImageOrientationPatient", plane.orientation),
            ("PixelSpacing", plane.spacing),
        )
        if value is None
    ]
    if missing:
        return f"does not say where it lies: {', '.join(missing)} missing; export it again with the whole header"
    return _why_impossible(plane)


def _why_impossible(plane: Plane) -> str:
    if plane.spacing is not None and min(plane.spacing) <= 0:
        return f"states a PixelSpacing of {plane.spacing[0]:g} x {plane.spacing[1]:g} mm; must be positive: repair the header"
    if plane.orientation is not None and not _is_orthonormal(plane.orientation):
        return "states an ImageOrientationPatient that is no pair of unit vectors at right angles: repair the header"
    if plane.bits_allocated not in (8, 16, 32) or not 1 <= plane.bits_stored <= plane.bits_allocated:
        return (
            f"states {plane.bits_stored} bits of {plane.bits_allocated} for a value; must be 8, 16 or 32 with no more in use: it is damaged"
        )
    if plane.high_bit != plane.bits_stored - 1:
        return (
            f"has its values' highest bit at {plane.high_bit}; must be {plane.bits_stored - 1} for {plane.bits_stored} bits: it is damaged"
        )
    if plane.slope == 0:
        return "states a RescaleSlope of 0; must be another number: repair the header"
    return ""


def _is_orthonormal(orientation: tuple[float, ...]) -> bool:
    row, column = orientation[:3], orientation[3:]
    lengths = (math.hypot(*row), math.hypot(*column))
    cosine = sum(a * b for a, b in zip(row, column, strict=True))
    return all(abs(length - 1) <= _LENGTH_OFF for length in lengths) and abs(cosine) <= _SQUARE_OFF


def _name(uid: str) -> str:
    """What a UID of the standard stands for."""
    return str(pydicom().uid.UID(uid).name) if uid else "of no stated kind"
