"""The header of one file -> its planes. Stops before the pixels; nothing that a damaged file makes pydicom raise passes through."""

from __future__ import annotations

import io
import logging
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from segpipe.dicom.diffusion import b_value, gradient
from segpipe.dicom.files import HEAD_BYTES, has_preamble, looks_like_dicom, open_file
from segpipe.dicom.library import pydicom
from segpipe.dicom.plane import Plane
from segpipe.errors import DataError

log = logging.getLogger(__name__)

_STANDARD = "1.2.840.10008."
_IMPLICIT = "1.2.840.10008.1.2"
_PLAIN = (_IMPLICIT, "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2")
_DIRECTORY = "1.2.840.10008.1.3.10"
_FRAME_TYPES = ("MRImageFrameTypeSequence", "CTImageFrameTypeSequence", "PETFrameTypeSequence", "XRay3DFrameTypeSequence")
_OTHERS = ("TriggerTime", "InversionTime", "FlipAngle")
_MOST_FRAMES = 100_000
_MANY_DECIMALS = 16
_LONGEST_REASON = 120
_OVERLAYS = range(0x6000, 0x6020, 2)
_OVERLAY_BIT = 0x0102


class DamagedError(DataError):
    """A file that cannot be used, and the series that it was part of, where its header still tells.

    Attributes:
        series: UID; empty where it is not known.
    """

    def __init__(self, text: str, series: str = "") -> None:
        super().__init__(text)
        self.series = series


def read_planes(path: Path) -> list[Plane]:
    """The planes of a file, in the order of its frames; none of a file that is no DICOM, or an index of others.

    Of a file without pixels, of one that holds no place for each of its frames, and of a segmentation, one plane.

    Raises:
        DamagedError: it is DICOM and cannot be read, or says something impossible; without the file's name.
    """
    try:
        with open_file(path) as file:
            head = file.read(HEAD_BYTES)
            if not looks_like_dicom(head):
                return []
            file.seek(0)
            return _planes(path, file, has_preamble(head))
    except DamagedError:
        raise
    except Exception as error:  # over damaged bytes libraries raise almost anything
        log.debug("%s", path, exc_info=True)
        raise DamagedError(
            f"cannot be read ({reason(error)}); must be a whole DICOM file: it is damaged, copy or export it again"
        ) from error


def read_object(path: Path, whole: bool = False) -> tuple[Any, list[Plane]]:
    """The header of a segmentation or structure set, and the planes of its frames, one a frame that states its place.

    Args:
        whole: with the pixels.

    Raises:
        DamagedError: it cannot be read; without the file's name.
    """
    try:
        with open_file(path) as file:
            header = pydicom().dcmread(file, stop_before_pixels=not whole, force=True)
            return header, list(_frames(path, header, _text(header, "SOPClassUID"), _rest(file) if not whole else None, of_segments=True))
    except DataError as error:
        raise DamagedError(str(error)) from error
    except Exception as error:  # as above
        log.debug("%s", path, exc_info=True)
        raise DamagedError(
            f"cannot be read ({reason(error)}); must be a whole DICOM file: it is damaged, copy or export it again"
        ) from error


def reason(error: Exception) -> str:
    """An exception's text on one short line."""
    return (" ".join(str(error).split()) or type(error).__name__)[:_LONGEST_REASON]


def _planes(path: Path, file: BinaryIO, sure: bool) -> list[Plane]:
    header = pydicom().dcmread(file, stop_before_pixels=True, force=True)
    kind = _text(header, "SOPClassUID") or str(header.file_meta.get("MediaStorageSOPClassUID", "") or "")
    if kind == _DIRECTORY:
        return []
    if not kind and not (_text(header, "Modality") and header.get("Rows")):
        if sure:
            raise DamagedError("is DICOM, and does not say of what kind (no SOP Class UID); it is damaged: copy or export it again")
        return []
    try:
        _check_kind(header, kind)
        return list(_frames(path, header, kind, _rest(file)))
    except DataError as error:
        raise DamagedError(str(error), _text(header, "SeriesInstanceUID")) from error


def _check_kind(header: Any, kind: str) -> None:
    """Refuse what says to be a picture and has no size, and kinds of the standard that it does not know."""
    name = pydicom().uid.UID(kind).name
    if "Image Storage" in name and not (header.get("Rows") and header.get("Columns")):
        raise DataError("is a picture by its kind, and its header ends before its size; it is cut short: copy or export it again")
    unknown = name == kind and (kind.startswith(_STANDARD) or not _text(header, "Modality"))
    if unknown and not header.get("Rows"):
        raise DataError(f"says to be of a kind that there is not ({kind}); it is damaged: copy or export it again")


def _rest(file: BinaryIO) -> int | None:
    """Bytes that follow the header; None in an archive, which would have to be unpacked for it."""
    if not isinstance(file, io.BufferedReader):
        return None
    return os.fstat(file.fileno()).st_size - file.tell()


def _frames(path: Path, header: Any, kind: str, rest: int | None, of_segments: bool = False) -> Iterator[Plane]:
    shared = _first(header, "SharedFunctionalGroupsSequence")
    each = header.get("PerFrameFunctionalGroupsSequence") or []
    frames = _whole(header, "NumberOfFrames") or 1
    if not 1 <= frames <= _MOST_FRAMES:
        raise DataError(f"its header counts {frames} frames; must be 1 to {_MOST_FRAMES}: it is damaged, export it again")
    fixed = _fixed(path, header, kind, frames)
    fixed["cut"] = _cut(fixed, rest)
    if not len(each) or not fixed["rows"] or (_text(header, "Modality") == "SEG" and not of_segments):
        yield Plane(**fixed, **_place(header, header, header, header), **_contrast(header, header), frame=0, enhanced=False)
        return
    if len(each) != frames:
        raise DataError(f"has {frames} frames and states the place of {len(each)}; it is damaged: export it again")
    for number, own in enumerate(each):
        groups = _Groups(header, shared, own)
        fixed["image_type"] = groups.image_type() or fixed["image_type"]
        place = _place(
            *(groups["PlanePositionSequence"], groups["PlaneOrientationSequence"], groups["PixelMeasuresSequence"]),
            groups["PixelValueTransformationSequence"],
        )
        yield Plane(**fixed, **place, **groups.contrast(), frame=number, enhanced=True)


def _fixed(path: Path, header: Any, kind: str, frames: int) -> dict[str, Any]:
    """What all frames of a file share."""
    allocated = _whole(header, "BitsAllocated") or 0
    stored = _whole(header, "BitsStored") or allocated
    return {
        "path": path,
        "frames": frames,
        "study": _text(header, "StudyInstanceUID"),
        "series": _text(header, "SeriesInstanceUID"),
        "instance": _text(header, "SOPInstanceUID"),
        "frame_of_reference": _text(header, "FrameOfReferenceUID"),
        "number": _whole(header, "SeriesNumber"),
        "description": _text(header, "SeriesDescription"),
        "patient": _text(header, "PatientName"),
        "person": _text(header, "PatientID"),
        "born": _text(header, "PatientBirthDate"),
        "modality": _text(header, "Modality").upper(),
        "sop_class": kind,
        "image_type": _words(header, "ImageType"),
        "rows": _whole(header, "Rows") or 0,
        "columns": _whole(header, "Columns") or 0,
        "samples": _whole(header, "SamplesPerPixel") or 1,
        "photometric": _text(header, "PhotometricInterpretation").upper() or "MONOCHROME2",
        "bits_allocated": allocated,
        "bits_stored": stored,
        "high_bit": stored - 1 if (high := _whole(header, "HighBit")) is None else high,
        "signed": _whole(header, "PixelRepresentation") == 1,
        "syntax": _syntax(header),
        "padding": _padding(header),
        "overlay": any((group, _OVERLAY_BIT) in header and header[group, _OVERLAY_BIT].value for group in _OVERLAYS),
        "table": bool(header.get("ModalityLUTSequence")),
        "acquisition": _whole(header, "AcquisitionNumber"),
    }


def _cut(fixed: dict[str, Any], rest: int | None) -> int:
    """Bytes that are missing at the end of a file whose pixels are not compressed."""
    if rest is None or fixed["syntax"] not in _PLAIN:
        return 0
    bits = fixed["rows"] * fixed["columns"] * fixed["samples"] * fixed["frames"] * fixed["bits_allocated"]
    element = 8 if fixed["syntax"] == _IMPLICIT else 12  # tag, representation and length of the pixels (PS3.5 7.1)
    return max(0, int(-(-bits // 8)) + element - rest)


def _syntax(header: Any) -> str:
    """The file's transfer syntax; of a file without meta information how its header turned out to be written (PS3.10 7.1)."""
    stated = header.file_meta.get("TransferSyntaxUID")
    if stated:
        return str(stated)
    implicit, little = header.original_encoding
    return "1.2.840.10008.1.2" if implicit else "1.2.840.10008.1.2.1" if little else "1.2.840.10008.1.2.2"


def _place(position: Any, orientation: Any, measures: Any, values: Any) -> dict[str, Any]:
    """What differs from frame to frame, from the items that state it."""
    point, decimals = _position(position)
    slope = _number(values, "RescaleSlope")
    return {
        "position": point,
        "decimals": decimals,
        "orientation": _numbers(orientation, "ImageOrientationPatient", 6),
        "spacing": _numbers(measures, "PixelSpacing", 2),
        "thickness": _number(measures, "SliceThickness"),
        "slope": 1.0 if slope is None else slope,
        "intercept": _number(values, "RescaleIntercept") or 0.0,
        "units": _text(values, "RescaleType") or _text(values, "Units"),
    }


def _contrast(header: Any, source: Any) -> dict[str, Any]:
    """What tells pictures of one place apart, of a file with one frame."""
    temporal = _whole(source, "TemporalPositionIdentifier")
    return {
        "echo": _number(source, "EchoTime"),
        "b_value": b_value(header),
        "temporal": temporal,
        "stack": "",
        "others": (*(_number(source, name) for name in _OTHERS), *gradient(header)),
    }


class _Groups:
    """The functional groups of one frame: its own, else those that all share (PS3.3 C.7.6.16.1)."""

    def __init__(self, header: Any, shared: Any, own: Any) -> None:
        self._header, self._shared, self._own = header, shared, own

    def __getitem__(self, name: str) -> Any:
        """The first item of a group; empty where neither states it."""
        found = _first(self._own, name)
        return found if len(found) else _first(self._shared, name)

    def image_type(self) -> tuple[str, ...]:
        """[Frame Type], which is exact where the file's own image type says MIXED."""
        return next((words for name in _FRAME_TYPES if (words := _words(self[name], "FrameType"))), ())

    def contrast(self) -> dict[str, Any]:
        """As `_contrast`."""
        content, diffusion = self["FrameContentSequence"], self["MRDiffusionSequence"]
        temporal = _whole(content, "TemporalPositionIndex")
        delay = _number(self["CardiacSynchronizationSequence"], "NominalCardiacTriggerDelayTime")
        inversion = _number(self["MRModifierSequence"], "InversionTimes")
        flip = _number(self["MRTimingAndRelatedParametersSequence"], "FlipAngle")
        echo = _number(self["MREchoSequence"], "EffectiveEchoTime")
        return {
            "echo": _number(self._header, "EchoTime") if echo is None else echo,
            "b_value": b_value(diffusion),
            "temporal": temporal,
            "stack": _text(content, "StackID"),
            "others": (delay, inversion, flip, *gradient(diffusion)),
        }


def _position(item: Any) -> tuple[tuple[float, ...] | None, int]:
    """A place, and with how many digits after the point it is stated."""
    point = _numbers(item, "ImagePositionPatient", 3)
    if point is None:
        return None, 0
    return point, max(_decimals(value) for value in item.get("ImagePositionPatient"))


def _decimals(value: Any) -> int:
    text = str(getattr(value, "original_string", value)).strip().lower()
    return _MANY_DECIMALS if "e" in text else len(text.partition(".")[2])


def _first(item: Any, name: str) -> Any:
    """The first item of a sequence, an empty data set where there is none."""
    sequence = item.get(name)
    return sequence[0] if sequence else pydicom().Dataset()


def _padding(header: Any) -> tuple[int, int] | None:
    value = header.get("PixelPaddingValue")
    if not isinstance(value, int):
        return None
    limit = header.get("PixelPaddingRangeLimit")
    other = limit if isinstance(limit, int) else value
    return min(value, other), max(value, other)


def _text(item: Any, name: str) -> str:
    value = item.get(name)
    return "" if value is None else " ".join(str(value).replace("\0", " ").split())


def _words(item: Any, name: str) -> tuple[str, ...]:
    value = item.get(name)
    if value is None:
        return ()
    values = [value] if isinstance(value, str) else list(value)
    return tuple(str(word).strip().upper() for word in values)


def _whole(item: Any, name: str) -> int | None:
    value = _number(item, name)
    if value is not None and value != int(value):
        raise DataError(f"its {name} is {value:g}; must be a whole number: it is damaged, export it again")
    return None if value is None else int(value)


def _number(item: Any, name: str) -> float | None:
    """One number; the first of several."""
    value = item.get(name)
    if value is None or isinstance(value, str):
        return None if not value else _finite(value, name)
    if hasattr(value, "__len__"):
        return _finite(value[0], name) if len(value) else None
    return _finite(value, name)


def _numbers(item: Any, name: str, count: int) -> tuple[float, ...] | None:
    """Exactly `count` numbers; None where the attribute is absent or empty."""
    value = item.get(name)
    if value is None or isinstance(value, str) or not hasattr(value, "__len__"):
        if value in (None, ""):
            return None
        raise DataError(f"its {name} is {value!r}; must be {count} numbers: it is damaged, export it again")
    if not len(value):
        return None
    if len(value) != count:
        raise DataError(f"its {name} has {len(value)} numbers; must be {count}: it is damaged, export it again")
    return tuple(_finite(one, name) for one in value)


def _finite(value: Any, name: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise DataError(f"its {name} is {str(value)[:30]!r}; must be a number: it is damaged, export it again") from error
    if not math.isfinite(number):
        raise DataError(f"its {name} is {number}; must be finite: it is damaged, export it again")
    return number
