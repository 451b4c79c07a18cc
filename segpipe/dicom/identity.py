"""Short names for studies and series that tell nothing of a patient: hashes of their UIDs."""

from __future__ import annotations

import hashlib

from segpipe.dicom.plane import Plane

_BYTES = 6
"""48 bits: among a hundred thousand series two alike are found once in fifty thousand such collections."""


def short(uid: str) -> str:
    """12 hexadecimal digits, the same on every machine."""
    return hashlib.blake2b(uid.encode(), digest_size=_BYTES).hexdigest()


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
