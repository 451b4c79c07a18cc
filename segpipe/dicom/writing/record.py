"""What all results of a scan share: whose they are, who made them and when, and how an object becomes the bytes of a file."""

from __future__ import annotations

import hashlib
import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from segpipe import __version__
from segpipe.dicom.library import pydicom, quiet
from segpipe.dicom.terms import SegmentLabel
from segpipe.dicom.writing.patient import UNICODE, adopt
from segpipe.dicom.writing.remarks import headline, remarks
from segpipe.dicom.writing.source import Source
from segpipe.dicom.writing.uids import uid_of
from segpipe.dicom.writing.wanted import Kind, Wanted
from segpipe.errors import DataError

log = logging.getLogger(__name__)

MAKER = "segpipe"
_EXPLICIT = "1.2.840.10008.1.2.1"
_LONGEST_WORD = 64
_DIGITS = 16


@dataclass(frozen=True)
class Maker:
    """The model that has made a label map, and what it warned of.

    Attributes:
        task: name of the task.
        sha256: of the model file, of several joined by `+`.
        options: what else the label map depends on.
        warnings: what was repaired in the scan, and how it or its volumes are unlike those of the training, one phrase each.
    """

    task: str
    sha256: str
    options: str = ""
    warnings: tuple[str, ...] = ()

    @property
    def version(self) -> str:
        """The beginning of the model's hash, 16 digits; of an ensemble how many, and the beginning of a hash of all."""
        each = self.sha256.split("+")
        if len(each) == 1:
            return self.sha256[:_DIGITS] or __version__
        return f"{len(each)} models {hashlib.sha256(self.sha256.encode()).hexdigest()[:_DIGITS]}"


@dataclass(frozen=True, eq=False)
class Record:
    """What the objects of one scan are made from.

    Attributes:
        labels: of the label map, without the background; segment number n is `labels[n - 1]`.
        key: of the content, see `uids.content_key`.
        when: date and time of the objects.
        picture: hash of the pixels that the overview shows; empty where none is wanted.
    """

    source: Source
    labels: tuple[SegmentLabel, ...]
    wanted: Wanted
    maker: Maker
    key: str
    when: datetime
    picture: str = ""

    def uid(self, *words: str) -> str:
        """The UID of something of these results."""
        return uid_of(MAKER, self.key, *words)

    def instance(self, kind: Kind) -> str:
        """The SOP Instance UID of an object; only that of the overview depends on pixels, which no other one holds."""
        return self.uid(kind, "instance", *([self.picture] if kind == "sc" else []))

    def series(self, kind: Kind) -> dict[str, Any]:
        """What highdicom asks of every object."""
        return {
            "series_instance_uid": self.uid(kind, "series"),
            "series_number": self.wanted.series_number(kind, self.source.first.number),
            "sop_instance_uid": self.instance(kind),
            "instance_number": 1,
            "manufacturer": MAKER,
            "manufacturer_model_name": self.model_name,
            "software_versions": __version__,
            "device_serial_number": self.maker.version,
            "series_description": self.wanted.describe(kind, self.maker.task, headline(self.maker.warnings)),
            "content_date": self.when.date(),
            "content_time": self.when.time(),
            "specific_character_set": UNICODE,
        }

    @property
    def model_name(self) -> str:
        """Of the algorithm."""
        return short_text(f"{MAKER} {self.maker.task}")

    def remarks(self, most: int) -> str:
        """See `remarks.remarks`."""
        return remarks(self.maker.warnings, most)

    def finish(self, ds: Any) -> bytes:
        """Give an object its patient, study and dates; the bytes of its file.

        Raises:
            DataError: a value of the source's header cannot be written.
        """
        adopt(ds, self.source.patient)
        ds.SpecificCharacterSet = UNICODE
        ds.InstanceCreationDate, ds.InstanceCreationTime = day(self.when), clock(self.when)
        ds.SeriesDate, ds.SeriesTime = day(self.when), clock(self.when)
        for item in ds.get("ContributingEquipmentSequence", []):  # highdicom names itself
            item.ContributionDateTime = day(self.when) + clock(self.when)
        if "TimezoneOffsetFromUTC" in ds:
            del ds.TimezoneOffsetFromUTC  # of the source's clock; ours may differ
        return encoded(ds)


def short_text(text: str) -> str:
    """A text as a Long String holds it (PS3.5 6.2)."""
    return " ".join(text.replace("\\", "/").split())[:_LONGEST_WORD]


def day(when: datetime) -> str:
    return f"{when:%Y%m%d}"


def clock(when: datetime) -> str:
    return f"{when:%H%M%S}"


def encoded(ds: Any) -> bytes:
    """The bytes of a file of PS3.10.

    Raises:
        DataError: a value cannot be written.
    """
    meta = pydicom().dataset.FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = ds.SOPClassUID, ds.SOPInstanceUID
    known = getattr(ds, "file_meta", None)
    meta.TransferSyntaxUID = known.TransferSyntaxUID if known is not None else pydicom().uid.UID(_EXPLICIT)
    meta.ImplementationClassUID = uid_of(MAKER, "implementation")
    meta.ImplementationVersionName = f"SEGPIPE_{__version__}"[:16]
    ds.file_meta, ds.preamble = meta, bytes(128)
    out = io.BytesIO()
    with plain_faults("be written"), quiet():
        pydicom().dcmwrite(out, ds, enforce_file_format=True)
    return out.getvalue()


@contextmanager
def plain_faults(what: str) -> Iterator[None]:
    """What the libraries have to say becomes one line, without their words: these may quote a patient's name.

    Raises:
        DataError: with the kind of the fault alone.
    """
    try:
        yield
    except (DataError, MemoryError):
        raise
    except Exception as error:
        log.debug("%s", what, exc_info=True)
        kind = type(error).__name__
        raise DataError(
            f"its DICOM results cannot {what} ({kind}); a value of its header must be wrong: repair it, or leave DICOM out of --format"
        ) from error
