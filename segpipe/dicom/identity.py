"""Short names for studies and series that tell nothing of a patient: hashes of their UIDs."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

from segpipe.dicom.plane import Plane

_BYTES = 6
"""48 bits: among a hundred thousand series two alike are found once in fifty thousand such collections."""


def short(uid: str) -> str:
    """12 hexadecimal digits, the same on every machine."""
    return hashlib.blake2b(uid.encode(), digest_size=_BYTES).hexdigest()


def why_two_patients(planes: Sequence[Plane]) -> str:
    """Which files cannot be of one patient, as the end of a sentence without their names; empty where all may be.

    A value that is missing from some of the files counts as another one: a copy that was pseudonymised is no copy of the original.
    """
    first = planes[0]
    for attribute, word in _WHO.items():
        other = next((plane for plane in planes if word(plane) != word(first)), None)
        if other is not None:
            files = f"{first.path} and {other.path} differ in {attribute}"
            return f"holds slices of two patients ({files}); must be of one: take the other's files out, or correct their headers"
    return ""


def _same_name(plane: Plane) -> str:
    """A name without the empty parts at its end (PS3.5 6.2.1), which some systems write and others do not."""
    return plane.patient.upper().rstrip("^= ")


_WHO: dict[str, Callable[[Plane], str]] = {
    "PatientID": lambda plane: plane.person,
    "PatientName": _same_name,
    "PatientBirthDate": lambda plane: plane.born,
}


def series_key(plane: Plane) -> tuple[str, ...]:
    """What planes of one series share; where an anonymiser has removed its UID, frame of reference, number and folder stand for it."""
    if plane.series:
        return plane.study, plane.series
    return plane.study, "", plane.frame_of_reference, str(plane.number), str(plane.path.parent)


def series_name(plane: Plane) -> str:
    """Hash and series number: `5f1c09a2b3d4_7`. Does not depend on where the files lie, as long as they hold their UIDs."""
    stem = short("\0".join((plane.study, plane.series, plane.frame_of_reference if not plane.series else "")) or "unknown")
    if not plane.series and not plane.frame_of_reference:
        stem = short(plane.path.parent.name)
    return stem if plane.number is None else f"{stem}_{plane.number}"
