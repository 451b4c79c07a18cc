"""Which transfer syntaxes can be decoded here, and what to install for the others (PS3.5 10 and annex A)."""

from __future__ import annotations

from collections.abc import Iterable

from segpipe.dicom.library import INSTALL, pydicom

_HT = ("1.2.840.10008.1.2.4.201", "1.2.840.10008.1.2.4.202", "1.2.840.10008.1.2.4.203")
_ALWAYS = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2")


def why_undecodable(syntaxes: Iterable[str]) -> str:
    """Names the first transfer syntax without a decoder, and the cure; empty where all can be decoded."""
    return next((why for syntax in sorted(syntaxes) if syntax not in _ALWAYS and (why := _why(syntax))), "")


def _why(syntax: str) -> str:
    from pydicom.pixels import get_decoder

    name = pydicom().uid.UID(syntax).name
    what = f"is compressed as {name} ({syntax})" if name != syntax else f"has the unknown transfer syntax {syntax or '(none)'}"
    try:
        decoder = get_decoder(syntax)
    except (NotImplementedError, ValueError):
        return f"{what}, for which there is no decoder; must be a syntax for still pictures: export it uncompressed"
    if decoder.is_available:
        return ""
    return f"{what}, and no decoder for it is installed: {INSTALL}"
